from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import Decision
from spinney.core.champions.gate import UncomparedPolicy, decide, is_shown_worse
from spinney.core.champions.held_out_evidence import format_confidence
from spinney.core.errors import ContractError


@dataclass(frozen=True)
class Gate:
    rule: str = "not_worse"
    evidence: int = 30
    margin: float = 0.05
    jump: float = 10.0
    jump_hold: timedelta = timedelta(days=14)


def metrics(
    rows: int, mine: float | None, theirs: float | None = None, champion_id: str | None = None
) -> dict[str, object]:
    """Losses without a paired difference, as an earlier version stored them."""
    return {"heldout_rows": rows, "challenger_loss": mine, "champion_loss": theirs, "champion_id": champion_id}


def paired(
    rows: int, mine: float, theirs: float, error: float | None, difference: float | None = None
) -> dict[str, Any]:
    """Losses with the standard error of their difference. difference: None: that of the means."""
    found = mine - theirs if difference is None else difference
    return metrics(rows, mine, theirs, "c") | {"champion_difference": found, "champion_difference_se": error}


def first(rows: int, mine: float, constant: float, error: float) -> dict[str, Any]:
    """Losses of a group's first model and of a constant."""
    found = {"constant_loss": constant, "constant_difference": mine - constant, "constant_difference_se": error}
    return metrics(rows, mine) | found


