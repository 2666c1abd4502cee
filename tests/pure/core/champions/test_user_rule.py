"""A user's rule of the gate decides between a challenger and its champion; the rest of the gate stays as it is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.vocabulary import Decision
from spinney.core.champions.gate import decide
from spinney.core.champions.user_rule import Comparison, UserRule, UserRuleAnswer, load_user_rule
from spinney.core.errors import ConfigError, ContractError


@dataclass(frozen=True)
class Gate:
    rule: str = "m:r"
    evidence: int = 30
    margin: float = 0.05
    jump: float = 10.0
    jump_hold: timedelta = timedelta(days=14)


YES, NO = ({"user_rule": {"rule": "m:r", "promotes": promotes, "reason": "so"}} for promotes in (True, False))


def compared(rows: int, mine: float, theirs: float, **others: Any) -> dict[str, Any]:
    """Losses that differ by the same number on every row."""
    losses = {"heldout_rows": rows, "challenger_loss": mine, "champion_loss": theirs, "champion_id": "c"}
    return losses | {"champion_difference": mine - theirs, "champion_difference_se": 0.0} | others


@pytest.mark.parametrize(
    ("metrics", "decision", "reason"),
    [
        (
            compared(30, 2.0, 1.0, **YES),  # the built-in rule refuses it
            Decision.PROMOTED,
            "m:r: so; not_worse: refused, worse: loss 2 against the champion's 1 on 30 rows",
        ),
        (compared(30, 1.0, 2.0, **NO), Decision.REFUSED, "m:r: so; not_worse: promoted, better: loss 1 against"),
        (compared(29, 1.0, 2.0, **YES), Decision.UNPROVEN, "thin evidence, 30 rows needed: m:r: so; not_worse: unpro"),
        (compared(29, 1.0, 2.0, **NO), Decision.REFUSED, "m:r: so; not_worse: unproven, thin evidence"),
        (compared(30, 1.0, 2.0, jump=11.0, **YES), Decision.HELD, "jump: "),
        (compared(30, 1.0, 2.0, jump=11.0, **NO), Decision.REFUSED, "m:r: so"),
        (
            compared(30, 1.0, 2.0),  # the configuration named another rule when it was fitted
            Decision.REFUSED,
            "m:r was not asked when the challenger was compared, since gate.rule was another; not_worse: promoted,",
        ),
        (compared(30, 1.0, 2.0, user_rule=YES["user_rule"] | {"rule": "m:s"}), Decision.REFUSED, "m:r was not asked"),
        (compared(0, 1.0, 2.0) | {"challenger_loss": None}, Decision.UNPROVEN, "thin evidence: no rows compared"),
    ],
)  # fmt: skip
def test_the_rule_decides_where_rows_were_compared(metrics: dict[str, Any], decision: Decision, reason: str) -> None:
    found = decide(metrics, Gate())
    assert (found.decision, found.reason[: len(reason)]) == (decision, reason)


def test_first_models_are_decided_as_with_the_built_in_rule() -> None:
    losses = {"heldout_rows": 40, "challenger_loss": 1.0, "constant_loss": 2.0, "champion_id": None}
    for metrics in (losses, losses | {"challenger_loss": 3.0}):
        assert decide(metrics | NO, Gate()) == decide(metrics, Gate(rule="not_worse"))


def test_a_challenger_that_passes_the_rule_has_to_pass_against_a_better_predecessor_too() -> None:
    watched = {
        "watched_rows": 100, "watched_champion_loss": 9.0, "predecessor_loss": 5.0, "watched_difference": 4.0,
        "watched_difference_se": 0.1, "predecessor_id": "p",
        "against_predecessor": {
            "rows": 40, "challenger_loss": 8.0, "predecessor_loss": 5.0, "difference": 3.0, "difference_se": 0.1,
        },
    }  # fmt: skip
    metrics = compared(40, 8.0, 9.0, **watched, **YES)
    assert decide(metrics, Gate()).decision is Decision.PROMOTED
    assert decide(metrics, Gate(), watch_level=0.01).decision is Decision.REFUSED


def comparison(mine: tuple[float, ...] = (1.0, 4.0), theirs: tuple[float, ...] = (2.0, 3.0)) -> Comparison:
    return Comparison.of(np.array(mine), np.array(theirs), promotes=True, reason="better")


def test_a_rule_sees_the_losses_and_what_the_built_in_rule_would_do_and_changes_nothing() -> None:
    losses = np.array([1.0, 4.0])
    seen = Comparison.of(losses, losses, promotes=True, reason="better")
    assert (seen.rows, seen.built_in_promotes, seen.built_in_reason) == (2, True, "better")
    with pytest.raises(ContractError, match=r"got ValueError: .* is read-only"):
        UserRule("m:r", lambda found: found.challenger_losses.sort()).answer(seen)
    assert losses.flags.writeable  # the caller's own


@pytest.mark.parametrize("answer", [(True, "words"), [np.True_, "words"], (np.bool_(True), "words")])
def test_an_answer_is_a_boolean_and_a_reason(answer: Any) -> None:
    assert UserRule("m:r", lambda _: answer).answer(comparison()) == UserRuleAnswer(True, "words")


@pytest.mark.parametrize(
    "answer",
    [None, True, "ab", (True,), (1, "words"), (0.7, "words"), (True, None), (True, ""), (True, " "), (True, "a\nb")],
)
def test_anything_else_is_refused_by_name(answer: Any) -> None:
    expected = 'gate.rule "m:r": expected a pair of True or False and a reason on one line; got '
    with pytest.raises(ContractError) as caught:
        UserRule("m:r", lambda _: answer).answer(comparison())
    assert str(caught.value) == f"{expected}{answer!r}. `spinney check` tries it"


def test_a_long_reason_is_cut_off() -> None:
    assert len(UserRule("m:r", lambda _: (True, "x" * 1000)).answer(comparison()).reason) == 300


def test_a_rule_is_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def rule(found):\n    return found.rows == 2, 'two rows'\n\nnumber = 3\n"
    (tmp_path / "own_rules_of_a_test.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_user_rule("own_rules_of_a_test:rule").answer(comparison()) == (True, "two rows")
    with pytest.raises(ConfigError, match=r"gate\.rule: expected `number` of own_rules_of_a_test to be callable"):
        load_user_rule("own_rules_of_a_test:number")
    sys.modules.pop("own_rules_of_a_test", None)
    with pytest.raises(ConfigError, match=r"gate\.rule: expected a module `no_such_rules`; got none of that name"):
        load_user_rule("no_such_rules:rule")
