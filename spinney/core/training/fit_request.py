"""A fit request as the fitting code sees it: one group and its champion. Requests in tables: `spinney.retraining`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from spinney.core.champions.heldout_losses import pack
from spinney.core.errors import ContractError
from spinney.core.features.encoding import to_microseconds

CHAMPION_COLUMNS = ("id", "codec", "payload", "signature", "trained_through", "recipe_id", "heldout_losses")


@dataclass(frozen=True)
class FitRequest:
    """A group to fit, and its champion if it has one: the champion's fields are None without one.

    trained_through: microseconds since 1970 of the newest row the champion was fitted on, NULL_TIME if not known.
    recipe_id: of the recipe that the champion was fitted by, None if not known. heldout_losses: stored with the
    champion, packed.
    """

    group_key: str
    champion_id: str | None
    codec: str | None
    payload: bytes | None
    signature: bytes | None
    trained_through: int
    recipe_id: str | None = None
    heldout_losses: bytes | None = None


def requests_of_frame(frame: pd.DataFrame) -> list[FitRequest]:
    """The fit requests in a frame as `fit_groups` takes it.

    Raises ContractError if a group_key is null or occurs twice.
    """
    if "group_key" not in frame or frame["group_key"].isna().any() or frame["group_key"].duplicated().any():
        raise ContractError("asks: group_key: expected one row per group; got a group twice or none")
    absent = {f"champion_{name}": None for name in CHAMPION_COLUMNS if f"champion_{name}" not in frame}
    full = frame.assign(**absent)
    through = to_microseconds(full["champion_trained_through"])
    texts = [_objects(full[name]) for name in ("group_key", "champion_id", "champion_codec")]
    blobs = [_objects(full[name]) for name in ("champion_payload", "champion_signature")]
    recipes = _objects(full["champion_recipe_id"])
    # A frame has NaN for no list.
    losses = [None if isinstance(each, float) else pack(each) for each in full["champion_heldout_losses"]]
    return [
        FitRequest(key, *rest) for key, *rest in zip(*texts, *blobs, through.tolist(), recipes, losses, strict=True)
    ]


def _objects(values: pd.Series[Any]) -> list[Any]:
    out = values.astype(object)
    return out.where(out.notna(), None).tolist()
