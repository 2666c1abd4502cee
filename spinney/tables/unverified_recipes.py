"""Read stored recipes for display, without a signing key and without heavy imports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from spinney.core.stored_formats import RECIPE
from spinney.storage.layout import FleetStore

FOLDER = "recipes"
"""Folder below the root with one file per recipe, named by its recipe_id."""


def read_recipe_file(file: Path) -> Mapping[str, Any]:
    """Return the content of a recipe's file; empty if there is no such file or it is not a JSON object.

    Raises UnknownFormat.
    """
    content = None
    with suppress(FileNotFoundError, ValueError):
        content = json.loads(file.read_text(encoding="utf-8"))
    RECIPE.check_object(content, file)
    return content if isinstance(content, dict) else {}


def read_recipe_text(store: FleetStore, recipe_id: str) -> str | None:
    """Return the text that `Recipe.of_text` takes; None if the recipe is not stored. Its signature is not verified.

    Raises UnknownFormat.
    """
    text = str(read_recipe_file(store.folder / FOLDER / f"{recipe_id}.json").get("recipe", ""))
    return text if sha256(text.encode()).hexdigest() == recipe_id else None


def read_estimators(store: FleetStore) -> dict[str, str]:
    """Return recipe_id -> estimator. A file whose content does not have the hash in its name is ignored."""
    found = {}
    for file in (store.folder / FOLDER).glob("*.json"):
        if text := read_recipe_text(store, file.stem):
            found[file.stem] = str(json.loads(text)["estimator"])
    return found
