"""The state of a group from the last word of each kind, by hand."""

from __future__ import annotations

import pytest

from spinney.core.reporting.status import Last, State, state

ANSWERED = {"champion_id": "m1"}


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        # Nothing was ever said of it.
        (Last(), State.NONE),
        (Last(ancestor_answers=True), State.PARENT),
        # A model of its own, and no policy wants another.
        (Last(**ANSWERED), State.FRESH),
        (Last(**ANSWERED, verdict="fresh", outcome="promoted"), State.FRESH),
        *((Last(**ANSWERED, outcome=each), State.FRESH) for each in ("promoted", "unproven", "kept", "withdrawn")),
        # Found stale since: its round has not decided, or it is put off.
        (Last(**ANSWERED, verdict="fit", outcome="promoted"), State.STALE),
        (Last(**ANSWERED, verdict="deferred", outcome="promoted"), State.STALE),
        (Last(**ANSWERED, verdict="fit"), State.STALE),
        # The challenger lost, and until there is new evidence it is left alone.
        (Last(**ANSWERED, outcome="refused"), State.REFUSED),
        (Last(**ANSWERED, verdict="refused", outcome="refused"), State.REFUSED),
        (Last(**ANSWERED, verdict="refused", outcome="promoted"), State.REFUSED),
        (Last(**ANSWERED, verdict="fresh", outcome="refused"), State.FRESH),
        (Last(**ANSWERED, verdict="fit", outcome="refused"), State.STALE),
        # A person's pin.
        (Last(**ANSWERED, pinned=True, outcome="pinned"), State.HELD),
        (Last(**ANSWERED, pinned=True, verdict="fit", outcome="kept"), State.HELD),
        (Last(**ANSWERED, verdict="held", outcome="promoted"), State.FRESH),
        # A failure says more than who answers meanwhile, and than what was said of it since.
        (Last(outcome="failed"), State.FAILED),
        (Last(**ANSWERED, verdict="deferred", outcome="timed_out"), State.FAILED),
        (Last(**ANSWERED, verdict="refused", outcome="failed"), State.FAILED),
        # Too few rows is the normal case of a thin group, and settles the verdict of its round.
        (Last(ancestor_answers=True, outcome="too_few_rows"), State.PARENT),
        (Last(verdict="fit", outcome="too_few_rows"), State.NONE),
        (Last(**ANSWERED, outcome="too_few_rows"), State.FRESH),
        (Last(**ANSWERED, verdict="fit", outcome="too_few_rows"), State.STALE),
    ],
)
def test_a_group_is_in_exactly_one_state(last: Last, expected: State) -> None:
    assert state(last) is expected
