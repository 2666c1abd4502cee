"""A fit request as the fitting code sees it: one group and its champion. `spinney.retraining` makes it from tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from spinney.core.champions.held_out_loss_codec import pack
from spinney.core.errors import ContractError
from spinney.core.features.encoding import NULL_TIME, to_microseconds

SAMPLE_COLUMNS = ("heldout_losses", "heldout_predictions", "prequential_losses")
CHAMPION_COLUMNS = ("id", "codec", "payload", "signature", "trained_through", "recipe_id", *SAMPLE_COLUMNS)
PREDECESSOR_COLUMNS = ("id", "codec", "payload", "signature")


@dataclass(frozen=True)
class StoredModel:
    """A model of the group as it is stored. Nothing of it is verified yet."""

    model_id: str
    codec: str | None
    payload: bytes | None
    signature: bytes | None


@dataclass(frozen=True)
class FitRequest:
    """A group to fit, and its champion if it has one: the champion's fields are None without one.

    trained_through: microseconds since 1970 of the newest row the champion was fitted on, NULL_TIME if not known.
    recipe_id: of the recipe that the champion was fitted by, None if not known. heldout_losses, heldout_predictions,
    prequential_losses: stored with the champion, packed. predecessor: the model that would answer if the champion were
    withdrawn; None if there is none, or the champion may not be withdrawn. parent: the nearest parent that has a
    champion, with this champion; None if there is none or the fit does not need it.
    """

    group_key: str
    champion_id: str | None
    codec: str | None
    payload: bytes | None
    signature: bytes | None
    trained_through: int
    recipe_id: str | None = None
    heldout_losses: bytes | None = None
    heldout_predictions: bytes | None = None
    prequential_losses: bytes | None = None
    predecessor: StoredModel | None = None
    parent: FitRequest | None = None

    def for_predecessor(self) -> FitRequest:
        """Return the same request with the predecessor in the champion's place. Raises AssertionError without one."""
        assert self.predecessor is not None, f"group {self.group_key}: no predecessor"
        stored = self.predecessor
        return replace(
            self,
            champion_id=stored.model_id,
            codec=stored.codec,
            payload=stored.payload,
            signature=stored.signature,
            trained_through=NULL_TIME,
            recipe_id=None,
            heldout_losses=None,
            heldout_predictions=None,
            prequential_losses=None,
            predecessor=None,
        )


def requests_of_frame(frame: pd.DataFrame) -> list[FitRequest]:
    """Return the fit requests in a frame as `fit_groups` takes it.

    Raises ContractError if a group_key is null or occurs twice.
    """
    if "group_key" not in frame or frame["group_key"].isna().any() or frame["group_key"].duplicated().any():
        raise ContractError("fit requests: group_key: expected one row per group; got a group twice or none")
    names = [f"champion_{name}" for name in CHAMPION_COLUMNS] + [f"predecessor_{name}" for name in PREDECESSOR_COLUMNS]
    of = {name: _objects(frame, name) for name in ("group_key", *names) if name != "champion_trained_through"}
    through = _microseconds(frame, "champion_trained_through")
    texts = [of[name] for name in ("group_key", "champion_id", "champion_codec")]
    blobs = [of[name] for name in ("champion_payload", "champion_signature")]
    recipes = of["champion_recipe_id"]
    samples = [[None if row is None else pack(row) for row in of[f"champion_{name}"]] for name in SAMPLE_COLUMNS]
    stored = zip(*(of[f"predecessor_{name}"] for name in PREDECESSOR_COLUMNS), strict=True)
    predecessors = [None if model_id is None else StoredModel(model_id, *rest) for model_id, *rest in stored]
    columns = zip(*texts, *blobs, through, recipes, *samples, predecessors, _parents(frame), strict=True)
    return [FitRequest(key, *rest) for key, *rest in columns]


def _parents(frame: pd.DataFrame) -> list[FitRequest | None]:
    """The parent of each request; requests with the same parent share one object."""
    ids = _objects(frame, "parent_id")
    if not any(ids):  # the other columns need no look
        return [None] * len(frame)
    names = [name for name in CHAMPION_COLUMNS if name not in SAMPLE_COLUMNS]  # not needed of a parent
    columns = {f"parent_{name}": f"champion_{name}" for name in names} | {"parent_key": "group_key"}
    named = frame.loc[frame["parent_id"].notna(), list(columns)].drop_duplicates("parent_id")
    of_id = {request.champion_id: request for request in requests_of_frame(named.rename(columns=columns))}
    return [of_id.get(name) for name in ids]


def _objects(frame: pd.DataFrame, name: str) -> list[Any]:
    """The values of a column, None for null. If there is no such column, None for every row."""
    missing = frame[name].isna().to_numpy() if name in frame else np.ones(len(frame), dtype=np.bool_)
    if missing.all():
        return [None] * len(frame)
    values = frame[name].astype(object)
    return values.where(~missing, None).tolist() if missing.any() else values.tolist()


def _microseconds(frame: pd.DataFrame, name: str) -> list[int]:
    """The values of a column of times, NULL_TIME for null. If there is no such column, NULL_TIME for every row."""
    return to_microseconds(frame[name]).tolist() if name in frame else [NULL_TIME] * len(frame)
