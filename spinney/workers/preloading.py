"""Import what workers need before they are forked, so that each of them has it."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from spinney.core.champions.user_rule import load_user_rule
from spinney.core.errors import ConfigError, ContractError
from spinney.core.name_resolution import resolve
from spinney.core.recipes.recipe import Recipe, candidate_estimators
from spinney.core.training.estimators import kernel_for


def preload(recipe: Recipe) -> None:
    """Import the modules that each worker needs for a recipe. A user's function is called only in a worker.

    Raises ConfigError, ContractError: a module or an estimator is not there.
    """
    import_module("spinney.core.models.arrays.arrays_codec")
    names = [recipe.estimator, *candidate_estimators(recipe.arguments)]
    user_functions = [name for name in names if ":" in name]
    for name in user_functions:
        resolve(name, {})
    if recipe.user_rule is not None:
        load_user_rule(recipe.user_rule.rule)
    if not user_functions:
        kernel_for(recipe.estimator, recipe.task, recipe.arguments)
    compared = [earlier for _, earlier in recipe.earlier] + (
        [recipe.shadow.recipe] if recipe.shadow is not None else []
    )
    for recipe_to_compare in compared:
        with suppress(ConfigError, ContractError):  # an error in one of these is recorded by group
            preload(recipe_to_compare)
