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

from batch.load.batch_reading import Kind, Kinds, Reader
from batch.load.column_checks import GROUP, PLACE, Checker, Columns, event_columns, label_rules, outcome_columns
from batch.load.dead_letters import DeadLetters
from batch.load.groups import Groups
from batch.load.incumbent_answers import ANSWER, Answers, may_be_answer
from batch.load.spool import Spool
from batch.load.table_writer import TableWriter, Target
from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.core.arrow_types import arrow_type
from spinney.core.config import Config
from spinney.core.errors import ContractError, StoreError
from spinney.sources import ReadOptions, RowBatch, Source
from spinney.sources.fleet_files import columns_for, number_fields, open_columns
from spinney.sources.rejections import Rejections
from spinney.storage import charter, leases
from spinney.storage.layout import FleetStore
from spinney.tables import delta

SCRATCH = "loading"
"""Folder below the root for temporary files; removed at the end of a load."""


@dataclass
class Loaded:
    """added: rows by table. duplicates: valid rows by table that were there already, or stand twice in the source.

    rejections: rows that are not valid.
    """

    added: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    rejections: Rejections = field(default_factory=Rejections)


@dataclass(frozen=True)
class Progress:
    """stage: ``read`` or the table being written. rows: done so far, out of `of`, which may be an estimate."""

    stage: str
    rows: int
    of: int


Show = Callable[[Progress], None]


def open_for_load(config: Config, place: str, options: ReadOptions | None = None, *, outcomes: bool = False) -> Source:
    """Open the files of a load: of their columns only those that the fleet has a use for.

    Raises ContractError: nothing there, none of the kinds that are read, files that disagree, a column of the id, the
    time or the group is missing.
    """
    wanted = columns_for(config, outcomes=outcomes, is_exclusive=True)
    if not outcomes:
        label = label_rules(config)
        # Whether a dotted name is a column or a path is known once the files are open; until then all are columns.
        names = (*wanted.names, *(rule.source for rule in label))
        answer = [ANSWER] if may_be_answer(config, names) else []
        numbers = wanted.numbers or frozenset()
        optional = (*(rule.source for rule in label), *answer)
        also = number_fields(replace(outcome_columns(config).rules, fields=label)) | {*answer}
        wanted = replace(wanted, names=(*wanted.names, *optional), numbers=numbers | also, optional=frozenset(optional))
    return open_columns(place, options or ReadOptions(), wanted)


def load(
    config: Config,
    source: Source | str,
    *,
    outcomes: bool = False,
    options: ReadOptions | None = None,
    show: Show | None = None,
) -> Loaded:
    """Load the rows of files.

    source: columns as the messages have them; opened by `open_for_load`, or its place. outcomes: its rows are outcomes,
    not events. Where labels come late and the rows of events have the target, they are loaded as outcomes too, observed
    at their `observed_at` or `label_delay` after the event. A column `prediction` of events, if the fleet declares none
    of that name and reads none from it, is what the present system answered: it becomes the incumbent's.

    Among rows with the same group and id, the one with the earliest event_time (observed_at for outcomes) is loaded;
    among equal times, the first in the source. Rows that are not valid become dead letters.

    Raises ContractError: as `open_for_load`; a damaged file; more rows than `options.most_rejected` are not valid. Then
    nothing is stored. Busy: ingest is running.
    """
    options = options or ReadOptions()
    found = open_for_load(config, source, options, outcomes=outcomes) if isinstance(source, str) else source
    # The directories are ingest's: it must not run meanwhile.
    store = FleetStore.of(config)
    with leases.held(store, [QueryName.INGEST]):
        charter.ensure_fixed(config)
        delta.create_tables(config)
        with _scratch(store) as scratch:
            this = _Load(config, found, scratch, Rejections(options.rejection_limit), show or _no_progress)
            this.read(outcomes=outcomes)
            return this.store()


def _no_progress(progress: Progress) -> None:
    del progress


