from __future__ import annotations

from datetime import UTC, datetime, timedelta

from spinney.core.reporting.round_progress import RoundProgress

BEGAN = datetime(2024, 5, 1, tzinfo=UTC)


def test_the_time_left_is_that_of_the_other_groups_at_the_pace_so_far() -> None:
    now = BEGAN + timedelta(seconds=30)
    assert RoundProgress.measured("batch-7", BEGAN, 100, 25, now).seconds_left == 90
    assert RoundProgress.measured("batch-7", BEGAN, 100, 0, now).seconds_left is None
    assert RoundProgress.measured("batch-7", BEGAN, 100, 104, now) == RoundProgress("batch-7", BEGAN, 100, 100, 0)
