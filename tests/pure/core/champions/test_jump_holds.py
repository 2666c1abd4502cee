from __future__ import annotations

from itertools import permutations

import pytest

from spinney.core.champions.jump_holds import PastDecision, about_jump_by_reason, bounds_of_series, held_since

REASONS = {
    "jump": "jump: its predictions are 12 spreads", "lasted": "better: loss 1 … The jump has lasted: its predictions …",
    "halted": "halted: 20 of 30 groups failed. Without the halt: promoted, better: loss 1. The jump has lasted: its …",
    "pin": "pinned by a person; without the pin: held, jump: …",
}  # fmt: skip


def past(at: int, decision: str, reason: str = "", revision: int = 0) -> PastDecision:
    """A decision at a time, as an earlier version stored it; the fleet's clock is 1,000 behind."""
    about_jump = about_jump_by_reason(decision, REASONS.get(reason, reason))
    return PastDecision(decision, at - 1_000, at, revision, about_jump)


@pytest.mark.parametrize(
    ("decisions", "since"),
    [
        ([], None),
        ([past(5_000, "promoted")], None),
        ([past(5_000, "promoted"), past(6_000, "held", "jump")], 5_000),
        ([past(6_000, "held", "jump"), past(7_000, "held", "jump"), past(8_000, "held", "jump")], 5_000),
        # Nothing was fitted in between.
        ([past(6_000, "held", "jump"), past(7_000, "kept"), past(8_000, "held", "jump")], 5_000),
        # Promoted since it has lasted: the next one may jump further.
        ([past(6_000, "held", "jump"), past(7_000, "unproven", "lasted"), past(8_000, "promoted", "lasted")], 5_000),
        ([past(6_000, "held", "jump"), past(7_000, "unproven", "lasted"), past(8_000, "promoted")], None),
        # The jump did not last: the second series counts, or none.
        ([past(6_000, "held", "jump"), past(7_000, "refused"), past(8_000, "held", "jump")], 7_000),
        ([past(6_000, "held", "jump"), past(7_000, "unproven"), past(8_000, "held", "jump")], 7_000),
        ([past(6_000, "held", "jump"), past(7_000, "refused")], None),
        # Held for another reason.
        ([past(6_000, "held", "jump"), past(7_000, "held", "pin")], None),
        ([past(6_000, "held", "halted: 20 of 30 groups failed")], None),
        # The round was halted: the challenger that the jump no longer held was not promoted because of other groups.
        ([past(6_000, "held", "jump"), past(7_000, "held", "halted"), past(8_000, "held", "jump")], 5_000),
        # The champion of the round was withdrawn: the labels are as they were.
        ([past(6_000, "held", "jump"), past(6_000, "withdrawn"), past(7_000, "held", "jump")], 5_000),
        ([past(6_000, "refused"), past(6_000, "withdrawn"), past(7_000, "held", "jump")], 6_000),
        # A person intervened; a round that was planned before that and decided later belongs to the time before.
        ([past(6_000, "held", "jump"), past(7_000, "promoted", "asked", 1), past(8_000, "held", "jump", 1)], 7_000),
        ([past(6_000, "held", "jump"), past(7_000, "withdrawn", "asked", 1), past(8_000, "held", "jump", 1)], 7_000),
        ([past(6_000, "held", "jump"), past(7_000, "pinned", "asked", 1), past(8_000, "held", "jump", 0)], None),
    ],
)
def test_holds_count_since_the_first_of_the_last_unbroken_series_in_any_order(
    decisions: list[PastDecision], since: int | None
) -> None:
    assert {held_since(order) for order in permutations(decisions)} == {since}
    assert {held_since(bounds_of_series(order)) for order in permutations(decisions)} == {since}


def test_a_series_that_ended_stays_ended_if_only_its_holds_are_forgotten_later() -> None:
    hold, end, second = past(6_000, "held", "jump"), past(7_000, "refused"), past(8_000, "held", "jump")
    assert bounds_of_series([hold, end]) == [end]
    assert bounds_of_series([hold, end, second, past(9_000, "held", "jump")]) == [end, second]


@pytest.mark.parametrize(
    ("decision", "reason", "expected"),
    [
        ("held", "jump", True),
        ("held", "halted", True),
        ("promoted", "lasted", True),
        ("unproven", "lasted", True),
        ("held", "pin", False),
        ("refused", "jump", False),
        ("withdrawn", "lasted", False),
        ("promoted", "asked", False),
        ("promoted", "", False),
    ],
)
def test_a_decision_of_an_earlier_version_is_recognised_by_its_reason(
    decision: str, reason: str, expected: bool
) -> None:
    assert about_jump_by_reason(decision, REASONS.get(reason, reason)) is expected
