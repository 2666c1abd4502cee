"""The steps of a load: read and validate, merge, write."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from batch.load.dead_letters import DeadLetters
from batch.load.group_numbers import GroupNumbers
from batch.load.incumbent_answers import ANSWER, IncumbentAnswers, may_be_answer
from batch.load.row_routing import MessageLoad, MessageLoads, RowRouter
from batch.load.spool import Spool
from batch.load.table_writer import TableWriter, Target
from batch.load.vectorized_validation import (
    GROUP,
    PLACE,
    ColumnValidator,
    MessageColumns,
    event_columns,
    label_rules,
    outcome_columns,
)
from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.core.arrow_types import arrow_type
from spinney.core.config import Config, RecordSchema
from spinney.core.errors import ContractError, StoreError
from spinney.core.records.field_paths import possible_roots
from spinney.sources import ReadOptions, RowBatch, Source
from spinney.sources.fleet_files import columns_for, number_fields, open_columns
from spinney.sources.rejections import Rejections
from spinney.storage import charter, leases
from spinney.storage.layout import FleetStore
from spinney.tables import delta

SCRATCH = "loading"
"""Folder below the root for temporary files; removed at the end of a load."""


@dataclass
class LoadResult:
    """The result of a load.

    added: table -> rows written. duplicates: table -> valid rows that were stored already, or occur twice in the
    source. rejections: rows that are not valid.
    """

    added: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    rejections: Rejections = field(default_factory=Rejections)


@dataclass(frozen=True)
class LoadProgress:
    """The progress of a load.

    stage: ``read`` or the table being written. rows: rows done so far. of: all rows, or an estimate.
    """

    stage: str
    rows: int
    of: int


Show = Callable[[LoadProgress], None]


def open_for_load(
    schema: RecordSchema, place: str, options: ReadOptions | None = None, *, outcomes: bool = False
) -> Source:
    """Open the files of a load, with only the columns that the fleet uses.

    Raises ContractError if there is no file, the format is not supported, files disagree, or a column of the id, the
    time or the group is missing.
    """
    selection = columns_for(schema, outcomes=outcomes, is_exclusive=True)
    if not outcomes:
        label = label_rules(schema)
        # Whether a dotted name is a column or a path is known once the files are open; until then all are columns.
        names = (*selection.names, *(rule.source for rule in label))
        answer = [ANSWER] if may_be_answer(schema, names) else []
        numbers = selection.numbers or frozenset()
        optional = (*(rule.source for rule in label), *answer)
        also = number_fields(replace(outcome_columns(schema).rules, fields=label)) | {*answer}
        selection = replace(
            selection, names=(*selection.names, *optional), numbers=numbers | also, optional=frozenset(optional)
        )
    return open_columns(place, options or ReadOptions(), selection)


def load(
    config: Config,
    source: Source | str,
    *,
    outcomes: bool = False,
    options: ReadOptions | None = None,
    show: Show | None = None,
) -> LoadResult:
    """Load the rows of files.

    source: opened by `open_for_load`, or its path. Columns are named as in messages. outcomes: whether its rows are
    outcomes, not events. If labels come late and the rows of events have the target, they are loaded as outcomes too,
    observed at their `observed_at` or `label_delay` after the event. A column `prediction` of events holds the current
    system's answers, if the fleet neither declares nor reads a column of that name.

    Among rows with the same group and id, the one with the earliest event_time (observed_at for outcomes) is loaded; if
    times are equal, the first in the source. Rejected rows become dead letters.

    Raises ContractError if the source cannot be opened (`open_for_load`), is damaged, or has more rejected rows than
    `options.rejection_limit`; then nothing is stored. Raises Busy if `ingest` is running.
    """
    options = options or ReadOptions()
    found = (
        open_for_load(config.record_schema, source, options, outcomes=outcomes) if isinstance(source, str) else source
    )
    store = FleetStore.of(config)
    # The directories are ingest's: it must not run meanwhile.
    with leases.held(store, [QueryName.INGEST]):
        charter.ensure_charter(store)
        delta.create_tables(store)
        with _scratch(store) as scratch:
            run = _LoadRun(store, found, scratch, Rejections(options.rejection_limit), show or _no_progress)
            run.read(outcomes=outcomes)
            return run.store()


def _no_progress(progress: LoadProgress) -> None:
    del progress


@contextmanager
def _scratch(store: FleetStore) -> Iterator[Path]:
    """Provide an empty temporary folder.

    Files of a killed load are deleted; the lease ensures that no other load is running.
    """
    place = store.folder / SCRATCH
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class _LoadRun:
    """One load. scratch: an empty folder for temporary files."""

    def __init__(self, store: FleetStore, source: Source, scratch: Path, rejections: Rejections, show: Show) -> None:
        self._store, self._source, self._scratch, self._show = store, source, scratch, show
        self._moment = datetime.now(UTC)
        fleet = store.fleet
        self._groups = GroupNumbers([arrow_type(fleet.columns[name]) for name in fleet.group], fleet.shards)
        self._dead = DeadLetters(scratch / "dead.parquet")
        self._loaded = LoadResult(rejections=rejections)

    def read(self, *, outcomes: bool) -> None:
        """Validate all rows. Raises ContractError: too many are rejected."""
        self._loads = self._make_loads(outcomes=outcomes)
        reader = RowRouter(self._store.record_schema, self._loads, self._dead, self._loaded.rejections, self._moment)
        name, of = self._source.name, self._source.rows
        try:
            for batch in _prefetched(self._source):
                reader.read(batch, name)
                self._show(LoadProgress("read", reader.rows, of if self._source.is_exact else max(of, reader.rows)))
            self._loaded.rejections.check(name, reader.rows, ended=True)
        except ContractError as error:
            raise type(error)(f"load: {error}. Nothing was loaded") from error
        if self._source.is_exact and reader.rows != of:
            raise StoreError(f"load: {name}: expected {of} rows by its metadata; got {reader.rows}. Nothing was loaded")

    def store(self) -> LoadResult:
        """Write the valid rows that the tables do not have yet, then the dead letters."""
        writer = TableWriter(self._store, self._groups, self._moment)
        main, late = self._loads.main, self._loads.late
        answered = self._answered() if self._loads.answers is not None else None
        self._write(writer, main, answered)
        if answered is not None:
            # Events that are in the table already get their answer too: the fleet may have answered them as well.
            target = Target(tables.INCUMBENT, main.topic, None)
            rows = writer.store(answered, target, None, self._stored(tables.INCUMBENT))
            if rows or self._source.columns is not None:  # any JSON line might have had an answer
                self._loaded.added[tables.INCUMBENT.name] = rows
        if late is not None:
            self._write(writer, late, None)
        self._loaded.added[tables.DEAD_LETTERS.name] = self._dead.store(self._store, self._moment)
        return self._loaded

    def _write(self, writer: TableWriter, kind: MessageLoad, answered: Spool | None) -> None:
        columns = kind.validator.columns
        target = Target(columns.base, kind.topic, columns.stored_time)
        valid = kind.spool.rows
        rows = writer.store(kind.spool, target, answered, self._stored(columns.base))
        self._loaded.added[columns.base.name] = rows
        self._loaded.duplicates[columns.base.name] = valid - rows

    def _make_loads(self, *, outcomes: bool) -> MessageLoads:
        if outcomes:
            return MessageLoads(self._make_load(outcome_columns(self._store.record_schema), ""))
        events = event_columns(self._store.record_schema, charter.original_columns_of(self._store))
        is_answered = self._has(ANSWER) and may_be_answer(self._store.record_schema, self._source.columns)
        answers = IncumbentAnswers(self._store, events.rules, self._source.name) if is_answered else None
        main = self._make_load(events, "", *([answers.field] if answers is not None else []))
        outcomes_ = outcome_columns(self._store.record_schema)
        label = outcomes_.rules.rule_of(self._store.fleet.target)
        is_late = not self._store.has_label_in_event and self._has(label.source)
        return MessageLoads(main, self._make_load(outcomes_, "#outcomes") if is_late else None, answers)

    def _has(self, source: str) -> bool:
        """Return whether the source has, or may have, a column of this name, or one that may contain such a field."""
        columns = self._source.columns
        return columns is None or not set(possible_roots(source)).isdisjoint(columns)

    def _make_load(self, columns: MessageColumns, suffix: str, *carried: pa.Field) -> MessageLoad:
        validator = ColumnValidator(self._store.fleet, columns, self._groups, self._moment)
        schema = columns.schema(*carried)
        spool = Spool(self._scratch / columns.base.name, schema, self._groups, self._source.rows)
        return MessageLoad(validator, spool, f"load:{self._source.name}{suffix}")

    def _answered(self) -> Spool:
        answer = self._loads.main.spool.schema.field(ANSWER)
        schema = pa.schema([(GROUP, pa.int64()), (PLACE, pa.int64()), ("event_id", pa.string()), answer])
        return Spool(self._scratch / tables.INCUMBENT.name, schema, self._groups, self._loads.main.spool.rows)

    def _stored(self, base: Contract) -> Callable[[int, int], None]:
        return lambda rows, of: self._show(LoadProgress(base.name, rows, of))


def _prefetched(source: Source) -> Iterator[RowBatch]:
    """Yield the source's batches. A thread reads one batch ahead. Raises ContractError for a damaged file."""
    batches = source.batches()
    with ThreadPoolExecutor(1) as pool:
        coming: Any = pool.submit(next, batches, None)
        while True:
            batch = coming.result()
            if batch is None:
                return
            coming = pool.submit(next, batches, None)
            yield batch
