"""A recipe for tests of fitting: change it with `dataclasses.replace`."""

from __future__ import annotations

from datetime import timedelta

from spinney.core.recipes.recipe import Feature, Recipe

RIDGE = Recipe(
    estimator="ridge",
    params=(("alpha", "1.0"),),
    features=(Feature("x", "double"),),
    target=Feature("y", "double"),
    task="regression",
    loss="absolute",
    min_rows=5,
    window_rows=2000,
    window=timedelta(days=90),
)