@pytest.mark.parametrize(
    ("numbers", "decision", "reason"),
    [
        (metrics(0, None), Decision.UNPROVEN, "first model on thin evidence: no held-out rows, 30 needed"),
        (
            first(30, 1.0, 2.0, 1 / 1.703),  # the quantile of t with 27 degrees of freedom
            Decision.PROMOTED,
            "first model: loss 1 against a constant's 2 on 30 rows (50 % lower; better with 95 % confidence)",
        ),
        (
            first(30, 2.0, 2.0, 0.0),  # the model is a constant itself
            Decision.PROMOTED,
            "first model: loss 2 against a constant's 2 on 30 rows (equal)",
        ),
        (
            first(30, 2.0 + 1e-15, 2.0, 1e-16),  # the same constant, computed in another way
            Decision.PROMOTED,
            "first model: loss 2 against a constant's 2 on 30 rows (equal)",
        ),
        (
            first(30, 2.02, 2.0, 0.02 / 0.531),
            Decision.REFUSED,
            (
                "first model, worse than a constant: loss 2.02 against a constant's 2 on 30 rows (1 % higher; "
                "worse with 70 % confidence)"
            ),
        ),
        (
            first(29, 2.02, 2.0, 0.02 / 0.531),
            Decision.UNPROVEN,
            (
                "first model on thin evidence, 30 rows needed: loss 2.02 against a constant's 2 on 29 rows "
                "(1 % higher; worse with 70 % confidence)"
            ),
        ),
        (
            first(7, 9.0, 2.0, 1.0),
            Decision.REFUSED,
            (
                "first model, worse than a constant: loss 9 against a constant's 2 on 7 rows (4.5 times as high; worse "
                "with over 99 % confidence)"
            ),
        ),
        (
            metrics(30, 1.05, 1.0, "c"),
            Decision.PROMOTED,
            "worse within the margin: loss 1.05 against the champion's 1 on 30 rows (5 % higher)",
        ),
        (
            metrics(30, 1.06, 1.0, "c"),
            Decision.REFUSED,
            "worse: loss 1.06 against the champion's 1 on 30 rows (6 % higher)",
        ),
        (
            metrics(29, 9.0, 1.0, "c"),
            Decision.UNPROVEN,
            "thin evidence, 30 rows needed: loss 9 against the champion's 1 on 29 rows (9.0 times as high)",
        ),
        (
            metrics(0, None, None, "c"),
            Decision.UNPROVEN,
            "thin evidence: no rows compared with the champion, 30 needed",
        ),
        (
            metrics(30, 0.0, 0.0, "c"),
            Decision.PROMOTED,
            "no difference shown: loss 0 against the champion's 0 on 30 rows",
        ),
        # Quantiles of Student's t with 31 degrees of freedom, 34 rows less one at each end: 1.3095, 1.6955, 2.0395.
        (
            paired(34, 7.1, 8.0, 0.9 / 1.696),
            Decision.PROMOTED,
            "better: loss 7.1 against the champion's 8 on 34 rows (11 % lower; better with 95 % confidence)",
        ),
        (
            paired(34, 8.9, 8.0, 0.9 / 2.04),
            Decision.REFUSED,
            (
                "worse: loss 8.9 against the champion's 8 on 34 rows (11 % higher; worse with 98 % confidence); "
                "at most 5 % worse with 13 % confidence, 60 % needed"
            ),
        ),
        (
            paired(34, 8.2, 8.0, 0.2 / 1.31),
            Decision.PROMOTED,
            (
                "worse within the margin: loss 8.2 against the champion's 8 on 34 rows (2.5 % higher; worse with 90 % "
                "confidence); at most 5 % worse with 90 % confidence"
            ),
        ),
        (
            paired(34, 7.9, 8.0, 0.4, difference=0.1),
            Decision.PROMOTED,
            (
                "no difference shown: loss 7.9 against the champion's 8 on 34 rows (1.2 % lower; worse with 60 % "
                "confidence without the most extreme rows); at most 5 % worse with 77 % confidence"
            ),
        ),
        (
            paired(34, 8.0, 8.0, 0.0),
            Decision.PROMOTED,
            (
                "no difference shown: loss 8 against the champion's 8 on 34 rows (equal); at most 5 % worse with over "
                "99 % confidence"
            ),
        ),
        (
            paired(6, 8.2, 8.0, 0.1),
            Decision.UNPROVEN,
            (
                "thin evidence, 30 rows needed: loss 8.2 against the champion's 8 on 6 rows (2.5 % higher; worse with "
                "95 % confidence)"
            ),
        ),
        (
            paired(7, 24.0, 8.0, 1.0),
            Decision.REFUSED,
            "worse: loss 24 against the champion's 8 on 7 rows (3.0 times as high; worse with over 99 % confidence)",
        ),
        # The quantile of t with 6 degrees of freedom for 99 % is 3.143: 9.4 is 1 above the margin.
        (
            paired(7, 9.4, 8.0, 1 / 3.2),
            Decision.REFUSED,
            "worse: loss 9.4 against the champion's 8 on 7 rows (18 % higher; worse with over 99 % confidence)",
        ),
        (
            paired(7, 9.4, 8.0, 1 / 3.08),
            Decision.UNPROVEN,
            (
                "thin evidence, 30 rows needed: loss 9.4 against the champion's 8 on 7 rows (18 % higher; worse with "
                "over 99 % confidence)"
            ),
        ),
        (
            paired(6, 24.0, 8.0, 0.001),
            Decision.UNPROVEN,
            (
                "thin evidence, 30 rows needed: loss 24 against the champion's 8 on 6 rows (3.0 times as high; worse "
                "with over 99 % confidence)"
            ),
        ),
    ],
)
def test_a_decision_says_why(numbers: dict[str, object], decision: Decision, reason: str) -> None:
    assert decide(numbers, Gate()) == (decision, reason, False)


LOSS = st.floats(0, 1e6)


@given(st.integers(30, 1000), LOSS, LOSS, st.floats(0, 1))
def test_without_a_standard_error_it_is_promoted_exactly_when_within_the_margin(
    rows: int, mine: float, theirs: float, margin: float
) -> None:
    decision, *_ = decide(metrics(rows, mine, theirs, "c"), Gate(margin=margin))
    assert decision == (Decision.PROMOTED if mine <= theirs * (1 + margin + 1e-9) else Decision.REFUSED)


@given(st.integers(0, 29), LOSS, LOSS | st.just(math.nan) | st.none(), st.none() | st.just("c"))
def test_thin_evidence_without_a_standard_error_never_refuses(
    rows: int, mine: float, theirs: float | None, champion: str | None
) -> None:
    assert decide(metrics(rows, mine, theirs, champion), Gate())[0] is Decision.UNPROVEN


