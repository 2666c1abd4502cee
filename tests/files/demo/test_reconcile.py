from __future__ import annotations

from dataclasses import replace

import pandas as pd

from demo.reconcile import compare_sets, reconcile

A1 = '["A","1"]'


def broken(tables, ledger):
    """Names of the checks that do not hold."""
    found = reconcile(tables, ledger)
    names = [check["name"] for check in found["checks"] if not check["adds_up"]]
    assert found["adds_up"] == (not names)
    return names


def check(tables, ledger, name):
    return next(one for one in reconcile(tables, ledger)["checks"] if one["name"] == name)


def test_equal_sets_add_up(tables, ledger):
    assert broken(tables, ledger) == []


def test_a_lost_event_is_missing_by_name(tables, ledger):
    lost = replace(tables, events=tables.events.iloc[1:])
    assert broken(lost, ledger) == ["events"]
    found = check(lost, ledger, "events")
    assert (found["missing"], found["unexpected"], found["twice"]) == (1, 0, 0)
    assert found["examples"] == [f"missing {A1} 1"]


def test_an_event_stored_twice_is_no_subtraction(tables, ledger):
    # One lost and another twice: the counts are right, the sets are not.
    doubled = pd.concat([tables.events.iloc[1:], tables.events.iloc[1:2]], ignore_index=True)
    found = check(replace(tables, events=doubled), ledger, "events")
    assert len(doubled) == len(tables.events)
    assert (found["missing"], found["twice"], found["adds_up"]) == (1, 1, False)


def test_a_row_stored_twice_and_nothing_else_does_not_add_up(tables, ledger):
    doubled = pd.concat([tables.events, tables.events.iloc[:1]], ignore_index=True)
    assert broken(replace(tables, events=doubled), ledger) == ["events"]


def test_an_outcome_of_an_event_from_before_the_stream_is_unmatched_and_expected_to_be(tables, ledger):
    old = (A1, "0")
    sent = replace(ledger, loaded_events=frozenset({old}), outcomes=ledger.outcomes | {old})
    row = pd.DataFrame([old], columns=["group_key", "event_id"])
    both = replace(tables, events=pd.concat([tables.events, row]), outcomes=pd.concat([tables.outcomes, row]))
    assert broken(both, sent) == []
    assert check(both, sent, "outcomes unmatched")["expected"] == 1


def test_an_event_without_an_answer_breaks_predictions_and_the_match_of_its_outcome(tables, ledger):
    assert broken(replace(tables, predictions=tables.predictions.iloc[1:]), ledger) == [
        "predictions",
        "outcomes matched",
        "outcomes unmatched",
    ]


def test_an_outcome_of_nobody_is_unmatched_and_expected_to_be(tables, ledger):
    stray = (A1, "stray")
    sent = replace(ledger, outcomes=ledger.outcomes | {stray}, unmatched=frozenset({stray}))
    stored = pd.concat([tables.outcomes, pd.DataFrame([stray], columns=["group_key", "event_id"])], ignore_index=True)
    assert broken(replace(tables, outcomes=stored), sent) == []
    assert broken(tables, sent) == ["outcomes", "outcomes unmatched"]


def test_what_was_loaded_is_expected_in_the_table_and_not_among_the_answers(tables, ledger):
    old = ('["A","9"]', "0")
    loaded = replace(ledger, loaded_events=frozenset({old}), loaded_outcomes=frozenset({old}))
    row = pd.DataFrame([old], columns=["group_key", "event_id"])
    both = replace(tables, events=pd.concat([tables.events, row]), outcomes=pd.concat([tables.outcomes, row]))
    assert broken(both, loaded) == []


def test_a_dead_letter_with_the_wrong_reason_is_missing_and_unexpected(tables, ledger):
    letters = tables.dead_letters.assign(reason=["not_utf8", "not_json", "null_value"])
    found = check(replace(tables, dead_letters=letters), ledger, "dead letters")
    assert (found["missing"], found["unexpected"]) == (1, 1)


def test_a_round_whose_groups_do_not_add_up_is_named(tables, ledger):
    rounds = tables.rounds.assign(failed=[0, 1, 0])
    found = check(replace(tables, rounds=rounds), ledger, "rounds")
    assert found["examples"] == ["missing r1"]


def test_at_most_five_examples_are_shown():
    found = compare_sets("x", "", {(f"g{at}", "1") for at in range(9)}, [])
    assert (found.missing, len(found.examples)) == (9, 5)
