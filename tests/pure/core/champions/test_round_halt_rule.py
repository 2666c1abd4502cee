from __future__ import annotations

import pytest

from spinney.core.champions.round_halt_rule import AttemptTally


@pytest.mark.parametrize(
    ("tally", "share", "is_halted"),
    [
        (AttemptTally(20, 6, 5), 0.5, True),
        (AttemptTally(20, 5, 5), 0.5, False),  # not more than half
        (AttemptTally(19, 19, 0), 0.5, False),  # too few groups to tell
        (AttemptTally(20, 20, 0), 1.0, False),  # switched off
        (AttemptTally(20, 0, 3), 0.1, True),
    ],
)
def test_a_round_is_halted_by_more_than_the_share_of_at_least_twenty_groups(
    tally: AttemptTally, share: float, is_halted: bool
) -> None:
    assert (tally.reason_to_halt(share) is not None) == is_halted


def test_parts_that_were_decided_in_slices_are_counted_together() -> None:
    assert AttemptTally(12, 5, 2) + AttemptTally(8, 1, 3) == AttemptTally(20, 6, 5)


def test_the_reason_has_the_numbers() -> None:
    assert AttemptTally(2000, 1200, 3).reason_to_halt(0.5) == (
        "of 2,000 groups 1,200 failed and 3 got a model that is worse than their champion, together more than 50 % "
        "(gate.halt_share)"
    )


def test_tallies_of_parts_add_up_from_none() -> None:
    assert sum([AttemptTally(3, 1, 0), AttemptTally(4, 0, 2)], AttemptTally()) == AttemptTally(7, 1, 2)
