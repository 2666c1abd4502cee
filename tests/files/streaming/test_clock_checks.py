"""A clock that jumps is refused before anything is written under it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from handwritten_history import fleet_toml

from spinney.core.config import Config, parse
from spinney.core.errors import StoreError
from streaming import clock_checks
from streaming.clock_checks import (
    MAX_TOLERANCE,
    ClockJumpCheck,
    clock_tolerance,
    refuse_clock_behind_checkpoint,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Time:
    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 5.0

    def pass_by(self, seconds: float, jump: float = 0.0) -> None:
        self.wall += seconds + jump
        self.steady += seconds


def clock_of(time: Time) -> ClockJumpCheck:
    return ClockJumpCheck("score", MAX_TOLERANCE, lambda: time.wall, lambda: time.steady)


def configured(duplicates_within: str, label_horizon: str = "24h") -> Config:
    kafka = {"outcomes": "sold", "duplicates_within": duplicates_within, "label_horizon": label_horizon}
    text = fleet_toml(kafka="\n".join(f'{name} = "{value}"' for name, value in kafka.items()))
    return parse(text, "fleet.toml", {})


def checkpoint(folder: Path, *, at: datetime, ended: bool) -> str:
    """A checkpoint whose newest batch is the seventh."""
    for log in ("offsets", "commits"):
        (folder / log).mkdir(parents=True)
    reported = json.dumps({"batchWatermarkMs": 0, "batchTimestampMs": int(at.timestamp() * 1000)})
    (folder / "offsets" / "7").write_text(f'v1\n{reported}\n{{"t":{{"0":3}}}}\n')
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
        time.pass_by(60, jump=60)
        clock.check()


@pytest.mark.parametrize("jump", [365 * 86_400.0, -3_600.0])
def test_a_jump_in_either_direction_is_refused_with_the_query_and_what_to_do(jump: float) -> None:
    time = Time()
    clock = clock_of(time)
    time.pass_by(5, jump=jump)
    with pytest.raises(StoreError, match=r"query score: this machine's clock jumped by .* Set the clock right, then"):
        clock.check()


def test_a_sleeping_machine_is_no_leap(monkeypatch) -> None:
    """Its monotonic clock stands still meanwhile; the one since boot does not."""
    read: list[int] = []
    monkeypatch.setattr(clock_checks.time, "clock_gettime", lambda which: read.append(which) or 5.0)
    assert clock_checks.seconds_since_boot() == 5.0
    assert read == [clock_checks.time.CLOCK_BOOTTIME]
    monkeypatch.delattr(clock_checks.time, "CLOCK_BOOTTIME")
    clock_checks.seconds_since_boot()
    assert read[1:] == [clock_checks.time.CLOCK_MONOTONIC]


@pytest.mark.parametrize(
    ("duplicates_within", "label_horizon", "tolerated"),
    [
        ("2h", "24h", timedelta(minutes=10)),
        ("5m", "24h", timedelta(seconds=75)),
        ("2h", "4m", timedelta(minutes=2)),
        ("1s", "24h", timedelta(seconds=1)),
    ],
)
def test_a_short_memory_tolerates_only_short_leaps(
    duplicates_within: str, label_horizon: str, tolerated: timedelta
) -> None:
    config = configured(duplicates_within, label_horizon)
    assert clock_tolerance(config.kafka) == tolerated


def test_a_batch_begun_in_the_future_and_never_ended_may_be_removed(tmp_path: Path) -> None:
    location = checkpoint(tmp_path, at=NOW + timedelta(days=365), ended=False)
    with pytest.raises(StoreError, match=r"nothing of it was written: .*remove .*/offsets/7"):
        refuse_clock_behind_checkpoint("score", location, NOW, MAX_TOLERANCE)


def test_a_batch_ended_in_the_future_is_waited_for(tmp_path: Path) -> None:
    location = checkpoint(tmp_path, at=NOW + timedelta(minutes=2), ended=True)
    refuse_clock_behind_checkpoint("score", location, NOW, timedelta(minutes=2))
    with pytest.raises(StoreError, match="or wait until then: until"):
        refuse_clock_behind_checkpoint("score", location, NOW, timedelta(minutes=1))


def test_a_checkpoint_of_yesterday_and_none_at_all_are_fine(tmp_path: Path) -> None:
    refuse_clock_behind_checkpoint(
        "score", checkpoint(tmp_path / "there", at=NOW - timedelta(days=1), ended=True), NOW, MAX_TOLERANCE
    )
    refuse_clock_behind_checkpoint("score", str(tmp_path / "nothing"), NOW, MAX_TOLERANCE)
