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

from spinney.core.champions import heldout_losses
from spinney.core.champions.promotion import CHAMPION_COLUMNS, PAYLOAD_COLUMNS, Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.column_names import internal_name
from spinney.core.config import Config
from spinney.core.intervals.champion_intervals import IntervalRule, ShardIntervals, pool_of
from spinney.core.migration import FormerColumn, add_former_columns
from spinney.core.models.signing import Signer
from spinney.serving.answers import answer_rows
from spinney.serving.model_cache import ModelSource
from spinney.storage.layout import FleetStore

STATE = "champions binary"
KIND, EVENT, PROMOTION = internal_name("kind"), "event", "promotion"
PROMOTION_STRUCT = internal_name("promotion")
"""Column with a promotion as one struct, null in events. Each column more costs Spark's worker as much time as scoring
the rows."""

PROMOTION_COLUMNS = (*CHAMPION_COLUMNS[1:], *PAYLOAD_COLUMNS, heldout_losses.COLUMN)
Rows = Iterable[pd.DataFrame]

_decoded: dict[int, tuple[int, Champions]] = {}
"""Shard -> digest of the state's bytes and its champions. A worker outlives its tasks, and most batches change none."""

_calibrated: dict[int, tuple[Champions, ShardIntervals]] = {}
"""Shard -> champions and the intervals that are calibrated on them."""


@dataclass(frozen=True)
class Scorer:
    """Scores the events of a shard. Pickled into the workers.

    signer: verifies models. former: names and types of columns before a migration, by column.
    """

    config: Config
    signer: Signer
    former: Mapping[str, FormerColumn] = field(default_factory=dict)

    def function(self) -> Callable[[tuple[Any, ...], Rows, GroupState], Rows]:
        """Return the function for `applyInPandasWithState` by shard.

        It takes events and promotions (KIND), times in microseconds. It yields the columns of `scored_ddl`, one row per
        event, and keeps the shard's champions in its state.
        """

        def score_shard(key: tuple[Any, ...], frames: Rows, state: GroupState) -> Rows:
            shard = int(key[0])
            rows = [frame for frame in frames if len(frame)]
            arrived = pd.concat(rows, ignore_index=True) if len(rows) > 1 else rows[0]
            is_event = arrived[KIND].to_numpy() == EVENT
            events, promotions = arrived, arrived.iloc[:0]
            if not is_event.all():  # most batches of a shard have no promotion
                events = arrived[is_event].reset_index(drop=True)
                promotions = _unpack_promotions(arrived[arrived[KIND] == PROMOTION])
            champions = update_champions(shard, state, promotions)
            if len(events):
                event_time = events["event_time"]  # in microseconds, as the output has it
                # The timestamp of the batch, which is the same when it is repeated.
                now = np.full(len(events), state.getCurrentProcessingTimeMs() * 1000, dtype=np.int64)
                yield answers(shard, restore_times(events, self.config), champions, self).assign(
                    event_time=event_time, scored_at=now
                )

        return score_shard


def restore_times(events: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Return the events with times instead of microseconds."""
    types = {"event_time": "timestamp", config.fleet.event_time: "timestamp", **config.event_columns}
    times = [name for name, kind in types.items() if kind in ("timestamp", "date") and name in events]
    stamps = {name: events[name].to_numpy(np.int64).view("datetime64[us]") for name in times}
    return events.assign(**stamps) if stamps else events


def _unpack_promotions(rows: pd.DataFrame) -> pd.DataFrame:
    structs = rows[PROMOTION_STRUCT].tolist()
    unpacked = pd.DataFrame(structs, columns=list(PROMOTION_COLUMNS), index=rows.index, dtype=object)
    return unpacked.assign(group_key=rows["group_key"])


def update_champions(shard: int, state: GroupState, rows: pd.DataFrame) -> Champions:
    """Return the shard's champions after these promotions, and store them in the state if there are any."""
    champions = _decode_champions(shard, bytes(state.get[0])) if state.exists else Champions.empty()
    if len(rows):
        added = ((row["group_key"], Promotion.from_row(row)) for row in rows.to_dict("records"))
        champions = champions.with_promotions(added)
        blob = champions.to_bytes()
        _decoded[shard] = (xxhash.xxh64_intdigest(blob), champions)
        state.update((blob,))
    return champions


def _decode_champions(shard: int, blob: bytes) -> Champions:
    digest = xxhash.xxh64_intdigest(blob)
    known = _decoded.get(shard)
    if known is None or known[0] != digest:
        known = _decoded[shard] = (digest, Champions.from_bytes(blob))
        # Spark runs the garbage collector after each task, which visited every promotion: a third of the worker's time.
        # Champions have no cycles, so they can be exempt. Collect other young garbage first.
        gc.collect(1)
        gc.freeze()
    return known[1]


def intervals_of(shard: int, champions: Champions, config: Config) -> ShardIntervals | None:
    """Return the half-widths in this shard, calibrated when its champions change; None where there are none."""
    rule = IntervalRule.of(config)
    if rule is None:
        return None
    known = _calibrated.get(shard)
    if known is None or known[0] is not champions or known[1].rule != rule:
        known = _calibrated[shard] = (champions, ShardIntervals(rule, pool_of(champions)))
    return known[1]


def answers(shard: int, events: pd.DataFrame, champions: Champions, scorer: Scorer) -> pd.DataFrame:
    """Return one row per event, in their order: the columns of `predictions` that the scorer fills."""
    config = scorer.config
    rows = add_former_columns(events, scorer.former)
    models, intervals = ModelSource(FleetStore.of(config), scorer.signer), intervals_of(shard, champions, config)
    answered = answer_rows(rows, events["group_key"].tolist(), champions, models, intervals)
    is_number = config.fleet.task == "regression"
    columns = {
        "shard": np.full(len(events), shard, dtype=np.int32),
        "group_key": events["group_key"],
        "event_id": events["event_id"],
        "event_time": events["event_time"],
        "prediction": answered.prediction,
        **(answered.interval if intervals is not None else {}),
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
