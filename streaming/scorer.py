"""The function that runs in a Python worker for each shard of a scoring batch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xxhash
from pyspark.sql.streaming.state import GroupState

from spinney.core.champions.promotion import CHAMPION_COLUMNS, PAYLOAD_COLUMNS, Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.column_names import internal_name
from spinney.core.config import Config
from spinney.core.migration import FormerColumn, add_former_columns
from spinney.core.models.signing import Signer
from spinney.serving.answers import answer_rows
from spinney.storage.layout import FleetStore

STATE = "champions binary"
KIND, EVENT, PROMOTION = internal_name("kind"), "event", "promotion"
PROMOTION_STRUCT = internal_name("promotion")
"""The column with a promotion as one struct, null in events: for each column that a shard's rows have, Spark's worker
takes as long as for scoring them."""

PROMOTION_COLUMNS = (*CHAMPION_COLUMNS[1:], *PAYLOAD_COLUMNS)
Rows = Iterable[pd.DataFrame]

_decoded: dict[int, tuple[int, Champions]] = {}
"""By shard the digest of the state's bytes and its champions: a worker outlives its tasks; most batches change none."""


@dataclass(frozen=True)
class Scorer:
    """What scoring needs to know; pickled into the workers. former: what became of columns of before a migration."""

    config: Config
    signer: Signer
    former: Mapping[str, FormerColumn] = field(default_factory=dict)

    def function(self) -> Callable[[tuple[Any, ...], Rows, GroupState], Rows]:
        def score_shard(key: tuple[Any, ...], frames: Rows, state: GroupState) -> Rows:
            shard = int(key[0])
            rows = [frame for frame in frames if len(frame)]
            arrived = pd.concat(rows, ignore_index=True) if len(rows) > 1 else rows[0]
            is_event = arrived[KIND].to_numpy() == EVENT
            events, promotions = arrived, arrived.iloc[:0]
            if not is_event.all():  # in most batches a shard has none
                events = arrived[is_event].reset_index(drop=True)
                promotions = _promotions(arrived[arrived[KIND] == PROMOTION])
            champions = champions_of(shard, state, promotions)
            if len(events):
                # The event's time goes back as it came: in microseconds.
                at = events["event_time"]
                # The batch's timestamp, so that a batch that is replayed says the same.
                now = np.full(len(events), state.getCurrentProcessingTimeMs() * 1000, dtype=np.int64)
                yield answers(shard, with_times(events, self.config), champions, self).assign(
                    event_time=at, scored_at=now
                )

        return score_shard


def with_times(events: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The events with times in place of the microseconds that they came as."""
    types = {"event_time": "timestamp", config.fleet.event_time: "timestamp", **config.event_columns}
    times = [name for name, kind in types.items() if kind in ("timestamp", "date") and name in events]
    stamps = {name: events[name].to_numpy(np.int64).view("datetime64[us]") for name in times}
    return events.assign(**stamps) if stamps else events


def _promotions(rows: pd.DataFrame) -> pd.DataFrame:
    structs = rows[PROMOTION_STRUCT].tolist()
    unpacked = pd.DataFrame(structs, columns=list(PROMOTION_COLUMNS), index=rows.index, dtype=object)
    return unpacked.assign(group_key=rows["group_key"])


def champions_of(shard: int, state: GroupState, rows: pd.DataFrame) -> Champions:
    """The shard's champions with these promotions seen, kept in the state when they changed anything."""
    champions = _read(shard, bytes(state.get[0])) if state.exists else Champions.empty()
    if len(rows):
        added = ((row["group_key"], Promotion.from_row(row)) for row in rows.to_dict("records"))
        champions = champions.with_promotions(added)
        blob = champions.to_bytes()
        _decoded[shard] = (xxhash.xxh64_intdigest(blob), champions)
        state.update((blob,))
    return champions


def _read(shard: int, blob: bytes) -> Champions:
    digest = xxhash.xxh64_intdigest(blob)
    known = _decoded.get(shard)
    if known is None or known[0] != digest:
        known = _decoded[shard] = (digest, Champions.from_bytes(blob))
        # Spark has the collector visit every object of a worker after each task: a fleet's promotions were a third of a
        # scoring worker's time. These hold no cycles, so nothing is lost when the collector does not look at them; what
        # else is young garbage goes before.
        gc.collect(1)
        gc.freeze()
    return known[1]


def answers(shard: int, events: pd.DataFrame, champions: Champions, scorer: Scorer) -> pd.DataFrame:
    """One row per event, in the events' order, columns of `predictions` that the scorer fills."""
    config = scorer.config
    rows = add_former_columns(events, scorer.former)
    answered = answer_rows(rows, events["group_key"], champions, FleetStore.of(config), scorer.signer)
    is_number = config.fleet.task == "regression"
    columns = {
        "shard": np.full(len(events), shard, dtype=np.int32),
        "group_key": events["group_key"],
        "event_id": events["event_id"],
        "event_time": events["event_time"],
        "prediction": answered.prediction,
        "probabilities": answered.probabilities,
        "label": events["label"].astype("float64" if is_number else object),
        "model_id": answered.model_ids,
        "answered_by": answered.answered_by,
        "topic": events["topic"],
        "kafka_partition": events["kafka_partition"].astype(np.int32),
        "kafka_offset": events["kafka_offset"].astype(np.int64),
    }
    if is_number:
        del columns["probabilities"]
    return pd.DataFrame(columns, copy=False)
