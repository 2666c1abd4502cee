"""A policy that breaks one of the points fails that point; the built-in ones and the page's example fail none."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spinney.core.staleness.policies import (
    Drift,
    ErrorRise,
    MaxAge,
    NewGroup,
    NewRows,
    NoLabels,
    Policy,
    RowDays,
    Schedule,
)
from spinney.core.staleness.policies.user_policy import UserPolicy
from spinney.local.checks import fleet_checks
from spinney.local.checks.policy_check import CLOCK, POINTS, PolicyCase, failed_policy_points, synthetic_groups
from spinney.testing import policy_points

PAGE = (Path(__file__).parents[4] / "docs" / "policies.md").read_text(encoding="utf-8")
BUILT_IN = (
    NewGroup(20),
    NoLabels(timedelta(days=7)),
    ErrorRise(timedelta(days=365)),
    NewRows(200),
    RowDays(timedelta(days=10), timedelta(days=14), 0.15),
    MaxAge(timedelta(days=7), 0.15),
    Drift(timedelta(days=365)),
    Schedule(timedelta(days=7)),
)


def failed(policy: Any, configured: tuple[Policy, ...] = BUILT_IN) -> list[str]:
    case = PolicyCase(UserPolicy("m:p", policy), configured, synthetic_groups(), 20)
    return [failure.point for failure in failed_policy_points(case)]


def count_rows(groups: Any, clock: int) -> Any:
    return groups["rows_since"] * 1.0


@dataclass(frozen=True)
class Own:
    """A policy that is right but for what a test replaces."""

    measured: Callable[[Any, int], Any] = count_rows
    reason: Any = "words"
    name: str = "own"

    def limits(self, groups: Any) -> Any:
        return np.full(len(groups), 2.0)

    def measure(self, groups: Any, clock: int) -> Any:
        return self.measured(groups, clock)

    def describe(self, value: float, limit: float) -> Any:
        return self.reason


@pytest.mark.parametrize("policy", BUILT_IN, ids=lambda policy: policy.name)
def test_the_built_in_policies_do_all_that_is_asked(policy: Policy) -> None:
    # The limit of row_days follows from the rates of all groups of the shard, which it measures together.
    assert failed(policy) == (["each group by itself"] if isinstance(policy, RowDays) else [])


def overwrite(groups: Any, clock: int) -> Any:
    groups["rows_since"][:] += 1
    return groups["rows_since"] * 1.0


@pytest.mark.parametrize(
    ("measured", "point"),
    [
        (lambda groups, clock: np.full(len(groups), np.inf), "one number a group"),
        (lambda groups, clock: np.random.default_rng().random(len(groups)), "the same input, the same answer"),
        (lambda groups, clock: groups["rows_since"] - np.sum(groups["rows_since"]), "each group by itself"),
        (lambda groups, clock: groups["rows_since"] / clock, "never less stale with age"),
        (lambda groups, clock: groups["rows_since"] * (np.nan if clock > CLOCK else 1.0), "never less stale with age"),
        (overwrite, "the same input, the same answer"),
    ],
)
def test_a_policy_that_breaks_a_point_fails_it(measured: Any, point: str) -> None:
    assert point in failed(Own(measured))


def test_a_reason_that_is_no_text_fails_and_so_does_a_policy_that_cannot_travel() -> None:
    assert failed(Own()) == []
    assert failed(Own(reason=None)) == ["a reason in words"]
    assert failed(Own(lambda groups, clock: 2.0 * groups["rows_since"])) == ["travels to workers"]


def test_policies_that_leave_a_group_without_a_model_fresh_fail() -> None:
    assert failed(Own(), configured=(NewRows(200),)) == ["a group without a model is stale"]


@pytest.fixture
def example(configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (source,) = re.findall(r'```python\n("""my_policies.py""".*?)```', PAGE, re.DOTALL)
    (settings,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "my_policies.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield configured(("[kafka]", f"{settings}[kafka]"))
    sys.modules.pop("my_policies", None)


def test_the_example_of_the_page_does_all_that_is_asked_in_check_and_in_tests(example) -> None:
    points = policy_points(example)
    assert [str(point) for point in points] == [f"worse_than_five: {name}" for name in POINTS]
    for point in points:
        point()
    (result,) = fleet_checks.policies(example)
    assert (result.state, result.text) == ("ok", '"my_policies:WorseThanFive" meets all 7 requirements')


@pytest.mark.usefixtures("example")
def test_check_says_which_policy_is_wrong(configured) -> None:
    broken = configured(("[kafka]", '[staleness]\npolicies = ["my_policies:dataclass"]\n[kafka]'))
    (result,) = fleet_checks.policies(broken)
    assert result.state == "finding"
    assert 'staleness.policies "my_policies:dataclass": expected a policy with limits, measure, describe' in result.text