@contextmanager
def _scratch(store: FleetStore) -> Iterator[Path]:
    """An empty temporary folder. Files left by a killed load are deleted; the lease excludes a running one."""
    place = store.folder / SCRATCH
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class _Load:
    """One load. scratch: an empty folder for temporary files."""

    def __init__(self, config: Config, source: Source, scratch: Path, rejections: Rejections, show: Show) -> None:
        self._config, self._source, self._scratch, self._show = config, source, scratch, show
        self._moment = datetime.now(UTC)
        fleet = config.fleet
        self._groups = Groups([arrow_type(fleet.columns[name]) for name in fleet.group], fleet.shards)
        self._dead = DeadLetters(scratch / "dead.parquet")
        self._loaded = Loaded(rejections=rejections)

    def read(self, *, outcomes: bool) -> None:
        """Check or validate every row. Raises ContractError: too many are not valid."""
        self._kinds = self._kinds_of(outcomes=outcomes)
        reader = Reader(self._config, self._kinds, self._dead, self._loaded.rejections, self._moment)
        name, of = self._source.name, self._source.rows
        try:
            for batch in _prefetched(self._source):
                reader.read(batch, name)
                self._show(Progress("read", reader.rows, of if self._source.is_exact else max(of, reader.rows)))
            self._loaded.rejections.check(name, reader.rows, ended=True)
        except ContractError as error:
            raise type(error)(f"load: {error}. Nothing was loaded") from error
        if self._source.is_exact and reader.rows != of:
            raise StoreError(f"load: {name}: expected {of} rows by its metadata; got {reader.rows}. Nothing was loaded")

    def store(self) -> Loaded:
        """Write the valid rows that the tables do not have yet, then the dead letters."""
        writer = TableWriter(self._config, self._groups, self._moment)
        main, late = self._kinds.main, self._kinds.late
        answered = self._answered() if self._kinds.answers is not None else None
        self._write(writer, main, answered)
        if answered is not None:
            # Events that are in the table already get their answer too: the fleet may have answered them as well.
            target = Target(tables.INCUMBENT, main.topic, None)
            rows = writer.store(answered, target, None, self._stored(tables.INCUMBENT))
            if rows or self._source.columns is not None:  # any JSON line might have had an answer
                self._loaded.added[tables.INCUMBENT.name] = rows
        if late is not None:
            self._write(writer, late, None)
        self._loaded.added[tables.DEAD_LETTERS.name] = self._dead.store(FleetStore.of(self._config), self._moment)
        return self._loaded

    def _write(self, writer: TableWriter, kind: Kind, answered: Spool | None) -> None:
        columns = kind.checker.columns
        target = Target(columns.base, kind.topic, columns.stored_time)
        valid = kind.spool.rows
        rows = writer.store(kind.spool, target, answered, self._stored(columns.base))
        self._loaded.added[columns.base.name] = rows
        self._loaded.duplicates[columns.base.name] = valid - rows

    def _kinds_of(self, *, outcomes: bool) -> Kinds:
        if outcomes:
            return Kinds(self._kind(outcome_columns(self._config), ""))
        events = event_columns(self._config)
        is_answered = self._has(ANSWER) and may_be_answer(self._config, self._source.columns)
        answers = Answers(self._config, events.rules, self._source.name) if is_answered else None
        main = self._kind(events, "", *([answers.field] if answers is not None else []))
        outcomes_ = outcome_columns(self._config)
        label = outcomes_.rules.rule_of(self._config.fleet.target)
        is_late = not self._config.has_label_in_event and self._has(label.source)
        return Kinds(main, self._kind(outcomes_, "#outcomes") if is_late else None, answers)

    def _has(self, source: str) -> bool:
        """Whether the source has, or may have, a column of this name, or one that its path reaches into."""
        columns = self._source.columns
        return columns is None or source in columns or source.partition(".")[0] in columns

    def _kind(self, columns: Columns, suffix: str, *carried: pa.Field) -> Kind:
        checker = Checker(self._config, columns, self._groups, self._moment)
        schema = columns.schema(*carried)
        spool = Spool(self._scratch / columns.base.name, schema, self._groups, self._source.rows)
        return Kind(checker, spool, f"load:{self._source.name}{suffix}")

    def _answered(self) -> Spool:
        answer = self._kinds.main.spool.schema.field(ANSWER)
        schema = pa.schema([(GROUP, pa.int64()), (PLACE, pa.int64()), ("event_id", pa.string()), answer])
        return Spool(self._scratch / tables.INCUMBENT.name, schema, self._groups, self._kinds.main.spool.rows)

    def _stored(self, base: Contract) -> Callable[[int, int], None]:
        return lambda rows, of: self._show(Progress(base.name, rows, of))


def _prefetched(source: Source) -> Iterator[RowBatch]:
    """The source's batches, read one ahead in a thread. Raises ContractError for a damaged file."""
    batches = source.batches()
    with ThreadPoolExecutor(1) as pool:
        coming: Any = pool.submit(next, batches, None)
        while True:
            batch = coming.result()
            if batch is None:
                return
            coming = pool.submit(next, batches, None)
            yield batch
