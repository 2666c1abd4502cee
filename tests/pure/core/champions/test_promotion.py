from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import Decision
from spinney.core.champions.champion_selection import KEPT_CANDIDATES, condense, is_pinned, select_champion
from spinney.core.champions.promotion import Promotion


def row(
    model_id: str, decision: str = "promoted", *, epoch: int = 0, through: int = 1, at: int = 1, by: str = ""
) -> Promotion:
    return Promotion(epoch, model_id, decision, trained_through=through, fitted_at=at, decided_at=at, round_id=by)


def answers(*rows: Promotion) -> str | None:
    found = select_champion(rows)
    return found.model_id if found else None


def test_nobody_answers_for_a_group_without_promotions() -> None:
    assert select_champion([]) is None
    assert condense([]) == ()
    assert not is_pinned([])


@pytest.mark.parametrize("decision", list(Decision))
@pytest.mark.parametrize("by", ["", "people-1"])
def test_a_promotion_alone_is_selected_as_beside_a_decision_that_is_only_recorded(decision: Decision, by: str) -> None:
    alone, recorded = row("a", decision, epoch=2, by=by), row("b", "kept")
    for unusable in ((), ("a",)):
        assert select_champion([alone], unusable) == select_champion([alone, recorded], unusable)
    assert answers(alone) == ("a" if decision in {"promoted", "unproven", "pinned"} else None)


def test_the_model_that_saw_the_newest_data_answers() -> None:
    assert answers(row("new", through=20, at=1), row("old", through=10, at=99)) == "new"


def test_of_the_same_data_the_later_fit_answers() -> None:
    assert answers(row("a", through=10, at=2), row("b", through=10, at=1)) == "a"


def test_of_the_same_data_and_time_the_greater_name_answers() -> None:
    assert answers(row("a"), row("b")) == "b"


def test_an_unproven_model_answers_like_a_promoted_one() -> None:
    assert answers(row("proven", through=1), row("unproven", "unproven", through=2)) == "unproven"


@pytest.mark.parametrize("decision", [Decision.REFUSED, Decision.KEPT, Decision.HELD])
def test_what_was_not_promoted_never_answers(decision: Decision) -> None:
    assert answers(row("a", decision, through=9)) is None
    assert answers(row("a", decision, through=9), row("b", through=1)) == "b"


def test_a_withdrawn_model_makes_room_for_the_one_before() -> None:
    assert answers(row("a", through=1), row("b", through=2), row("b", "withdrawn", through=2)) == "a"


def test_a_withdrawn_model_does_not_come_back_by_being_promoted_again() -> None:
    assert answers(row("a", "withdrawn", at=1), row("a", at=9)) is None


def test_a_greater_epoch_rules_whatever_the_data() -> None:
    assert answers(row("old", epoch=1, through=1), row("new", epoch=0, through=99)) == "old"


def test_in_a_later_epoch_only_a_person_brings_back_what_was_withdrawn() -> None:
    withdrawn = row("a", "withdrawn", epoch=1, by="people-0")
    assert answers(withdrawn, row("a", epoch=2, by="batch-3")) is None
    assert answers(withdrawn, row("a", epoch=2, by="people-1")) == "a"
    assert answers(withdrawn, row("a", epoch=1, by="people-0")) is None


def test_a_refusal_in_a_greater_epoch_does_not_take_the_answer_away() -> None:
    assert answers(row("a", epoch=0), row("b", "refused", epoch=1)) == "a"


def test_a_pin_is_not_overridden_by_newer_promotions_of_machines() -> None:
    rows = [row("a", "pinned", through=1, at=1), row("b", through=99, at=99)]
    assert answers(*rows) == "a"
    assert is_pinned(rows)


def test_the_later_of_two_pins_rules() -> None:
    assert answers(row("a", "pinned", through=9, at=1), row("b", "pinned", through=1, at=2)) == "b"


def test_a_pin_ends_with_its_epoch() -> None:
    rows = [row("a", "pinned", epoch=0), row("b", epoch=1)]
    assert answers(*rows) == "b"
    assert not is_pinned(rows)


def test_the_model_before_answers_for_one_that_does_not_verify() -> None:
    rows = [row("a", through=1), row("b", through=2), row("p", "pinned", at=3)]
    assert select_champion(rows, unusable={"p"}) == rows[1]
    assert select_champion(rows, unusable={"p", "b"}) == rows[0]
    assert select_champion(rows, unusable={"a", "b", "p"}) is None


def test_an_ended_epoch_does_not_come_back_when_no_model_of_the_new_one_verifies() -> None:
    assert select_champion([row("old", epoch=0), row("new", epoch=1)], unusable={"new"}) is None


def test_condensing_keeps_a_few_candidates_and_the_pin() -> None:
    rows = [row(f"m{i}", through=i) for i in range(10)] + [row("p", "pinned"), row("m3", "refused")]
    kept = condense(rows)
    assert {each.model_id for each in kept} == {"m9", "m8", "m7", "p"}
    assert KEPT_CANDIDATES == 3


def test_condensing_keeps_a_withdrawal_that_comes_before_its_promotion() -> None:
    known = condense([row(f"m{i}", through=i) for i in range(5)] + [row("late", "withdrawn", through=0, at=0)])
    assert answers(*condense([*known, row("late", through=99)])) == "m4"


def test_condensing_keeps_a_withdrawal_of_data_as_old_as_the_oldest_candidate() -> None:
    known = condense([*(row(f"m{i}", through=5) for i in range(3)), row("z", "withdrawn", through=5)])
    assert answers(*condense([*known, row("z", through=5)])) == "m2"


