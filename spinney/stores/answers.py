"""What champions answer for rows of many groups, and who does: the same for the stream and for `Fleet`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core import frames, keys, scoring
from spinney.core.champion import Promotion
from spinney.core.champions import Champions
from spinney.core.config import Config
from spinney.core.model import Model
from spinney.core.routing import NOBODY, Ask, Route, routes
from spinney.core.signing import Signer
from spinney.stores.models import Fetch, cache

log = logging.getLogger(__name__)

_Load = Callable[[dict[str, tuple[str, Promotion]]], tuple[dict[str, Model], set[str]]]

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


def answer_frame(
    frame: pd.DataFrame,
    champions_of: Callable[[Iterable[str]], Champions],
    config: Config,
    signer: Signer,
    fetched_by: Fetch | None = None,
) -> pd.DataFrame:
    """What `Fleet.predict` answers to a person's frame; it says which columns.

    champions_of: who answers for these groups, parents too. fetched_by: as for `answer_rows`.

    Raises ContractError: a column is missing or of another type. StoreError: a model is stored nowhere.
    """
    group_keys, rows = frames.typed(frame, config)
    found = answer_rows(rows, group_keys, champions_of(group_keys), config, signer, fetched_by)
    said = {"prediction": found.prediction, "probabilities": found.probabilities}
    if config.fleet.task == "regression":
        del said["probabilities"]
    named = {"model_id": found.model_ids, "answered_by": found.answered_by}
    return pd.DataFrame({**said, **named}, index=frame.index)


def answer_rows(
    rows: pd.DataFrame,
    group_keys: Iterable[str],
    champions: Champions,
    config: Config,
    signer: Signer,
    fetched_by: Fetch | None = None,
) -> Answered:
    """Ask each row's model; where it raises or has no finite answer, the one that stands next in line for that row.

    group_keys: each row's group. fetched_by: brings payloads that no promotion carries; by default from the table
    `models`. Raises ContractError if a feature is missing or of another type, StoreError when a
    model is stored nowhere.
    """
    asks = [Ask(key) for key in group_keys]
    probabilities = np.full(len(rows), None, dtype=object)
    numbers = config.fleet.task == "regression"
    prediction: npt.NDArray[Any] = np.full(len(rows), np.nan) if numbers else probabilities.copy()
    by_row = [NOBODY] * len(rows)
    unusable: set[str] = set()
    places = np.arange(len(rows))
    load = partial(cache().load, config=config, signer=signer, fetched_by=fetched_by)
    while len(places):
        routed, models = _usable_routes([asks[place] for place in places], champions, config, load, unusable)
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
    routed, models = _usable_routes([ask], mine, config, partial(cache().load, config=config, signer=signer), set())
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
    asks: list[Ask], champions: Champions, config: Config, load: _Load, unusable: set[str]
) -> tuple[dict[Ask, Route], dict[str, Model]]:
    """Routes whose models load. A model whose signature does not hold is passed over for the one before it.

    load: the models of promotions, and the ids refused. unusable: model_ids known not to hold; found ones are added.
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
        loaded, refused = load(wanted)
        if not refused:
            return found, loaded
        unusable |= refused
