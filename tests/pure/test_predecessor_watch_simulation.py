"""False withdrawals and the power of the watch, by the benchmark's simulation with fewer groups and a fixed seed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from harness.error_fleets import SCENARIOS
from predecessor_watch import WatchedFleet, simulate_watch


@pytest.mark.parametrize("name", ["normal", "autocorrelated", "Student t3"])
def test_equal_champions_are_withdrawn_at_most_once_per_patience_and_all_worse_ones_are_found(
    name: str,
) -> None:
    found = simulate_watch(WatchedFleet(2_000, 180, SCENARIOS[name], every=14))
    assert found.false <= 1.0  # a year of patience
    assert found.found == 1.0
    assert found.median_rows <= 120


def test_a_shorter_patience_allows_more_withdrawals() -> None:
    short = simulate_watch(WatchedFleet(2_000, 90, SCENARIOS["normal"], every=1, patience=100.0))
    long = simulate_watch(WatchedFleet(2_000, 90, SCENARIOS["normal"], every=1, patience=10_000.0))
    assert long.false < short.false <= 3.65
