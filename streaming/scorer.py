"""The function that runs in a Python worker for each shard of a scoring batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xxhash
from pyspark.sql.streaming.state import GroupState

from spinney.core import keys, scoring
from spinney.core.champion import Promotion
from spinney.core.champions import Champions
from spinney.core.config import Config
from spinney.core.model import Model
from spinney.core.routing import NOBODY, Ask, Route, routes
from spinney.core.signing import Signer
from spinney.stores.models import cache

STATE = "champions binary"
KIND, EVENT, PROMOTION = "row kind", "event", "promotion"
OF_PROMOTION = "promotion "
"""Before the names of a promotion's columns: the fleet's own may be called as these are, but have no space."""

PROMOTION_TIMES = ("trained_through", "fitted_at", "decided_at")
PROMOTION_COLUMNS = ("epoch", "model_id", "decision", *PROMOTION_TIMES, "round_id", "codec", "payload", "signature")
Rows = Iterable[pd.DataFrame]

log = logging.getLogger(__name__)

_decoded: dict[int, tuple[int, Champions]] = {}
"""By shard the digest of the state's bytes and its champions: a worker outlives its tasks; most batches change none."""

_silent: set[str] = set()
"""Models of which this worker has said that they had no answer."""


@dataclass(frozen=True)
class Scorer:
    """What scoring needs to know; pickled into the workers."""

    config: Config
    signer: Signer

    def function(self) -> Callable[[tuple[Any, ...], Rows, GroupState], Rows]:
        def score_shard(key: tuple[Any, ...], frames: Rows, state: GroupState) -> Rows:
            shard = int(key[0])
            rows = [frame for frame in frames if len(frame)]
            arrived = pd.concat(rows, ignore_index=True) if len(rows) > 1 else rows[0]
            champions = champions_of(shard, state, _promotions(arrived[arrived[KIND] == PROMOTION]))
            events = arrived[arrived[KIND] == EVENT]
            if len(events):
                yield answers(shard, events.reset_index(drop=True), champions, self)

        return score_shard


def _promotions(rows: pd.DataFrame) -> pd.DataFrame:
    named = {f"{OF_PROMOTION}{name}": name for name in PROMOTION_COLUMNS}
    return rows[["group_key", *named]].rename(columns=named)


def champions_of(shard: int, state: GroupState, rows: pd.DataFrame) -> Champions:
    """The shard's champions with these promotions seen, kept in the state when they changed anything."""
    champions = _read(shard, bytes(state.get[0])) if state.exists else Champions.empty()
    if len(rows):
        champions = champions.after((row["group_key"], Promotion.of_row(row)) for row in rows.to_dict("records"))
        blob = champions.to_bytes()
        _decoded[shard] = (xxhash.xxh64_intdigest(blob), champions)
        state.update((blob,))
    return champions


def _read(shard: int, blob: bytes) -> Champions:
    digest = xxhash.xxh64_intdigest(blob)
    known = _decoded.get(shard)
    if known is None or known[0] != digest:
        known = _decoded[shard] = (digest, Champions.from_bytes(blob))
    return known[1]


def answers(shard: int, events: pd.DataFrame, champions: Champions, scorer: Scorer) -> pd.DataFrame:
    """One row per event, in the events' order, columns of `predictions` that the scorer fills."""
    config = scorer.config
    answered = _answered(events, champions, scorer)
    nothing = np.full(len(events), None, dtype=object)
    return pd.DataFrame(
        {
            "shard": np.full(len(events), shard, dtype=np.int32),
            "group_key": events["group_key"],
            "event_id": events["event_id"],
            "event_time": events["event_time"],
            "prediction": answered.prediction,
            "lower": pd.Series(nothing, dtype="float64"),
            "upper": pd.Series(nothing, dtype="float64"),
            "probabilities": answered.probabilities,
            "label": events["label"].astype("float64" if config.fleet.task == "regression" else object),
            "model_id": [route.promotion.model_id if route.promotion else None for route in answered.routes],
            "answered_by": [route.answered_by.value for route in answered.routes],
            "topic": events["topic"],
            "kafka_partition": events["kafka_partition"].astype(np.int32),
            "kafka_offset": events["kafka_offset"].astype(np.int64),
        }
    )


@dataclass(frozen=True)
class _Answered:
    """Of each row what was answered, None for nothing, and by whom."""

    prediction: npt.NDArray[Any]
    probabilities: npt.NDArray[Any]
    routes: list[Route]


def _answered(events: pd.DataFrame, champions: Champions, scorer: Scorer) -> _Answered:
    """Ask each row's model; where it raises or has no finite answer, the one that stands next in line for that row."""
    numbers = scorer.config.fleet.task == "regression"
    asks = [Ask(key) for key in events["group_key"]]
    probabilities = np.full(len(events), None, dtype=object)
    prediction: npt.NDArray[Any] = np.full(len(events), np.nan) if numbers else probabilities.copy()
    by_row = [NOBODY] * len(events)
    unusable: set[str] = set()
    rows = np.arange(len(events))
    while len(rows):
        routed, models = _usable_routes([asks[row] for row in rows], champions, scorer, unusable)
        taken = [routed[asks[row]] for row in rows]
        ids = [route.promotion.model_id if route.promotion else None for route in taken]
        found = scoring.answer(events.iloc[rows], ids, models)
        there = pd.notna(found.prediction)
        prediction[rows[there]] = found.prediction[there]
        if found.probabilities is not None:
            probabilities[rows] = found.probabilities
        silent = []
        for row, route, name, has_answer in zip(rows, taken, ids, there, strict=True):
            if has_answer:
                by_row[row] = route
            elif name is not None:
                _say_once(route.owner, name, found.errors.get(name, "a number that is not finite"))
                asks[row] = Ask(asks[row].group_key, asks[row].passed | {name})
                silent.append(row)
        rows = np.array(silent, dtype=np.int64)
    return _Answered(prediction, probabilities, by_row)


def _say_once(owner: str, model_id: str, got: str) -> None:
    if model_id not in _silent:
        _silent.add(model_id)
        text = "group %s: an answer of model %s expected; got %s. Another answers in its place; said once a model"
        log.warning(text, owner, model_id[:12], got)


def _usable_routes(
    asks: list[Ask], champions: Champions, scorer: Scorer, unusable: set[str]
) -> tuple[dict[Ask, Route], dict[str, Model]]:
    """Routes whose models load. A model whose signature does not hold is passed over for the one before it.

    unusable: model_ids known not to hold; those found here are added.
    """
    fleet = scorer.config.fleet

    def ancestors(key: str) -> tuple[str, ...]:
        return keys.ancestors(fleet.group, fleet.parents, key)

    while True:
        found = routes(asks, champions, ancestors, unusable)
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
        loaded, refused = cache().load(wanted, scorer.config, scorer.signer)
        if not refused:
            return found, loaded
        unusable |= refused
