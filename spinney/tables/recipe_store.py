"""Stores the recipes that models were fitted by, one file each. A model names its recipe by hash.

Recipes are signed as models are, since fitting one may run the user's code that it names.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from spinney.core.errors import Corrupt
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.recipes.recipe_change import refit_obstacle, with_current_features
from spinney.core.stored_formats import KEY, RECIPE
from spinney.storage import atomic_files, charter
from spinney.storage.layout import FleetStore
from spinney.tables.snapshot import GroupFilter, take_snapshots
from spinney.tables.unverified_recipes import FOLDER, read_recipe_file


def store_recipe(store: FleetStore, signer: Signer, recipe: Recipe) -> None:
    """Store a recipe, unless it is stored already and signed by one of the signer's keys. Raises UnknownFormat."""
    file = recipe_folder(store) / f"{recipe.recipe_id}.json"
    if _read_recipe(file, signer) is None:
        text = recipe.text
        signature = signer.sign(_claim(recipe.recipe_id), text.encode())
        content = {KEY: RECIPE.version, "recipe": text, "signature": signature.hex()}
        atomic_files.replace_file(file, json.dumps(content).encode())


def load_recipes(store: FleetStore, signer: Signer) -> dict[str, Recipe]:
    """Return all recipes with a valid signature, by recipe_id. Raises UnknownFormat."""
    found = {file.stem: _read_recipe(file, signer) for file in sorted(recipe_folder(store).glob("*.json"))}
    return {name: recipe for name, recipe in found.items() if recipe is not None}


def with_earlier_recipes(store: FleetStore, signer: Signer, current: Recipe) -> Recipe:
    """Return the current recipe with all earlier ones that can be fitted again on the current columns."""
    others, current = load_recipes(store, signer), with_renamed_features(store, current)
    others.pop(current.recipe_id, None)
    able = (
        (name, with_current_features(recipe, current))
        for name, recipe in others.items()
        if refit_obstacle(recipe, current) is None
    )
    return replace(current, earlier=tuple(able))


def with_renamed_features(store: FleetStore, current: Recipe) -> Recipe:
    """Return the current recipe in a form that also knows the names of its features before migrations."""
    renamed = (
        (name, column.now)
        for name, column in sorted(charter.former_columns_of(store).items())
        if column.now is not None
    )
    return replace(current, renamed=tuple(renamed))


def recipes_of_models(store: FleetStore, model_ids: pa.Array, groups: GroupFilter) -> pa.Table:
    """Return recipe_id and trained_through of each model, in the order given; null if it is not stored.

    groups: which groups' rows to read.
    """
    names = {name: name for name in ("model_id", "recipe_id", "trained_through")}
    named = pc.field("model_id").isin(pc.unique(model_ids).drop_null())
    models = pa.concat_tables(
        [snapshot.read(names, groups, named) for snapshot in take_snapshots(store, tables.MODELS)]
    )
    place = pc.index_in(model_ids, value_set=models.column("model_id").combine_chunks(), skip_nulls=True)
    return models.select(["recipe_id", "trained_through"]).take(place)


def recipe_folder(store: FleetStore) -> Path:
    """Return the folder in which recipes are stored."""
    return store.folder / FOLDER


def _claim(recipe_id: str) -> Claim:
    # No group has an empty key and no model this codec, so a model's signature is never valid for a recipe.
    return Claim("", recipe_id, "recipe")


def _read_recipe(file: Path, signer: Signer) -> Recipe | None:
    """Return the recipe; None if there is no file, the signature is not of this fleet, or it has fields that are
    unknown here.

    Raises UnknownFormat.
    """
    content = read_recipe_file(file)
    with suppress(Corrupt, ValueError, KeyError, TypeError):
        signer.verify(_claim(file.stem), content["recipe"].encode(), bytes.fromhex(content["signature"]))
        return Recipe.of_text(content["recipe"])
    return None
