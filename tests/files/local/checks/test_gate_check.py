"""A rule that breaks one of the points fails that point; the page's example fails none."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.vocabulary import Decision
from spinney.core.champions.user_rule import Comparison, UserRule
from spinney.core.recipes.recipe import UserRuleTerms
from spinney.local.checks import fleet_checks
from spinney.local.checks.gate_check import POINTS, RuleCase, failed_rule_points
from spinney.testing import decide_by_gate, gate_points

PAGE = (Path(__file__).parents[4] / "docs" / "gate.md").read_text(encoding="utf-8")
COUNTER = itertools.count()


def failed(rule: Callable[[Comparison], Any]) -> list[str]:
    case = RuleCase(UserRule("m:r", rule), UserRuleTerms("m:r", 30, 0.05))
    return [failure.point for failure in failed_rule_points(case)]


def test_the_built_in_rule_as_a_users_own_meets_every_point() -> None:
    assert failed(lambda found: (found.built_in_promotes, found.built_in_reason)) == []


@pytest.mark.parametrize(
    ("rule", "points"),
    [
        (lambda _: (True, "always"), ["much worse is refused"]),
        (lambda _: (False, "never"), ["much better is promoted"]),
        (lambda found: (found.built_in_promotes, f"number {next(COUNTER)}"), ["the same losses, the same answer"]),
        (lambda found: (found.built_in_promotes, ""), list(POINTS)),
        (
            lambda found: (sum(found.challenger_losses.tolist()) / sum(found.champion_losses.tolist()) < 1, "ratio"),
            ["an answer for any losses", "the same losses, the same answer"],  # a champion without loss
        ),
    ],
)
def test_a_rule_that_breaks_a_point_fails_it(rule: Callable[[Comparison], Any], points: list[str]) -> None:
    assert failed(rule) == points


def test_rules_for_a_gain_by_an_absolute_tolerance_or_by_the_newest_rows_are_allowed() -> None:
    def mean(losses: Any) -> float:
        return float(sum(losses.tolist()) / len(losses))

    assert failed(lambda found: (mean(found.challenger_losses) < 0.9 * mean(found.champion_losses), "a gain")) == []
    assert failed(lambda found: (mean(found.challenger_losses) <= mean(found.champion_losses) + 0.2, "0.2")) == []
    newest = slice(-10, None)
    assert failed(lambda f: (mean(f.challenger_losses[newest]) < mean(f.champion_losses[newest]), "newest")) == []


@pytest.fixture
def example(configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (source,) = re.findall(r'```python\n("""my_gates.py""".*?)```', PAGE, re.DOTALL)
    (settings,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "my_gates.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield configured(("[kafka]", f"{settings}[kafka]"))
    sys.modules.pop("my_gates", None)


def test_the_example_of_the_page_does_all_that_is_asked_in_check_and_in_tests(example) -> None:
    points = gate_points(example)
    assert [str(point) for point in points] == list(POINTS)
    for point in points:
        point()
    (result,) = fleet_checks.gate_rule(example)
    assert (result.state, result.text) == ("ok", '"my_gates:better_on_most_rows" meets all 4 requirements')


def test_the_example_decides_by_the_share_of_rows(example, configured) -> None:
    champion = [1.0] * 40
    challenger = [0.9] * 24 + [5.0] * 16  # better on 60 % of the rows; its mean is 2.54
    promoted = decide_by_gate(example, challenger, champion)
    assert promoted.decision is Decision.PROMOTED
    assert promoted.reason.startswith("my_gates:better_on_most_rows: better on 60 % of the rows; not_worse: refused, ")
    assert decide_by_gate(example, [0.9] * 20 + [1.0] * 20, champion).decision is Decision.REFUSED
    assert decide_by_gate(example, [0.9], [1.0]).decision is Decision.UNPROVEN
    assert decide_by_gate(configured(), challenger, champion).decision is Decision.REFUSED  # not_worse


def test_a_point_says_what_is_wrong(example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("my_gates"), "better_on_most_rows", lambda _: (True, "always"))
    (hopeless,) = [point for point in gate_points(example) if point.name == "much worse is refused"]
    with pytest.raises(AssertionError, match=r'gate\.rule "my_gates:better_on_most_rows": .*10 times the loss'):
        hopeless()
    (result,) = fleet_checks.gate_rule(example)
    assert (result.state, "much worse is refused" in result.text) == ("finding", True)


def test_the_built_in_rule_is_not_checked_and_a_missing_module_is_a_finding(configured) -> None:
    assert (gate_points(configured()), fleet_checks.gate_rule(configured())) == ((), [])
    (result,) = fleet_checks.gate_rule(configured(("[kafka]", '[gate]\nrule = "no_such_rules:rule"\n[kafka]')))
    assert result.state == "finding"
    assert "expected a module `no_such_rules`; got none of that name" in result.text