@given(st.integers(5, 100), LOSS, LOSS, LOSS, st.none() | st.floats(1e-3, 1e6))
def test_a_smaller_loss_is_never_worse_off(
    rows: int, one: float, other: float, theirs: float, error: float | None
) -> None:
    better, worse = sorted((one, other))
    if decide(paired(rows, worse, theirs, error), Gate())[0] is not Decision.REFUSED:
        assert decide(paired(rows, better, theirs, error), Gate())[0] is not Decision.REFUSED


@given(LOSS, st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_of_challengers_that_measure_the_same_within_the_margin_the_one_measured_more_precisely_passes(
    theirs: float, error: float, other: float
) -> None:
    """A tie goes to the challenger, which has seen newer data, only where the rows can tell that it is one."""
    precise, vague = sorted((error, other))
    if decide(paired(40, theirs, theirs, vague), Gate())[0] is Decision.PROMOTED:
        assert decide(paired(40, theirs, theirs, precise), Gate())[0] is Decision.PROMOTED


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_a_loss_that_is_no_number_proves_nothing(bad: float | None) -> None:
    assert decide(metrics(100, bad, 1.0, "c"), Gate())[0] is Decision.UNPROVEN
    assert decide(metrics(100, 1.0, bad, "c"), Gate())[0] is Decision.UNPROVEN
    assert decide(metrics(100, bad), Gate())[0] is Decision.UNPROVEN


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ContractError, match='expected "not_worse" or "module:name"; got \'always\''):
        decide(metrics(1, 1.0), Gate(rule="always"))


RIDGE = {"estimator": "ridge", "recipe_id": "0123456789abcdef"}
THEIRS = "the champion's recipe (ridge 01234567) fitted on the same older rows, 1"


@pytest.mark.parametrize(
    ("rows", "mine", "decision", "reason"),
    [
        (6, 2.0, Decision.REFUSED, f"worse: loss 2 against {THEIRS} on 6 rows (2.0 times as high)"),
        (
            6,
            1.05,
            Decision.UNPROVEN,
            f"thin evidence, 30 rows needed: loss 1.05 against {THEIRS} on 6 rows (5 % higher)",
        ),
        (30, 0.9, Decision.PROMOTED, f"no difference shown: loss 0.9 against {THEIRS} on 30 rows (10 % lower)"),
    ],
)
def test_another_recipe_on_the_same_rows_is_refused_on_thin_evidence_too_if_it_is_worse(
    rows: int, mine: float, decision: Decision, reason: str
) -> None:
    assert decide(metrics(rows, mine, 1.0, "c") | {"changed_from": RIDGE["recipe_id"], "refitted": RIDGE}, Gate()) == (
        decision,
        reason,
        False,
    )


@pytest.mark.parametrize(
    ("rows", "mine", "decision", "reason"),
    [
        (
            1,
            2.0,
            Decision.REFUSED,
            "worse: loss 2 against the champion's (another recipe) 1 on 1 row (2.0 times as high)",
        ),
        (
            1,
            1.05,
            Decision.UNPROVEN,
            "thin evidence, 30 rows needed: loss 1.05 against the champion's (another recipe) 1 on 1 row (5 % higher)",
        ),
        (0, None, Decision.UNPROVEN, "thin evidence: no rows compared with the champion, 30 needed"),
    ],
)
def test_another_recipe_is_refused_by_few_newer_rows_too_if_it_is_worse_and_never_without_a_row(
    rows: int, mine: float | None, decision: Decision, reason: str
) -> None:
    theirs = None if mine is None else 1.0
    assert decide(metrics(rows, mine, theirs, "c") | {"changed_from": "ab"}, Gate())[:2] == (decision, reason)


@pytest.mark.parametrize("refit_failed", [False, True])
@pytest.mark.parametrize("uncompared", list(UncomparedPolicy))
def test_another_recipe_is_promoted_without_a_comparison_only_where_that_was_foreseen_or_asked_for(
    refit_failed: bool, uncompared: UncomparedPolicy
) -> None:
    changed = {"changed_from": "ab", "uncompared": {"why": "no row is newer", "refit_failed": refit_failed}}
    passes = uncompared is UncomparedPolicy.ALL or (uncompared is UncomparedPolicy.FORESEEN and not refit_failed)
    decision, reason, _ = decide(metrics(0, None, None, "c") | changed, Gate(), uncompared)
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


