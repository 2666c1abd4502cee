"""The estimators of stored recipes, for who only shows them: without a signing key or anything heavy to import."""

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
"""Below the root: a file for each recipe, named by its recipe_id."""


def read_file(file: Path) -> Mapping[str, Any]:
    """The content of a stored recipe; empty where there is no such file, or one that is no JSON object.

    Raises UnknownFormat.
    """
    content = None
    with suppress(FileNotFoundError, ValueError):
        content = json.loads(file.read_text(encoding="utf-8"))
    RECIPE.check_object(content, file)
    return content if isinstance(content, dict) else {}


def text_of(store: FleetStore, recipe_id: str) -> str | None:
    """The text that `Recipe.of_text` takes; None where this recipe is not stored. To be shown: no key is asked.

    Raises UnknownFormat.
    """
    text = str(read_file(store.folder / FOLDER / f"{recipe_id}.json").get("recipe", ""))
    return text if sha256(text.encode()).hexdigest() == recipe_id else None


def estimators(store: FleetStore) -> dict[str, str]:
    """recipe_id -> estimator. A recipe_id is its recipe's hash: a file that says something else is passed over."""
    found = {}
    for file in (store.folder / FOLDER).glob("*.json"):
        if text := text_of(store, file.stem):
            found[file.stem] = str(json.loads(text)["estimator"])
    return found
