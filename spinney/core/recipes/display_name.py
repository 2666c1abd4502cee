"""A recipe's name for display: its estimator and the beginning of its id."""

from __future__ import annotations

from collections.abc import Mapping

SHORT_ID_CHARACTERS = 8
"""Characters of a recipe_id that are displayed."""

IMPORTED_PREFIX = "imported:"
"""Prefix of the recipe_id of an imported model; the class of its estimator follows."""


def recipe_display_name(recipe_id: str | None, estimators: Mapping[str, str]) -> str | None:
    """``ridge 3f9c2ab0`` or ``imported Ridge``; the short id alone if the recipe is not known; None for None.

    estimators: recipe_id -> the recipe's estimator.
    """
    if recipe_id is None:
        return None
    if recipe_id.startswith(IMPORTED_PREFIX):
        return f"imported {recipe_id.removeprefix(IMPORTED_PREFIX)}"
    estimator = estimators.get(recipe_id)
    return f"{estimator} {recipe_id[:SHORT_ID_CHARACTERS]}" if estimator else recipe_id[:SHORT_ID_CHARACTERS]
