"""The state of a group from the last word of each kind, by hand."""

from __future__ import annotations

import pytest

from spinney.core.reporting.group_status import LatestRecords, State, derive_state

ANSWERED = {"champion_id": "m1"}


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        # Nothing was ever said of it.
        (LatestRecords(), State.NONE),
        (LatestRecords(ancestor_answers=True), State.PARENT),
        # A model of its own, and no policy wants another.
        (LatestRecords(**ANSWERED), State.FRESH),
        (LatestRecords(**ANSWERED, verdict="fresh", outcome="promoted"), State.FRESH),
        *(
            (LatestRecords(**ANSWERED, outcome=each), State.FRESH)
            for each in ("promoted", "unproven", "kept", "withdrawn")
        ),
        # Found stale since: its round has not decided, or it is put off.
        (LatestRecords(**ANSWERED, verdict="fit", outcome="promoted"), State.STALE),
        (LatestRecords(**ANSWERED, verdict="deferred", outcome="promoted"), State.STALE),
        (LatestRecords(**ANSWERED, verdict="fit"), State.STALE),
        # The challenger lost, and until there is new evidence it is left alone.
        (LatestRecords(**ANSWERED, outcome="refused"), State.REFUSED),
        (LatestRecords(**ANSWERED, verdict="refused", outcome="refused"), State.REFUSED),
        (LatestRecords(**ANSWERED, verdict="refused", outcome="promoted"), State.REFUSED),
        (LatestRecords(**ANSWERED, verdict="fresh", outcome="refused"), State.FRESH),
        (LatestRecords(**ANSWERED, verdict="fit", outcome="refused"), State.STALE),
        # A person's pin.
        (LatestRecords(**ANSWERED, pinned=True, outcome="pinned"), State.HELD),
        (LatestRecords(**ANSWERED, pinned=True, verdict="fit", outcome="kept"), State.HELD),
        (LatestRecords(**ANSWERED, verdict="held", outcome="promoted"), State.FRESH),
        # The gate held its challenger, which waits for a person or for the next attempt.
        (LatestRecords(**ANSWERED, outcome="held"), State.HELD),
        (LatestRecords(**ANSWERED, verdict="fresh", outcome="held"), State.HELD),
        (LatestRecords(**ANSWERED, verdict="fit", outcome="held"), State.STALE),
        # A failure says more than who answers meanwhile, and than what was said of it since.
        (LatestRecords(outcome="failed"), State.FAILED),
        (LatestRecords(**ANSWERED, verdict="deferred", outcome="timed_out"), State.FAILED),
        (LatestRecords(**ANSWERED, verdict="refused", outcome="failed"), State.FAILED),
        # Too few rows is the normal case of a thin group, and settles the verdict of its round.
        (LatestRecords(ancestor_answers=True, outcome="too_few_rows"), State.PARENT),
        (LatestRecords(verdict="fit", outcome="too_few_rows"), State.NONE),
        (LatestRecords(**ANSWERED, outcome="too_few_rows"), State.FRESH),
        (LatestRecords(**ANSWERED, verdict="fit", outcome="too_few_rows"), State.STALE),
    ],
)
def test_a_group_is_in_exactly_one_state(last: LatestRecords, expected: State) -> None:
    assert derive_state(last) is expected
