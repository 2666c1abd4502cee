from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import Decision
from spinney.core.champions.gate import UncomparedPolicy, decide
from spinney.core.errors import ContractError


@dataclass(frozen=True)
class Gate:
    rule: str = "not_worse"
    evidence: int = 30
    margin: float = 0.05


def metrics(
    rows: int, mine: float | None, theirs: float | None = None, champion_id: str | None = None
) -> dict[str, object]:
    return {"heldout_rows": rows, "challenger_loss": mine, "champion_loss": theirs, "champion_id": champion_id}


@pytest.mark.parametrize(
    ("numbers", "decision", "reason"),
    [
        (metrics(30, 1.0), Decision.PROMOTED, "first model: loss 1 on 30 held-out rows"),
        (metrics(29, 1.0), Decision.UNPROVEN, "first model on thin evidence: 29 of 30 held-out rows"),
        (metrics(0, None), Decision.UNPROVEN, "first model on thin evidence: 0 of 30 held-out rows"),
        (
            metrics(30, 1.05, 1.0, "c"),
            Decision.PROMOTED,
            "not worse: loss 1.05 against the champion's 1 on 30 rows, margin 5%",
        ),
        (
            metrics(30, 1.06, 1.0, "c"),
            Decision.REFUSED,
            "worse: loss 1.06 against the champion's 1 on 30 rows, margin 5%",
        ),
        (metrics(29, 9.0, 1.0, "c"), Decision.UNPROVEN, "thin evidence: 29 of 30 rows compared"),
        (
            metrics(0, None, None, "c"),
            Decision.UNPROVEN,
            "thin evidence: no rows compared with the champion, 30 needed",
        ),
        (
            metrics(30, 0.0, 0.0, "c"),
            Decision.PROMOTED,
            "not worse: loss 0 against the champion's 0 on 30 rows, margin 5%",
        ),
    ],
)
def test_a_decision_says_why(numbers: dict[str, object], decision: Decision, reason: str) -> None:
    assert decide(numbers, Gate()) == (decision, reason)


LOSS = st.floats(0, 1e6)


@given(st.integers(30, 1000), LOSS, LOSS, st.floats(0, 1))
def test_with_evidence_it_is_promoted_exactly_when_within_the_margin(
    rows: int, mine: float, theirs: float, margin: float
) -> None:
    decision, _ = decide(metrics(rows, mine, theirs, "c"), Gate(margin=margin))
    assert decision == (Decision.PROMOTED if mine <= theirs * (1 + margin) else Decision.REFUSED)


@given(st.integers(0, 29), LOSS, LOSS | st.just(math.nan) | st.none(), st.none() | st.just("c"))
def test_thin_evidence_never_refuses(rows: int, mine: float, theirs: float | None, champion: str | None) -> None:
    assert decide(metrics(rows, mine, theirs, champion), Gate())[0] is Decision.UNPROVEN


@given(st.integers(30, 100), LOSS, LOSS, LOSS)
def test_a_smaller_loss_is_never_worse_off(rows: int, one: float, other: float, theirs: float) -> None:
    better, worse = sorted((one, other))
    if decide(metrics(rows, worse, theirs, "c"), Gate())[0] is Decision.PROMOTED:
        assert decide(metrics(rows, better, theirs, "c"), Gate())[0] is Decision.PROMOTED


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_a_loss_that_is_no_number_proves_nothing(bad: float | None) -> None:
    assert decide(metrics(100, bad, 1.0, "c"), Gate())[0] is Decision.UNPROVEN
    assert decide(metrics(100, 1.0, bad, "c"), Gate())[0] is Decision.UNPROVEN
    assert decide(metrics(100, bad), Gate())[0] is Decision.UNPROVEN


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ContractError, match="expected \"not_worse\"; got 'always'"):
        decide(metrics(1, 1.0), Gate(rule="always"))


RIDGE = {"estimator": "ridge", "recipe_id": "0123456789abcdef"}
THEIRS = "the champion's recipe (ridge 01234567), both fitted on the same older rows"


@pytest.mark.parametrize(
    ("rows", "mine", "decision", "reason"),
    [
        (
            6,
            2.0,
            Decision.REFUSED,
            f"worse: loss 2 against 1 of {THEIRS}, on 6 rows, margin 5%",
        ),
        (6, 1.05, Decision.UNPROVEN, "thin evidence: 6 of 30 rows compared"),
        (
            30,
            0.9,
            Decision.PROMOTED,
            f"not worse: loss 0.9 against 1 of {THEIRS}, on 30 rows, margin 5%",
        ),
    ],
)
def test_another_recipe_on_the_same_rows_is_refused_on_thin_evidence_too_if_it_is_worse(
    rows: int, mine: float, decision: Decision, reason: str
) -> None:
    assert decide(metrics(rows, mine, 1.0, "c") | {"changed_from": RIDGE["recipe_id"], "refitted": RIDGE}, Gate()) == (
        decision,
        reason,
    )


@pytest.mark.parametrize(
    ("rows", "mine", "decision", "reason"),
    [
        (1, 2.0, Decision.REFUSED, "worse: loss 2 against the champion's 1, by another recipe, on 1 rows, margin 5%"),
        (1, 1.05, Decision.UNPROVEN, "thin evidence: 1 of 30 rows compared"),
        (0, None, Decision.UNPROVEN, "thin evidence: no rows compared with the champion, 30 needed"),
    ],
)
def test_another_recipe_is_refused_by_few_newer_rows_too_if_it_is_worse_and_never_without_a_row(
    rows: int, mine: float | None, decision: Decision, reason: str
) -> None:
    theirs = None if mine is None else 1.0
    assert decide(metrics(rows, mine, theirs, "c") | {"changed_from": "ab"}, Gate()) == (decision, reason)


@pytest.mark.parametrize("refit_failed", [False, True])
@pytest.mark.parametrize("uncompared", list(UncomparedPolicy))
def test_another_recipe_is_promoted_without_a_comparison_only_where_that_was_foreseen_or_asked_for(
    refit_failed: bool, uncompared: UncomparedPolicy
) -> None:
    changed = {"changed_from": "ab", "uncompared": {"why": "no row is newer", "refit_failed": refit_failed}}
    passes = uncompared is UncomparedPolicy.ALL or (uncompared is UncomparedPolicy.FORESEEN and not refit_failed)
    decision, reason = decide(metrics(0, None, None, "c") | changed, Gate(), uncompared)
    assert decision is (Decision.UNPROVEN if passes else Decision.REFUSED)
    assert passes or reason == (
        "not compared: the champion was fitted by another recipe, and no row is newer. `spinney retrain --unproven` "
        "promotes without evidence"
    )


@pytest.mark.parametrize("uncompared", list(UncomparedPolicy))
@pytest.mark.parametrize("changed", [{}, {"changed_from": "ab"}])
def test_first_models_and_champions_that_do_not_answer_need_no_comparison(
    changed, uncompared: UncomparedPolicy
) -> None:
    assert decide(metrics(0, None), Gate(), uncompared)[0] is Decision.UNPROVEN
    assert decide(metrics(0, None, None, "c") | changed, Gate(), uncompared)[0] is Decision.UNPROVEN
