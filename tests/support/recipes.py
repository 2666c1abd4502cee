"""Recipes for tests: change them with `dataclasses.replace`."""

from __future__ import annotations

from dataclasses import replace
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

VERSIONED = replace(
    RIDGE,
    features=(Feature("x", "double"), Feature("s", "string")),
    min_rows=20,
    versions=(("numpy", "2.4.6"), ("scikit-learn", "1.9.1")),
)
"""With a text among its features, and the versions of libraries, so that its name is the same everywhere."""
