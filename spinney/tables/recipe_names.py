"""The estimators of stored recipes, for who only shows them: without a signing key or anything heavy to import."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256

from spinney.storage.layout import FleetStore

FOLDER = "recipes"
"""Below the root: a file for each recipe, named by its recipe_id."""


def text_of(store: FleetStore, recipe_id: str) -> str | None:
    """The text that `Recipe.of_text` takes; None where this recipe is not stored. To be shown: no key is asked."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        file = store.folder / FOLDER / f"{recipe_id}.json"
        text = str(json.loads(file.read_text(encoding="utf-8"))["recipe"])
        return text if sha256(text.encode()).hexdigest() == recipe_id else None
    return None


def estimators(store: FleetStore) -> dict[str, str]:
    """recipe_id -> estimator. A recipe_id is its recipe's hash: a file that says something else is passed over."""
    found = {}
    for file in (store.folder / FOLDER).glob("*.json"):
        if text := text_of(store, file.stem):
            found[file.stem] = str(json.loads(text)["estimator"])
    return found
