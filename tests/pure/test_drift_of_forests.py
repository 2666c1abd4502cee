"""`drift` on simulated groups with random forests: few false alarms, although a forest is surer of rows it has seen."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from harness.drift_fleet import DriftFleet, DriftOutcome, simulate_drift

PATIENCE = timedelta(days=365)
ALLOWED = 1.1


@pytest.fixture(scope="module")
def outcomes() -> dict[str, DriftOutcome]:
    fleet = DriftFleet("random_forest", "classification", 50, 100, 7, 7, {"n_estimators": 15}, seed=4)
    return simulate_drift(fleet, PATIENCE)


def test_false_alarms_of_a_forest_are_bounded_if_predictions_for_held_out_rows_are_the_reference(outcomes) -> None:
    assert outcomes["held-out rows"].false_alarms <= ALLOWED


def test_predictions_on_training_rows_as_the_reference_have_too_many(outcomes) -> None:
    assert outcomes["training rows"].false_alarms > ALLOWED
