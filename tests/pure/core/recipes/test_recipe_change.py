from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from recipes import RIDGE

from spinney.core.recipes.recipe import Feature, Recipe, user_code_digest
from spinney.core.recipes.recipe_change import describe_change, refit_obstacle

DAYS = timedelta(days=3)
TODAY = replace(
    RIDGE,
    features=(Feature("x", "double"), Feature("z", "double")),
    versions=(("numpy", "2.1"), ("scikit-learn", "1.9")),
)


@pytest.mark.parametrize(
    ("earlier", "words"),
    [
        (replace(TODAY, estimator="constant", params=()), "constant → ridge"),
        (replace(TODAY, params=()), "alpha none → 1.0"),
        (replace(TODAY, features=TODAY.features[:1], min_rows=9), "with z, min_rows 9 → 5"),
        (replace(TODAY, features=TODAY.features[::-1]), "order or types of features"),
        (replace(TODAY, window_rows=50, weight_half_life=DAYS), "window_rows 50 → 2000, weight_half_life 3d → none"),
        (replace(TODAY, pooling_rows=5.0), "pooling_rows 5.0 → none"),
        (replace(TODAY, ladder=(("store",), ())), "the parents that groups are pooled with"),
        (replace(TODAY, versions=(("numpy", "2.1"), ("scikit-learn", "1.8"))), "scikit-learn 1.8 → 1.9"),
        (TODAY, "Spinney's own fitting"),
    ],
)  # fmt: skip
def test_a_change_is_reported_by_both_values(earlier: Recipe, words: str) -> None:
    assert set(describe_change(earlier, TODAY).split(", ")) == set(words.split(", "))


@pytest.mark.parametrize(
    ("earlier", "why"),
    [
        (replace(TODAY, estimator="constant", params=()), None),
        (replace(TODAY, features=TODAY.features[:1]), None),
        (replace(TODAY, window_rows=100, window=timedelta(days=9), min_rows=50), None),
        (replace(TODAY, versions=(("numpy", "1.0"),)), None),
        (replace(TODAY, features=(Feature("w", "double"),)), "it was fitted on w, no longer among fleet.features"),
        (
            replace(TODAY, features=(Feature("x", "string"),)),
            "it was fitted on x, no longer among fleet.features",
        ),
        (replace(TODAY, window_rows=3000), "its window_rows was 3000, and with 2000 its older rows are not read"),
        (
            replace(TODAY, window=timedelta(days=91)),
            "its window was 91d, and with 90d its older rows are not read",
        ),
        (replace(TODAY, pooling_rows=5.0), "it was pooled with a parent's model, which is not fitted again"),
        (replace(TODAY, estimator="nowhere_at_all:forest"),
         "the code of nowhere_at_all:forest cannot be imported any more"),
    ],
)  # fmt: skip
def test_a_recipe_can_be_fitted_again_where_columns_rows_and_code_are_there(earlier: Recipe, why: str | None) -> None:
    assert refit_obstacle(earlier, TODAY) == why


def test_code_that_was_edited_is_another_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "change_shop.py").write_text("def forest(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = replace(TODAY, estimator="change_shop:forest", params=(), source=user_code_digest("change_shop:forest", {}))
    assert refit_obstacle(mine, TODAY) is None
    assert refit_obstacle(replace(mine, source="5f" * 32), TODAY) == "the code of change_shop:forest was changed since"
    assert describe_change(replace(mine, source="5f" * 32), mine) == "the code of change_shop:forest"
