"""A clock that leaps is refused before anything is written under it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spinney.core.errors import StoreError
from streaming.clock import Clock, refuse_the_past

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Time:
    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 5.0

    def pass_by(self, seconds: float, leap: float = 0.0) -> None:
        self.wall += seconds + leap
        self.steady += seconds


def clock_of(time: Time) -> Clock:
    return Clock("score", lambda: time.wall, lambda: time.steady)


def checkpoint(folder: Path, *, at: datetime, ended: bool) -> str:
    for log in ("offsets", "commits"):
        (folder / log).mkdir(parents=True)
    said = json.dumps({"batchWatermarkMs": 0, "batchTimestampMs": int(at.timestamp() * 1000), "conf": {}})
    (folder / "offsets" / "7").write_text(f'v1\n{said}\n{{"t":{{"0":3}}}}\n')
    if ended:
        (folder / "commits" / "7").write_text("v1\n{}")
    return str(folder)


def test_an_idle_day_is_no_leap() -> None:
    time = Time()
    clock = clock_of(time)
    time.pass_by(86_400)
    clock.check()


def test_a_correction_of_a_minute_is_no_leap_even_many_times() -> None:
    time = Time()
    clock = clock_of(time)
    for _ in range(30):
        time.pass_by(60, leap=60)
        clock.check()


@pytest.mark.parametrize("leap", [365 * 86_400.0, -3_600.0])
def test_a_leap_in_either_direction_is_refused_with_the_query_and_what_to_do(leap: float) -> None:
    time = Time()
    clock = clock_of(time)
    time.pass_by(5, leap=leap)
    with pytest.raises(StoreError, match=r"query score: this machine's clock leapt by .* Set the clock right"):
        clock.check()


def test_a_batch_begun_in_the_future_and_never_ended_may_be_removed(tmp_path: Path) -> None:
    location = checkpoint(tmp_path, at=NOW + timedelta(days=365), ended=False)
    with pytest.raises(StoreError, match=r"nothing of it was written: .*remove .*/offsets/7"):
        refuse_the_past("score", location, NOW)


def test_a_batch_ended_in_the_future_is_waited_for(tmp_path: Path) -> None:
    location = checkpoint(tmp_path, at=NOW + timedelta(days=365), ended=True)
    with pytest.raises(StoreError, match="or wait until then: until"):
        refuse_the_past("score", location, NOW)


def test_a_checkpoint_of_yesterday_and_none_at_all_are_fine(tmp_path: Path) -> None:
    refuse_the_past("score", checkpoint(tmp_path / "there", at=NOW - timedelta(days=1), ended=True), NOW)
    refuse_the_past("score", str(tmp_path / "nothing"), NOW)
