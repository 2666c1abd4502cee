"""Find the rows that are surely valid, column by column. The others are doubtful: Spark validates them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from batch.load.groups import NONE, Groups
from batch.load.typed_columns import Mask, Typed, has_control_bytes, outside, typed, union
from schemas import messages, tables
from schemas.contract import Contract
from schemas.messages import MAX_FUTURE_SECONDS, MAX_ID_CHARACTERS, MAX_RECORD_BYTES
from spinney.core.config import Config
from spinney.core.records.message_contracts import message_contract
from spinney.stores.arrow import arrow_type

GROUP, PLACE = "load.group", "load.place"
"""Additional columns of checked rows: number of the group, and row number in the source."""

_CONTROL = r"[\x00-\x1f\x7f]"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ESCAPED = 6
"""Bytes of JSON per byte of text, at most: a control character is written as \\u and four digits."""

_VALUE_BYTES = 64
"""Bytes of JSON, upper bound for a number, time or boolean with its punctuation."""


@dataclass(frozen=True)
class Columns:
    """One kind of message as its table stores it.

    kinds: source column → Spark type, of the message; stored_as: the same → column of the table, without the group's.
    time: the source column that orders its rows.
    """

    base: Contract
    kinds: dict[str, str]
    stored_as: dict[str, str]
    time: str

    def schema(self, *extra: pa.Field) -> pa.Schema:
        """Of what `check` returns."""
        own = [pa.field(stored, arrow_type(self.kinds[name])) for name, stored in self.stored_as.items()]
        return pa.schema([pa.field(GROUP, pa.int64()), pa.field(PLACE, pa.int64()), *own, *extra])

    @property
    def stored_time(self) -> str:
        return self.stored_as[self.time]


def event_columns(config: Config) -> Columns:
    fleet = config.fleet
    stored = {fleet.event_id: "event_id", fleet.event_time: "event_time"}
    stored |= {name: name for name in config.event_columns if name not in fleet.group}
    return Columns(tables.EVENTS, _kinds(config, messages.EVENT), stored, fleet.event_time)


def outcome_columns(config: Config) -> Columns:
    fleet = config.fleet
    stored = {fleet.event_id: "event_id", fleet.target: "label", "observed_at": "observed_at"}
    return Columns(tables.OUTCOMES, _kinds(config, messages.OUTCOME), stored, "observed_at")


def _kinds(config: Config, base: Contract) -> dict[str, str]:
    return {column.name: column.type for column in message_contract(config, base).columns}


@dataclass(frozen=True)
class Checked:
    """valid: the rows that surely are. doubtful: the mask of the others in the batch, shape (rows,)."""

    valid: pa.Table
    doubtful: Mask


class Checker:
    """Checks batches of one kind of message. moment: the time of this load, used as each record's timestamp."""

    def __init__(self, config: Config, columns: Columns, groups: Groups, moment: datetime) -> None:
        self._config = config
        self.columns = columns
        self._groups = groups
        latest = moment + timedelta(seconds=MAX_FUTURE_SECONDS) - _EPOCH
        self._latest = latest // timedelta(microseconds=1)

    def check(self, batch: pa.RecordBatch, place: pa.Array, extra: dict[str, pa.Array] | None = None) -> Checked:
        """batch: `plain` columns under the source's names. extra: additional columns to keep with the valid rows."""
        rows = batch.num_rows
        found = {name: self._typed(batch, name, kind) for name, kind in self.columns.kinds.items()}
        numbers = self._groups.numbers([found[name].values for name in self._config.fleet.group])
        required = [_missing(found[name].values) for name in self.columns.kinds if self._is_required(name)]
        doubtful = union(
            [
                *(each.doubtful for each in found.values()),
                *required,
                numbers == NONE,
                _doubtful_ids(found[self._config.fleet.event_id].values),
                self._untimely(found[self.columns.time].values),
                *self._outside(found),
                _may_be_too_large(batch),
            ],
            rows,
        )
        own = {stored: found[name].values for name, stored in self.columns.stored_as.items()}
        whole = pa.table({GROUP: pa.array(numbers), PLACE: place, **own, **(extra or {})})
        return Checked(whole if not doubtful.any() else whole.filter(pa.array(~doubtful)), doubtful)

    def _is_required(self, name: str) -> bool:
        fleet = self._config.fleet
        needed = {fleet.event_id, self.columns.time}
        return name in needed or (self.columns.base is tables.OUTCOMES and name == fleet.target)

    def _typed(self, batch: pa.RecordBatch, name: str, kind: str) -> Typed:
        if name not in batch.schema.names:
            return Typed(pa.nulls(batch.num_rows, arrow_type(kind)))
        return typed(batch.column(name), kind)

    def _untimely(self, times: pa.Array) -> Mask:
        micros = np.asarray(times.cast(pa.int64()).fill_null(0))
        late: Mask = (micros < 0) | (micros > self._latest)
        return late

    def _outside(self, found: dict[str, Typed]) -> list[Mask]:
        ranges = self._config.fleet.ranges
        return [outside(found[name].values, *ranges[name]) for name in self.columns.kinds if name in ranges]


def _missing(values: pa.Array) -> Mask | None:
    return np.asarray(values.is_null()) if values.null_count else None


def _doubtful_ids(ids: pa.Array) -> Mask | None:
    """Which are empty, too long or have a control character. ids: texts that are there, or null."""
    if ids.null_count == len(ids):
        return None
    sizes = np.asarray(pc.binary_length(ids).fill_null(1))
    # No text has more characters than bytes, so one that is doubted without need costs its check and nothing else.
    doubtful: Mask = (sizes == 0) | (sizes > MAX_ID_CHARACTERS)
    if has_control_bytes(ids):
        doubtful |= np.asarray(pc.match_substring_regex(ids, _CONTROL).fill_null(False))
    return doubtful


def _may_be_too_large(batch: pa.RecordBatch) -> Mask | None:
    """Which rows may exceed the size of a record as JSON."""
    fixed = sum(_ESCAPED * len(name.encode()) + _VALUE_BYTES for name in batch.schema.names)
    wide = [column for column in batch.columns if types.is_string(column.type) or types.is_binary(column.type)]
    sizes = [pc.binary_length(column) for column in wide]
    if fixed + _ESCAPED * sum(pc.max(size).as_py() or 0 for size in sizes) <= MAX_RECORD_BYTES:
        return None
    whole = np.full(batch.num_rows, fixed, dtype=np.int64)
    for size in sizes:
        whole += _ESCAPED * np.asarray(size.fill_null(0), dtype=np.int64)
    found: Mask = whole > MAX_RECORD_BYTES
    return found
