"""The estimators of stored recipes, for who only shows them: without a signing key or anything heavy to import."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256

from spinney.core.config import Config
from spinney.stores.layout import root
from spinney.stores.storage import folder

FOLDER = "recipes"
"""Below the root: a file for each recipe, named by its recipe_id."""


def estimators(config: Config) -> dict[str, str]:
    """recipe_id -> estimator. A recipe_id is its recipe's hash: a file that says something else is passed over."""
    found = {}
    for file in (folder(root(config)) / FOLDER).glob("*.json"):
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            text = json.loads(file.read_text(encoding="utf-8"))["recipe"]
            if sha256(text.encode()).hexdigest() == file.stem:
                found[file.stem] = str(json.loads(text)["estimator"])
    return found
