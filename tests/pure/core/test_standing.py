"""The state of a group from the last word of each kind, by hand."""

from __future__ import annotations

import pytest

from spinney.core.standing import Last, State, state

ANSWERED = {"champion_id": "m1"}


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        # Nothing was ever said of it.
        (Last(), State.NONE),
        (Last(ancestor_answers=True), State.PARENT),
        # A model of its own, and no policy wants another.
        (Last(**ANSWERED), State.FRESH),
        (Last(**ANSWERED, verdict="fresh"), State.FRESH),
        (Last(**ANSWERED, verdict="fit", verdict_round="r1", decision="promoted", decision_round="r1"), State.FRESH),
        (Last(**ANSWERED, verdict="fit", verdict_round="r1", decision="unproven", decision_round="r1"), State.FRESH),
        (Last(**ANSWERED, verdict="fit", verdict_round="r1", decision="kept", decision_round="r1"), State.FRESH),
        # Found stale: its round has not decided, or it is put off.
        (Last(**ANSWERED, verdict="fit", verdict_round="r2", decision="promoted", decision_round="r1"), State.STALE),
        (
            Last(**ANSWERED, verdict="deferred", verdict_round="r2", decision="promoted", decision_round="r1"),
            State.STALE,
        ),
        # The challenger lost, and until there is new evidence it is left alone.
        (Last(**ANSWERED, verdict="fit", verdict_round="r1", decision="refused", decision_round="r1"), State.REFUSED),
        (
            Last(**ANSWERED, verdict="refused", verdict_round="r2", decision="refused", decision_round="r1"),
            State.REFUSED,
        ),
        (Last(**ANSWERED, verdict="fresh", verdict_round="r2", decision="refused", decision_round="r1"), State.FRESH),
        (Last(**ANSWERED, verdict="fit", verdict_round="r2", decision="refused", decision_round="r1"), State.STALE),
        # A person's pin.
        (Last(**ANSWERED, pinned=True, decision="pinned"), State.HELD),
        (Last(**ANSWERED, pinned=True, verdict="fit", verdict_round="r2", decision="kept"), State.HELD),
        (Last(**ANSWERED, verdict="held", decision="promoted"), State.FRESH),
        # A failure says more than who answers meanwhile.
        (Last(status="failed"), State.FAILED),
        (Last(**ANSWERED, status="timed_out", verdict="deferred"), State.FAILED),
        # Too few rows is the normal case of a thin group.
        (Last(status="too_few_rows", ancestor_answers=True), State.PARENT),
        (Last(status="too_few_rows", verdict="fit"), State.NONE),
        (Last(**ANSWERED, status="too_few_rows", verdict="fresh"), State.FRESH),
    ],
)
def test_a_group_is_in_exactly_one_state(last: Last, expected: State) -> None:
    assert state(last) is expected
