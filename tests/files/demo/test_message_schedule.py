from __future__ import annotations

import json
from collections import Counter

import pytest

from demo.example_data import build_example_data
from demo.invalid_records import record_digest
from demo.message_schedule import build_history, build_schedule


@pytest.fixture
def rows(data, scenario, config):
    return build_example_data(data, scenario, config)


@pytest.fixture
def replayed(rows, scenario, config):
    return build_schedule(rows, scenario, config)


def valid(replayed, topic):
    """Counts of (group_key, event_id) of the good records of a topic, read back from the bytes."""
    found = Counter()
    for message in replayed:
        if message.topic == topic and record_digest(message.key, message.value) not in replayed.ledger.dead:
            found[message.key.decode(), json.loads(message.value)["id"]] += 1
    return found


def test_messages_come_in_the_order_in_which_they_are_due(replayed, scenario):
    dues = [message.due for message in replayed]
    assert dues == sorted(dues)
    assert scenario.stream_start <= dues[0]
    assert dues[-1] < scenario.stream_end
    assert all(message.timestamp_ms == message.due.timestamp() * 1000 for message in replayed)


def test_events_are_sent_once_and_those_of_the_ledger_a_second_time(replayed):
    sent, ledger = valid(replayed, "machines.events"), replayed.ledger
    assert set(sent) == ledger.events
    assert len(ledger.events) == 2 * 4 * 24 + 4
    assert {one for one, times in sent.items() if times == 2} == set(ledger.event_duplicates)
    assert 0 < len(ledger.event_duplicates) < len(ledger.events) / 2
    assert sum(sent.values()) + len(ledger.dead) == ledger.event_records


def test_outcomes_are_those_known_within_the_stream_and_the_unmatched(replayed):
    sent, ledger = valid(replayed, "machines.outcomes"), replayed.ledger
    assert set(sent) == ledger.outcomes
    # Known 90 minutes after the event: the hour before the start is due in the stream, the last hour of it is not.
    assert len(ledger.outcomes) == 2 * (96 - 1) + 2 + 2
    assert len(ledger.unmatched) == 2
    assert sum(sent.values()) == ledger.outcome_records
    earlier = ledger.outcomes - ledger.events - ledger.unmatched
    assert earlier == {('["A","1"]', "A1-095"), ('["A","2"]', "A2-095")}


def test_bad_records_are_found_again_by_their_bytes(replayed):
    assert Counter(replayed.ledger.dead.values()) == {
        "not_json": 2,
        "null_value": 2,
        "out_of_range": 2,
        "wrong_type": 2,
    }
    digests = Counter(record_digest(message.key, message.value) for message in replayed)
    assert all(digests[one] == 1 for one in replayed.ledger.dead)


def test_an_event_has_no_label_and_an_outcome_has_the_changed_one(replayed, rows, scenario):
    (chosen,) = rows.injected
    number = json.loads(chosen)[1]
    for message in replayed:
        if message.topic == "machines.events" and record_digest(message.key, message.value) not in replayed.ledger.dead:
            assert set(json.loads(message.value)) == {"id", "at", "hall", "number", "load"}
        elif message.topic == "machines.outcomes" and message.key.decode() == chosen:
            outcome = json.loads(message.value)
            assert set(outcome) == {"id", "hall", "number", "heat", "observed_at"}
            if not outcome["id"].startswith("unmatched"):
                hour = int(outcome["id"].split("-")[1])
                assert outcome["heat"] == 20 + int(number) + (5 if hour >= 6 * 24 else 0)


def test_a_missing_feature_is_null_and_whole_numbers_stay_whole(replayed):
    messages = [m for m in replayed if m.key == b'["B","1"]' and m.value and b'"B1-' in m.value]
    assert messages
    assert all(json.loads(message.value)["load"] is None for message in messages)
    assert all(b'"number":1,' in message.value for message in messages)


def test_the_same_seed_makes_the_same_bytes_and_another_does_not(rows, scenario, config, replayed):
    assert build_schedule(rows, scenario, config).messages == replayed.messages
    assert build_schedule(rows, scenario.model_copy(update={"seed": 8}), config).messages != replayed.messages


def test_a_duplicate_that_would_come_after_the_end_is_neither_sent_nor_in_the_ledger(rows, scenario, config):
    often = scenario.faults.model_copy(update={"duplicates": 0.5})
    for seed in range(5):
        replayed = build_schedule(rows, scenario.model_copy(update={"faults": often, "seed": seed}), config)
        assert max(message.due for message in replayed) < scenario.stream_end
        sent = valid(replayed, "machines.outcomes")
        assert {one for one, times in sent.items() if times == 2} == set(replayed.ledger.outcome_duplicates)


def test_history_is_what_was_known_before_the_stream(rows, scenario, config, replayed):
    past = build_history(rows, scenario, config)
    assert list(past.events.columns) == ["id", "at", "hall", "number", "load"]
    assert list(past.outcomes.columns) == ["id", "hall", "number", "heat", "observed_at"]
    assert len(past.events) == 2 * 4 * 24 + 4 == len(replayed.ledger.loaded_events)
    assert (past.outcomes["observed_at"] < scenario.stream_start).all()
    assert len(past.outcomes) == len(replayed.ledger.loaded_outcomes)
    assert not replayed.ledger.loaded_outcomes & replayed.ledger.outcomes


def test_a_label_inside_the_event_has_no_outcomes(data, scenario, inside):
    rows = build_example_data(data, scenario, inside)
    replayed = build_schedule(rows, scenario, inside)
    assert {message.topic for message in replayed} == {"machines.events"}
    assert not replayed.ledger.outcomes
    assert not replayed.ledger.loaded_outcomes
    first = next(m for m in replayed if m.key == b'["A","1"]' and m.value and b'"id":"A1' in m.value)
    assert "heat" in json.loads(first.value)
    past = build_history(rows, scenario, inside)
    assert past.outcomes is None
    assert "heat" in past.events.columns
