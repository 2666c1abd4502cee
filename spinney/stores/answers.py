"""What champions answer for rows of many groups, and who does: the same for the stream and for `Fleet`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core import keys, scoring
from spinney.core.champion import Promotion
from spinney.core.champions import Champions
from spinney.core.config import Config
from spinney.core.model import Model
from spinney.core.routing import NOBODY, Ask, Route, routes
from spinney.core.signing import Signer
from spinney.stores.models import cache

log = logging.getLogger(__name__)

_silent: set[str] = set()
"""Models of which this process has said that they had no answer."""


@dataclass(frozen=True)
class Answered:
    """Of each row what was answered, None for nothing, and by whom."""

    prediction: npt.NDArray[Any]
    probabilities: npt.NDArray[Any]
    routes: list[Route]

    @property
    def model_ids(self) -> list[str | None]:
        return [route.promotion.model_id if route.promotion else None for route in self.routes]

    @property
    def answered_by(self) -> list[str]:
        return [route.answered_by.value for route in self.routes]


def answer_rows(
    rows: pd.DataFrame, group_keys: Iterable[str], champions: Champions, config: Config, signer: Signer
) -> Answered:
    """Ask each row's model; where it raises or has no finite answer, the one that stands next in line for that row.

    group_keys: each row's group. Raises ContractError if a feature is missing or of another type, StoreError when a
    model is stored nowhere.
    """
    asks = [Ask(key) for key in group_keys]
    probabilities = np.full(len(rows), None, dtype=object)
    numbers = config.fleet.task == "regression"
    prediction: npt.NDArray[Any] = np.full(len(rows), np.nan) if numbers else probabilities.copy()
    by_row = [NOBODY] * len(rows)
    unusable: set[str] = set()
    places = np.arange(len(rows))
    while len(places):
        routed, models = _usable_routes([asks[place] for place in places], champions, config, signer, unusable)
        taken = [routed[asks[place]] for place in places]
        ids = [route.promotion.model_id if route.promotion else None for route in taken]
        found = scoring.answer(rows.iloc[places], ids, models)
        there = pd.notna(found.prediction)
        prediction[places[there]] = found.prediction[there]
        if found.probabilities is not None:
            probabilities[places] = found.probabilities
        silent = []
        for place, route, name, has_answer in zip(places, taken, ids, there, strict=True):
            if has_answer:
                by_row[place] = route
            elif name is not None:
                _say_once(route.owner, name, found.errors.get(name, "a number that is not finite"))
                asks[place] = Ask(asks[place].group_key, asks[place].passed | {name})
                silent.append(place)
        places = np.array(silent, dtype=np.int64)
    return Answered(prediction, probabilities, by_row)


def own_model(key: str, champions: Champions, config: Config, signer: Signer) -> Model | None:
    """The model of this very group or parent: the first in line that verifies, None where there is none."""
    mine = Champions({key: champions.histories.get(key, ())})
    ask = Ask(key)
    routed, models = _usable_routes([ask], mine, config, signer, set())
    promotion = routed[ask].promotion
    return models[promotion.model_id] if promotion else None


def ancestors(config: Config, key: str) -> tuple[str, ...]:
    """The parents that may answer for a group, nearest first; a parent has none."""
    return () if keys.is_parent(key) else keys.ancestors(config.fleet.group, config.fleet.parents, key)


def _say_once(owner: str, model_id: str, got: str) -> None:
    if model_id not in _silent:
        _silent.add(model_id)
        text = "group %s: an answer of model %s expected; got %s. Another answers in its place; said once a model"
        log.warning(text, owner, model_id[:12], got)


def _usable_routes(
    asks: list[Ask], champions: Champions, config: Config, signer: Signer, unusable: set[str]
) -> tuple[dict[Ask, Route], dict[str, Model]]:
    """Routes whose models load. A model whose signature does not hold is passed over for the one before it.

    unusable: model_ids known not to hold; those found here are added.
    """
    while True:
        found = routes(asks, champions, lambda key: ancestors(config, key), unusable)
        wanted: dict[str, tuple[str, Promotion]] = {}
        twice: set[str] = set()
        for route in found.values():
            if route.promotion:
                owner, _ = wanted.setdefault(route.promotion.model_id, (route.owner, route.promotion))
                # A model's name covers its group's: of two that claim it one lies, and neither is believed.
                twice |= {route.promotion.model_id} if owner != route.owner else set()
        if twice:
            unusable |= twice
            continue
        loaded, refused = cache().load(wanted, config, signer)
        if not refused:
            return found, loaded
        unusable |= refused
