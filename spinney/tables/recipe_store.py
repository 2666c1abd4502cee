"""The recipes that models were fitted by, each in a file of its own: a model names its recipe by a hash alone.

They are signed as models are, since a recipe may name code of a user that fitting it runs.
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
from spinney.tables.recipe_names import FOLDER, read_file
from spinney.tables.snapshot import Wanted, snapshots


def keep(store: FleetStore, signer: Signer, recipe: Recipe) -> None:
    """Store a recipe, unless it is there already under one of the signer's keys. Raises UnknownFormat."""
    file = folder(store) / f"{recipe.recipe_id}.json"
    if _read(file, signer) is None:
        text = recipe.text
        signature = signer.sign(_claim(recipe.recipe_id), text.encode())
        content = {KEY: RECIPE.version, "recipe": text, "signature": signature.hex()}
        atomic_files.replace(file, json.dumps(content).encode())


def stored(store: FleetStore, signer: Signer) -> dict[str, Recipe]:
    """All recipes by recipe_id whose signature holds. Raises UnknownFormat."""
    found = {file.stem: _read(file, signer) for file in sorted(folder(store).glob("*.json"))}
    return {name: recipe for name, recipe in found.items() if recipe is not None}


def with_earlier(store: FleetStore, signer: Signer, today: Recipe) -> Recipe:
    """Today's recipe with all earlier ones that can be fitted again, on the columns as they are now."""
    others, today = stored(store, signer), with_renamed(store, today)
    others.pop(today.recipe_id, None)
    able = (
        (name, with_current_features(each, today))
        for name, each in others.items()
        if refit_obstacle(each, today) is None
    )
    return replace(today, earlier=tuple(able))


def with_renamed(store: FleetStore, today: Recipe) -> Recipe:
    """Today's recipe, knowing what its features were called before a migration."""
    renamed = ((name, mine.now) for name, mine in sorted(charter.former(store).items()) if mine.now is not None)
    return replace(today, renamed=tuple(renamed))


def of_models(store: FleetStore, model_ids: pa.Array, wanted: Wanted) -> pa.Table:
    """Of each of these models, in their order: recipe_id and trained_through; null where no such model is stored.

    wanted: where the rows of their groups are.
    """
    names = {name: name for name in ("model_id", "recipe_id", "trained_through")}
    named = pc.field("model_id").isin(pc.unique(model_ids).drop_null())
    models = pa.concat_tables([each.read(names, wanted, named) for each in snapshots(store, tables.MODELS)])
    place = pc.index_in(model_ids, value_set=models.column("model_id").combine_chunks(), skip_nulls=True)
    return models.select(["recipe_id", "trained_through"]).take(place)


def folder(store: FleetStore) -> Path:
    return store.folder / FOLDER


def _claim(recipe_id: str) -> Claim:
    # No group has an empty key and no model this codec: the signature of a model is never that of a recipe.
    return Claim("", recipe_id, "recipe")


def _read(file: Path, signer: Signer) -> Recipe | None:
    """None: not there, not signed by this fleet, or its text has fields that are not known here.

    Raises UnknownFormat.
    """
    content = read_file(file)
    with suppress(Corrupt, ValueError, KeyError, TypeError):
        signer.verify(_claim(file.stem), content["recipe"].encode(), bytes.fromhex(content["signature"]))
        return Recipe.of_text(content["recipe"])
    return None