def test_condensing_drops_the_promotion_of_a_withdrawn_model() -> None:
    rows = [*(row(f"m{i}", through=i) for i in range(5)), row("m4", "withdrawn", through=4)]
    assert [(each.model_id, each.decision) for each in condense(rows)] == [
        ("m1", "promoted"),
        ("m2", "promoted"),
        ("m3", "promoted"),
        ("m4", "withdrawn"),
    ]


def test_condensing_keeps_a_withdrawal_however_old_for_the_machine_that_fits_the_same_rows_again() -> None:
    rows = [row(f"m{i}", through=10 + i) for i in range(3)] + [row("old", "withdrawn", through=5)]
    known = condense([*condense(rows), row("before", epoch=1, through=1, by="people-0")])
    assert answers(*known, row("old", epoch=1, through=5, by="batch-1")) == "before"


def test_condensing_keeps_a_persons_row_that_a_withdrawal_still_to_come_does_not_strike() -> None:
    known = condense([row("a", epoch=2, at=1, by="people-1"), row("a", epoch=2, at=9, by="stream-7")])
    assert answers(*known, row("a", "withdrawn", epoch=1)) == "a"


def test_condensing_does_not_forget_that_an_epoch_has_ended() -> None:
    known = condense([row("a", "withdrawn", epoch=0), row("a", epoch=1, by="batch-1")])
    assert answers(*known, row("b", epoch=0)) is None


def test_a_promotion_read_twice_takes_no_place_from_another() -> None:
    again = [row("c", through=3, at=at) for at in range(5)]
    assert [each.model_id for each in condense([row("a", through=1), row("b", through=2), *again])] == ["a", "b", "c"]


def test_of_two_equal_rows_the_one_with_its_payload_is_kept() -> None:
    bare, carried = row("a"), replace(row("a"), codec="linear", payload=b"x", signature=b"s")
    assert condense([bare, carried]) == condense([carried, bare]) == (carried,)
    assert select_champion([bare, carried]) == select_champion([carried, bare]) == carried


MODELS = [f"m{i}" for i in range(7)]
ROWS = st.builds(
    row,
    st.sampled_from(MODELS),
    st.sampled_from(["promoted", "unproven", "refused", "kept", "held", "pinned"]),
    epoch=st.integers(0, 2),
    through=st.integers(1, 3),
    at=st.integers(1, 3),
    by=st.sampled_from(["stream-1", "batch-1", "people-1"]),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Promotion]:
    """Any rows, and withdrawals of fewer models than a state keeps; some do not tell what data they had seen."""
    rows = draw(st.lists(ROWS, max_size=15))
    struck = draw(st.lists(st.sampled_from(MODELS), max_size=KEPT_CANDIDATES - 1, unique=True))
    for model_id in struck:
        through = max((each.trained_through for each in rows if each.model_id == model_id), default=1)
        for epoch in draw(st.lists(st.integers(0, 2), min_size=1, max_size=2)):
            reported = draw(st.sampled_from([0, through]))
            rows.append(row(model_id, "withdrawn", epoch=epoch, through=reported, by="people-2"))
    return rows


@given(histories(), st.data())
def test_any_order_any_repetition_and_any_chunks_give_the_same_champion(
    rows: list[Promotion], data: st.DataObject
) -> None:
    reported = data.draw(st.permutations(rows + data.draw(st.lists(st.sampled_from(rows))) if rows else []))
    state: tuple[Promotion, ...] = ()
    while reported:
        size = data.draw(st.integers(1, len(reported)))
        state, reported = condense([*state, *reported[:size]]), reported[size:]
    assert select_champion(state) == select_champion(rows)
    assert is_pinned(state) == is_pinned(rows)


@given(st.lists(ROWS.filter(lambda each: each.decision != "pinned"), min_size=1), st.data())
def test_newer_data_never_loses_to_older(rows: list[Promotion], data: st.DataObject) -> None:
    before = select_champion(rows)
    more = data.draw(
        ROWS.filter(lambda each: each.decision != "pinned" and (before is None or each.revision <= before.revision))
    )
    after = select_champion([*rows, more])
    if before is not None:
        assert after is not None
        assert after.trained_through >= before.trained_through


@given(st.lists(ROWS), st.permutations(range(6)))
def test_a_machine_never_overrides_a_pin(rows: list[Promotion], order: list[int]) -> None:
    pin = row("pinned-model", "pinned", epoch=3)
    later = [row(f"new{i}", "promoted", epoch=3, through=100 + i, at=100) for i in order]
    assert select_champion([*rows, pin, *later]) == pin


def test_a_promotion_is_read_alike_from_microseconds_and_from_datetimes_to_the_last_microsecond() -> None:
    start = datetime(2024, 5, 1, tzinfo=UTC)
    for tail in range(50):
        at = start + timedelta(days=tail, microseconds=tail)
        micros = 1_714_521_600_000_000 + tail * 86_400_000_001
        row = {
            "epoch": 3,
            "model_id": "m",
            "decision": "promoted",
            "trained_through": at,
            "fitted_at": pd.Timestamp(at),
        }
        expected = Promotion(3, "m", "promoted", micros, micros, 0)
        assert Promotion.from_row({**row, "decided_at": None}) == expected
        assert Promotion.from_row({**row, "trained_through": micros, "fitted_at": float(micros)}) == expected


def test_each_way_to_say_null_is_read_as_nothing() -> None:
    nulls = {"epoch": float("nan"), "model_id": None, "trained_through": pd.NaT, "fitted_at": None, "payload": pd.NA}
    assert Promotion.from_row({"decision": "withdrawn", **nulls}) == Promotion(0, "", "withdrawn", 0, 0)
