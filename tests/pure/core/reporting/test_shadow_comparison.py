from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spinney.core.reporting.shadow_comparison import compare_with_shadow

START = datetime(2024, 5, 1, tzinfo=UTC)


def attempt(
    group: str, at: int, mine: float | None, shadow: dict[str, Any] | None, recipe: str = "r"
) -> dict[str, Any]:
    metrics = {"challenger_loss": mine, "heldout_rows": 8, **({"shadow": shadow} if shadow else {})}
    fitted_at = START + timedelta(hours=at)
    return {
        "group_key": group,
        "model_id": f"{group}-{at}",
        "recipe_id": recipe,
        "metrics": json.dumps(metrics),
        "fitted_at": fitted_at,
    }


def shadow(loss: float, rows: int, recipe: str = "s") -> dict[str, Any]:
    return {"estimator": "constant", "recipe_id": recipe, "loss": loss, "rows": rows}


BROKEN = {"estimator": "constant", "recipe_id": "s", "error": "ValueError: no"}


def test_a_group_counts_once_by_its_mean_over_the_rows_of_its_attempts() -> None:
    (pair,) = compare_with_shadow(
        [
            # Group a: (2·10 + 5·20) / 30 = 4 against (1·10 + 4·20) / 30 = 3: one less.
            attempt("a", 1, 2.0, shadow(1.0, 10)),
            attempt("a", 2, 5.0, shadow(4.0, 20)),
            # Groups b and c: three more, and one less.
            attempt("b", 3, 1.0, shadow(4.0, 5)),
            attempt("c", 1, 3.0, shadow(2.0, 5)),
            attempt("d", 1, 3.0, None),
        ]
    )
    assert (pair.groups, pair.rows, pair.wins, pair.failed, pair.error) == (3, 40, 2, 0, None)
    assert pair.recipe_loss == pytest.approx(8 / 3)
    assert pair.shadow_loss == pytest.approx(9 / 3)
    assert pair.difference == pytest.approx(1 / 3)
    # Of -1, 3, -1: the variance is (16 + 64 + 16) / 9 / 2 = 16/3, over three groups 16/9.
    assert pair.standard_error == pytest.approx(4 / 3)
    assert pair.last_at == START + timedelta(hours=3)


def test_the_same_fit_of_stream_and_batch_counts_once() -> None:
    both = [attempt("a", 1, 2.0, shadow(1.0, 10)), attempt("a", 1, 2.0, shadow(1.0, 10))]
    (pair,) = compare_with_shadow(both)
    assert (pair.rows, pair.groups, pair.standard_error) == (10, 1, None)


def test_a_group_without_an_answer_has_failed_and_one_with_some_is_compared_on_those() -> None:
    (pair,) = compare_with_shadow(
        [attempt("a", 1, 2.0, shadow(1.0, 10)), attempt("a", 2, 2.0, BROKEN), attempt("b", 1, 2.0, BROKEN)]
    )
    assert (pair.groups, pair.rows, pair.failed, pair.error) == (1, 10, 1, "ValueError: no")


def test_a_shadow_that_never_answered_has_no_losses() -> None:
    (pair,) = compare_with_shadow([attempt("a", 1, 2.0, BROKEN)])
    assert (pair.groups, pair.rows, pair.wins, pair.failed) == (0, 0, 0, 1)
    assert (pair.recipe_loss, pair.shadow_loss, pair.difference, pair.standard_error) == (None, None, None, None)


def test_each_two_recipes_are_compared_by_themselves_the_newest_first() -> None:
    old, new = shadow(1.0, 10), shadow(1.0, 10, "t")
    found = compare_with_shadow([attempt("a", 3, 2.0, new), attempt("a", 1, 2.0, old), attempt("b", 2, 2.0, old, "q")])
    assert [(pair.recipe_id, pair.shadow_recipe_id) for pair in found] == [("r", "t"), ("q", "s"), ("r", "s")]
    assert compare_with_shadow([attempt("a", 1, 2.0, None)]) == []
