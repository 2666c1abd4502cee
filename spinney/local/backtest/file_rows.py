"""Read labelled events of all groups from a file, validated column by column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from batch.load.group_numbers import GroupNumbers
from batch.load.loading import open_for_load
from batch.load.row_validation import OBSERVED_AT, ValidRows
from batch.load.typed_batch import TypedBatch
from batch.load.vectorized_validation import GROUP, PLACE, ColumnValidator, MessageColumns, event_columns, label_rules
from spinney.core.arrow_types import arrow_type
from spinney.core.config import RecordSchema
from spinney.core.errors import ContractError
from spinney.core.records.field_paths import possible_roots
from spinney.core.records.rules import OriginalColumn
from spinney.core.records.validation import validate
from spinney.sources import ReadOptions, RowBatch, Source
from spinney.sources.fleet_files import messages_of
from spinney.sources.rejections import Rejections
from spinney.sources.row_validation import rejection_of_malformed_row, rejection_of_row
from spinney.tables.arrow_schemas import to_pandas

LABEL = "label"
ShowRows = Callable[[int, int], None]
"""Called with (number of rows read so far, number of rows of the source, which may be an estimate)."""


@dataclass(frozen=True)
class FileRows:
    """The rows of a file. frame: the valid rows, as `History.of` takes them. rejections: the other rows."""

    frame: pd.DataFrame
    rejections: Rejections


def open_history(schema: RecordSchema, place: str, options: ReadOptions) -> Source:
    """Open a file whose rows have their labels.

    Raises ContractError: the file cannot be read, or the label, the id, the time or a column of the group is missing.
    """
    source = open_for_load(schema, place, options)
    label = _columns(schema, None).rules.rule_of(schema.fleet.target)
    if source.columns is not None and set(possible_roots(label.source)).isdisjoint(source.columns):
        raise ContractError(
            f"{source.name}: expected a column {label.source} with the labels, which a backtest needs; got "
            f"{', '.join(sorted(source.columns))}"
        )
    return source


def read_history(
    schema: RecordSchema,
    source: Source,
    options: ReadOptions,
    show: ShowRows = lambda *_: None,
    originals: Mapping[str, OriginalColumn] | None = None,
) -> FileRows:
    """Return the valid rows of a source, opened by `open_history`.

    originals: as in `build_rules`. Raises ContractError: a damaged file, or more rejected rows than
    `options.rejection_limit`.
    """
    reader = _Reader(schema, Rejections(options.rejection_limit), originals)
    for batch in source.batches():
        reader.read(batch, source.name)
        show(reader.rows, max(source.rows, reader.rows))
    reader.rejections.check(source.name, reader.rows, ended=True)
    return FileRows(reader.frame(), reader.rejections)


def _columns(schema: RecordSchema, originals: Mapping[str, OriginalColumn] | None) -> MessageColumns:
    """The columns of a history: those of an event, its label and, if it comes late, when it was observed."""
    fleet, events = schema.fleet, event_columns(schema, originals)
    late = tuple(replace(rule, required=False) for rule in label_rules(schema))
    rules = replace(events.rules, fields=(*events.rules.fields, *late))
    features = {name: name for name in fleet.features if name not in (fleet.event_time, fleet.event_id)}
    stored = {**features, fleet.event_id: "event_id", fleet.event_time: "event_time", fleet.target: LABEL}
    return replace(events, rules=rules, stored_as=stored | {OBSERVED_AT: OBSERVED_AT} if late else stored)


class _Reader:
    """Validates batches and keeps their valid rows. rows: number of rows read so far, valid or not."""

    def __init__(
        self, schema: RecordSchema, rejections: Rejections, originals: Mapping[str, OriginalColumn] | None
    ) -> None:
        fleet = schema.fleet
        self._fleet, self.rejections, self.rows = fleet, rejections, 0
        self._moment = datetime.now(UTC)
        self._columns = _columns(schema, originals)
        self._groups = GroupNumbers([arrow_type(fleet.columns[name]) for name in fleet.group], fleet.shards)
        self._validator = ColumnValidator(fleet, self._columns, self._groups, self._moment)
        self._valid: list[pa.Table] = []

    def read(self, batch: RowBatch, source: str) -> None:
        """Read one batch. Raises RejectionLimitError: too many rejected rows."""
        for bad in batch.malformed:
            self.rejections.add(rejection_of_malformed_row(bad))
        self.rows += len(batch) + len(batch.malformed)
        place = pa.array(np.arange(len(batch)))
        if batch.columns is None:
            checked = self._validator.validate_lines(batch.lines, place)
        else:
            checked = self._validator.validate(TypedBatch(batch, self._columns.rules), place)
        self._valid.append(checked.valid)
        if checked.doubtful.any():
            self._validate(_part(batch, np.flatnonzero(checked.doubtful)))
        self.rejections.check(source, self.rows)

    def frame(self) -> pd.DataFrame:
        """Return the valid rows."""
        rows = pa.concat_tables([self._columns.schema().empty_table(), *self._valid])
        keys = self._groups.keys().take(rows.column(GROUP).combine_chunks())
        frame = to_pandas(rows.drop_columns([GROUP, PLACE]).append_column("group_key", keys))
        fleet = self._fleet
        return frame.assign(**{fleet.event_time: frame["event_time"]}) if fleet.event_time in fleet.features else frame

    def _validate(self, batch: RowBatch) -> None:
        """Validate rows one by one."""
        valid = ValidRows(self._columns, self._groups, self._fleet.group)
        for at, (number, message) in enumerate(messages_of(batch, self._columns.rules)):
            result = validate(message, self._moment, self._columns.rules)
            if result.values is None:
                self.rejections.add(rejection_of_row(batch, number, result))
            else:
                valid.add(at, result.values)
        if len(valid):
            self._valid.append(valid.table())


def _part(batch: RowBatch, rows: np.ndarray) -> RowBatch:
    numbers = [batch.numbers[row] for row in rows.tolist()]
    if batch.columns is None:
        return replace(batch, numbers=numbers, lines=[batch.lines[row] for row in rows.tolist()], malformed=())
    return replace(batch, numbers=numbers, columns=batch.columns.take(pa.array(rows)), malformed=())
