"""The function that runs in a Python worker for each shard of a scoring batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xxhash
from pyspark.sql.streaming.state import GroupState

from spinney.core import keys, scoring
from spinney.core.champion import Promotion
from spinney.core.champions import Champions
from spinney.core.config import Config
from spinney.core.model import Model
from spinney.core.routing import Route, routes
from spinney.core.signing import Signer
from spinney.stores.models import ModelCache, cache

STATE = "champions binary"
Rows = Iterable[pd.DataFrame]

_decoded: dict[tuple[int, int], Champions] = {}
"""Champions by shard and digest of the state's bytes: a worker outlives its tasks, and most batches change none."""


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
            champions = champions_of(shard, state, arrived[arrived["row_kind"] == "promotion"])
            events = arrived[arrived["row_kind"] == "event"]
            if len(events):
                yield answers(shard, events.reset_index(drop=True), champions, self)

        return score_shard


def champions_of(shard: int, state: GroupState, rows: pd.DataFrame) -> Champions:
    """The shard's champions with these promotions seen, kept in the state when they changed anything."""
    champions = _read(shard, bytes(state.get[0])) if state.exists else Champions.empty()
    if len(rows):
        champions = champions.after(list(_promotions(rows)))
        blob = champions.to_bytes()
        _decoded[shard, xxhash.xxh64_intdigest(blob)] = champions
        state.update((blob,))
    return champions


def _read(shard: int, blob: bytes) -> Champions:
    digest = xxhash.xxh64_intdigest(blob)
    if (shard, digest) not in _decoded:
        for old in [known for known in _decoded if known[0] == shard]:
            del _decoded[old]
        _decoded[shard, digest] = Champions.from_bytes(blob)
    return _decoded[shard, digest]


def _promotions(rows: pd.DataFrame) -> Iterator[tuple[str, Promotion]]:
    times = ("epoch", "trained_through", "fitted_at", "decided_at")
    others = ("model_id", "decision", "round_id", "codec", "payload", "signature")
    for row in rows.to_dict("records"):
        known: dict[str, Any] = {name: _whole(row[name]) for name in times} | {name: row[name] for name in others}
        yield row["group_key"], Promotion(**known)


def _whole(value: Any) -> int:
    return 0 if value is None or pd.isna(value) else int(value)


def answers(shard: int, events: pd.DataFrame, champions: Champions, scorer: Scorer) -> pd.DataFrame:
    """One row per event, in the events' order, columns of `predictions` that the scorer fills."""
    config = scorer.config
    found, models = _usable_routes(events["group_key"], champions, scorer, cache())
    by_row = [found[key] for key in events["group_key"]]
    ids = [route.promotion.model_id if route.promotion else None for route in by_row]
    answered = scoring.answer(events, ids, models)
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
            "probabilities": nothing
            if answered.probabilities is None
            else pd.Series(answered.probabilities, dtype=object),
            "label": events["label"].astype("float64" if config.fleet.task == "regression" else object),
            "model_id": ids,
            "answered_by": [route.answered_by.value for route in by_row],
            "topic": events["topic"],
            "kafka_partition": events["kafka_partition"].astype(np.int32),
            "kafka_offset": events["kafka_offset"].astype(np.int64),
        }
    )


def _usable_routes(
    group_keys: pd.Series[str], champions: Champions, scorer: Scorer, models: ModelCache
) -> tuple[dict[str, Route], dict[str, Model]]:
    """Routes whose models load. A model whose signature does not hold is passed over for the one before it."""
    fleet = scorer.config.fleet

    def ancestors(key: str) -> tuple[str, ...]:
        return keys.ancestors(fleet.group, fleet.parents, key)

    unusable: set[str] = set()
    while True:
        found = routes(group_keys, champions, ancestors, unusable)
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
        loaded, refused = models.load(wanted, scorer.config, scorer.signer)
        if not refused:
            return found, loaded
        unusable |= refused
