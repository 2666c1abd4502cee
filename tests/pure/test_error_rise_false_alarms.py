"""`error_rise` on simulated fleets: few false alarms, and the groups that change are found. Other rules fail in one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from harness.error_fleets import SCENARIOS, Fleet, problems, simulate
from harness.error_rules import EachRow, Never, SequentialTest

PATIENCE = 365.0
GROUPS = 1_000
"""Of which 20 change on the 60th of 120 days: 322 group-years without a change, 355 false alarms allowed."""


def fleet(scenario: str) -> Fleet:
    return Fleet(GROUPS, 120, SCENARIOS[scenario], changed_share=0.02, seed=3)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_false_alarms_are_bounded_and_changed_groups_found_whatever_the_errors(scenario: str) -> None:
    outcome = simulate(fleet(scenario), SequentialTest(GROUPS, PATIENCE))
    assert problems(outcome, PATIENCE) == []
    assert outcome.false_alarms > 0, "a rule that never fires would show nothing"


def test_a_rule_that_never_fires_finds_no_changed_group() -> None:
    (problem,) = problems(simulate(fleet("normal"), Never()), PATIENCE)
    assert problem == "0% of the changed groups found within 300 rows; needed are 50 %"


def test_a_test_of_each_row_at_five_percent_has_too_many_false_alarms() -> None:
    (problem,) = problems(simulate(fleet("normal"), EachRow(GROUPS)), PATIENCE)
    assert "false alarms per group-year; allowed are 1.1" in problem
