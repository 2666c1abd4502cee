"""A recipe's name for display: its estimator and the beginning of its id."""

from __future__ import annotations

from collections.abc import Mapping

SHORT = 8
"""Characters of a recipe_id that are displayed."""

IMPORTED = "imported:"
"""Prefix of the recipe_id of an imported model; the class of its estimator follows."""


def shown(recipe_id: str | None, estimators: Mapping[str, str]) -> str | None:
    """``ridge 3f9c2ab0`` or ``imported Ridge``; the short id alone if the recipe is not known; None for None.

    estimators: recipe_id -> the recipe's estimator.
    """
    if recipe_id is None:
        return None
    if recipe_id.startswith(IMPORTED):
        return f"imported {recipe_id.removeprefix(IMPORTED)}"
    estimator = estimators.get(recipe_id)
    return f"{estimator} {recipe_id[:SHORT]}" if estimator else recipe_id[:SHORT]
