"""The function that scores a shard's events in a batch, in a Python worker."""

from __future__ import annotations

import base64
import gc
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import xxhash
from pyspark.sql.streaming.state import GroupState

from spinney.core.champions import held_out_loss_codec
from spinney.core.champions.promotion import CHAMPION_COLUMNS, PAYLOAD_COLUMNS, Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import Config, RecordSchema
from spinney.core.internal_column_names import internal_name
from spinney.core.intervals.champion_intervals import IntervalRule, ShardIntervals, pool_of
from spinney.core.migration import FormerColumn, add_former_columns
from spinney.core.models.signing import Signer
from spinney.serving.answers import answer_rows
from spinney.serving.model_cache import ModelSource
from spinney.storage.layout import FleetStore
from streaming.answer_encoding import COLUMN, Column, answer_schema, encode_answers

STATE = "champions binary"
PROMOTION = internal_name("promotion")
"""Column with a promotion as one JSON text; null for events. Each further column would cost Spark's worker as much time
as scoring the rows, and a null struct of thirteen fields as much as thirteen columns.
"""

PROMOTION_COLUMNS = (
    *CHAMPION_COLUMNS[1:], *PAYLOAD_COLUMNS, held_out_loss_codec.COLUMN, held_out_loss_codec.LOSS_NAME,
)  # fmt: skip
_BINARY = ("payload", "signature")
Rows = Iterable[pd.DataFrame]

_UNCHANGED = ("group_key", "event_id", "event_time", "label", "kafka_partition", "kafka_offset")
"""Columns of an event that its answer has too."""

_decoded: dict[int, tuple[int, Champions]] = {}
"""Shard -> digest of the state's bytes, and champions decoded from it. A worker lives longer than a task, and most
batches change no champion.
"""

_calibrated: dict[int, tuple[Champions, ShardIntervals]] = {}
"""Shard -> champions and the intervals that are calibrated on them."""


@dataclass(frozen=True)
class Scorer:
    """Scores the events of a shard. It is pickled and sent to Spark's workers.

    rule: of intervals; None without intervals. signer: verifies models. former: columns that a migration renamed or
    dropped, by their old names.
    """

    store: FleetStore
    rule: IntervalRule | None
    signer: Signer
    former: Mapping[str, FormerColumn] = field(default_factory=dict)

    @classmethod
    def of(
        cls, config: Config, signer: Signer, former: Mapping[str, FormerColumn] | None = None,
        first_loss: str | None = None,
    ) -> Scorer:  # fmt: skip
        """Return the scorer of a configuration. Workers do not get the rest of the configuration, such as the options
        of Kafka.

        first_loss: as `IntervalRule.of` takes it.
        """
        rule = IntervalRule.of(config.fleet, config.intervals.coverage, first_loss)
        return cls(FleetStore.of(config), rule, signer, former or {})

    def function(self) -> Callable[[tuple[Any, ...], Rows, GroupState], Rows]:
        """Return the function for `applyInPandasWithState` by shard.

        It takes events and promotions (PROMOTION), times in microseconds. It yields the answers as values
        (`streaming.answer_encoding`), a row for each, and keeps the shard's champions in its state.
        """
        schema, topic = answer_schema(self.store), self.store.record_schema.events_topic

        def score_shard(key: tuple[Any, ...], frames: Rows, state: GroupState) -> Rows:
            shard = int(key[0])
            rows = [frame for frame in frames if len(frame)]
            arrived = pd.concat(rows, ignore_index=True) if len(rows) > 1 else rows[0]
            is_event = arrived[PROMOTION].isna().to_numpy()
            events, promotions = arrived, arrived.iloc[:0]
            if not is_event.all():  # most batches of a shard have no promotion
                events = arrived[is_event].reset_index(drop=True)
                promotions = _unpack_promotions(arrived[~is_event])
            champions = update_champions(shard, state, promotions)
            if len(events):
                answered = answers(shard, restore_times(events, self.store.record_schema), champions, self)
                answered["event_time"] = events["event_time"]  # in microseconds
                # The timestamp of the batch, which is the same when it is repeated.
                scored_at = datetime.fromtimestamp(state.getCurrentProcessingTimeMs() / 1000, UTC)
                same = {"shard": shard, "topic": topic, "scored_at": scored_at, "scored_on": scored_at.date()}
                for value in encode_answers(answered, same, schema):
                    yield pd.DataFrame({COLUMN: [value]})

        return score_shard


def restore_times(events: pd.DataFrame, schema: RecordSchema) -> pd.DataFrame:
    """Return the events with times instead of microseconds."""
    types = {"event_time": "timestamp", schema.fleet.event_time: "timestamp", **schema.event_columns}
    times = [name for name, kind in types.items() if kind in ("timestamp", "date") and name in events]
    stamps = {name: events[name].to_numpy(np.int64).view("datetime64[us]") for name in times}
    return events.assign(**stamps) if stamps else events


def _unpack_promotions(rows: pd.DataFrame) -> pd.DataFrame:
    unpacked = [_read_promotion(text) for text in rows[PROMOTION]]
    frame = pd.DataFrame(unpacked, columns=list(PROMOTION_COLUMNS), index=rows.index, dtype=object)
    return frame.assign(group_key=rows["group_key"])


def _read_promotion(text: str) -> dict[str, Any]:
    """The columns of a promotion as Spark wrote them; those that are null are missing."""
    found: dict[str, Any] = json.loads(text)
    binary = {name: base64.b64decode(found[name]) for name in _BINARY if name in found}
    losses = found.get(held_out_loss_codec.COLUMN)
    # Spark writes what is not finite as text.
    return {**found, **binary, held_out_loss_codec.COLUMN: None if losses is None else [float(loss) for loss in losses]}


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


def intervals_of(shard: int, champions: Champions, rule: IntervalRule | None) -> ShardIntervals | None:
    """Return the half-widths of this shard; None without intervals.

    They are calibrated again when its champions change.
    """
    if rule is None:
        return None
    known = _calibrated.get(shard)
    if known is None or known[0] is not champions or known[1].rule != rule:
        known = _calibrated[shard] = (champions, ShardIntervals(rule, pool_of(champions)))
    return known[1]


def answers(shard: int, events: pd.DataFrame, champions: Champions, scorer: Scorer) -> dict[str, Column]:
    """Return columns of `predictions`, each of shape (n_events,), in the order of the events.

    Columns of `predictions` that are missing here are null, or have one value in all rows. A frame of all columns would
    take a small batch half a millisecond.
    """
    rows = add_former_columns(events, scorer.former)
    models, intervals = ModelSource(scorer.store, scorer.signer), intervals_of(shard, champions, scorer.rule)
    answered = answer_rows(rows, events["group_key"].tolist(), champions, models, intervals)
    found: dict[str, Column] = {
        **{name: events[name] for name in _UNCHANGED},
        "prediction": answered.prediction,
        "model_id": answered.model_ids,
        "answered_by": answered.answered_by,
    }
    if intervals is not None:
        found |= answered.interval
    if scorer.store.fleet.task != "regression":
        found["probabilities"] = answered.probabilities
    return found