JUMPING = paired(34, 7.1, 8.0, 0.9 / 1.696) | {"jump": 12.5}


def test_a_challenger_whose_predictions_jump_is_held_and_the_reason_says_how_to_release_it() -> None:
    assert decide(JUMPING, Gate()) == (
        Decision.HELD,
        (
            "jump: its predictions are 12.5 spreads of the champion's residuals from the champion's, 10 allowed "
            "(gate.jump). Check the newest labels; `spinney promote` with this model releases it. If they are right, a "
            "later challenger that is better passes after 14d of holds (gate.jump_hold). Without the jump: "
            "promoted, better: loss 7.1 against the champion's 8 on 34 rows (11 % lower; better with 95 % confidence)"
        ),
        True,
    )


@pytest.mark.parametrize("jump", [12.5, math.inf])
def test_a_jump_up_to_the_limit_is_allowed(jump: float) -> None:
    decision, _, about_jump = decide(JUMPING, Gate(jump=jump))
    assert (decision, about_jump) == (Decision.PROMOTED, False)


def test_a_challenger_of_few_rows_is_held_by_a_jump_too() -> None:
    assert decide(paired(3, 7.0, 8.0, 1.0) | {"jump": 11.0}, Gate())[0] is Decision.HELD


def test_a_worse_challenger_is_refused_and_not_held_by_its_jump() -> None:
    decision, _, about_jump = decide(paired(34, 16.0, 8.0, 0.1) | {"jump": 11.0}, Gate())
    assert (decision, about_jump) == (Decision.REFUSED, False)


@pytest.mark.parametrize(
    ("days", "decision"), [(13.9, Decision.HELD), (14, Decision.PROMOTED), (20, Decision.PROMOTED)]
)
def test_a_jump_passes_once_challengers_were_held_for_long_enough(days: float, decision: Decision) -> None:
    found, _, about_jump = decide(JUMPING, Gate(), held_for=timedelta(days=days))
    assert (found, about_jump) == (decision, True)


def test_a_jump_that_has_lasted_is_part_of_the_reason() -> None:
    assert decide(JUMPING, Gate(), held_for=timedelta(days=15, hours=6))[1] == (
        "better: loss 7.1 against the champion's 8 on 34 rows (11 % lower; better with 95 % confidence). The jump has "
        "lasted: its predictions are 12.5 spreads of the champion's residuals from the champion's, 10 allowed; "
        "the first challenger was held 15 days 6 hours ago"
    )


def test_a_jump_that_has_lasted_passes_only_if_the_challenger_is_shown_to_be_better() -> None:
    # 4 % lower: within the margin, so that it would be promoted without a jump; t of 31 degrees at 0.4: 65 %.
    about_equal = paired(34, 7.7, 8.0, 0.75) | {"jump": 12.5}
    assert decide(about_equal | {"jump": None}, Gate())[0] is Decision.PROMOTED
    assert decide(about_equal, Gate(), held_for=timedelta(days=100))[0] is Decision.HELD
    worse = paired(34, 16.0, 8.0, 0.1) | {"jump": 12.5}
    assert decide(worse, Gate(), held_for=timedelta(days=100))[0] is Decision.REFUSED


def test_a_jump_that_has_lasted_passes_as_unproven_on_few_rows() -> None:
    # t of one degree of freedom at 10: 96.8 %; at 2: 85 %, which shows nothing.
    assert decide(paired(2, 1.0, 11.0, 1.0) | {"jump": 50.0}, Gate(), held_for=timedelta(14))[0] is Decision.UNPROVEN
    assert decide(paired(2, 1.0, 3.0, 1.0) | {"jump": 50.0}, Gate(), held_for=timedelta(14))[0] is Decision.HELD


def test_a_challenger_is_shown_worse_by_a_clear_difference_only() -> None:
    assert is_shown_worse(paired(40, 9.0, 8.0, 0.1))
    assert not is_shown_worse(paired(40, 9.0, 8.0, 2.0))
    assert not is_shown_worse(paired(40, 8.0, 9.0, 0.1))


def beside_parent(rows: int, mine: float, theirs: float, error: float | None = 0.5) -> dict[str, Any]:
    """A first model that beats a constant, and what its parent's model shows."""
    found = {"challenger_loss": mine, "loss": theirs, "difference": mine - theirs, "difference_se": error}
    return first(30, 1.0, 2.0, 0.1) | {"parent": {"model_id": "p", "group_key": "{}", "rows": rows, **found}}


@pytest.mark.parametrize(
    ("rows", "mine", "theirs", "decision", "words"),
    [
        (30, 1.9, 2.0, Decision.PROMOTED, "first model: loss 1.9 against that of parent {}, 2 on 30 rows (5 % lower"),
        (30, 2.1, 2.0, Decision.REFUSED, "first model, worse than its parent's: loss 2.1 against that of parent {}, 2"),
        (4, 1.9, 2.0, Decision.UNPROVEN, "first model on thin evidence, 30 rows needed: loss 1.9 against"),
        (4, 2.001, 2.0, Decision.REFUSED, "first model, worse than its parent's: loss"),
        (1, 2.0, 2.0, Decision.UNPROVEN, "first model on thin evidence, 30 rows needed: loss 2 against"),
    ],
)
def test_a_first_model_has_to_beat_its_parents_on_few_rows_too(
    rows: int, mine: float, theirs: float, decision: Decision, words: str
) -> None:
    found, reason, _ = decide(beside_parent(rows, mine, theirs, None if rows == 1 else 0.5), Gate())
    assert (found, reason[: len(words)]) == (decision, words)


def test_a_first_model_that_beats_its_parents_may_be_worse_than_a_constant() -> None:
    worse_than_constant = first(30, 3.0, 2.0, 0.1)
    compared = worse_than_constant | {"parent": beside_parent(30, 3.0, 4.0)["parent"]}
    assert decide(worse_than_constant, Gate())[0] is Decision.REFUSED
    assert decide(compared, Gate())[0] is Decision.PROMOTED


def test_without_rows_newer_than_the_parents_model_a_constant_has_to_be_beaten() -> None:
    unseen = {"parent": {"model_id": "p", "group_key": "{}", "rows": 0, "error": "nothing newer"}}
    assert decide(first(30, 3.0, 2.0, 0.1) | unseen, Gate())[0] is Decision.REFUSED
    assert decide(first(30, 1.0, 2.0, 0.1) | unseen, Gate())[0] is Decision.PROMOTED


def test_a_model_pooled_by_estimated_weights_is_not_compared_with_a_constant_which_would_not_answer() -> None:
    parent = {"model_id": "p", "group_key": "{}", "rows": 0, "error": "nothing newer", "pooling": "estimated"}
    found, reason, _ = decide(first(30, 3.0, 2.0, 0.1) | {"parent": parent}, Gate())
    assert (found, "pooled with the model of parent {}, no row is newer" in reason) == (Decision.UNPROVEN, True)
    worse = beside_parent(4, 2.1, 2.0)
    worse["parent"]["pooling"] = "estimated"
    assert decide(worse, Gate())[0] is Decision.REFUSED, "rows that neither has seen decide"


@pytest.mark.parametrize("rows", [10, 30])
def test_the_last_parent_answers_though_a_constant_is_better(rows: int) -> None:
    decision, reason, _ = decide(first(rows, 3.0, 2.0, 0.01), Gate(), is_last_rung=True)
    assert decision is Decision.UNPROVEN
    assert reason.startswith("first model, worse than a constant, but no other model can answer: loss 3 against")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0099, "under 1 %"), (0.01, "1 %"), (0.015, "2 %"), (0.5, "50 %"), (0.99, "99 %"), (0.991, "over 99 %")],
)
def test_confidences_are_whole_percentages_except_at_the_ends(share: float, text: str) -> None:
    assert format_confidence(share) == text
