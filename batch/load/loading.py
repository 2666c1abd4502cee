"""The steps of a load: read and check batches, validate doubtful rows in Spark, merge, write."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batch.load import incumbent_answers, sources
from batch.load.column_checks import GROUP, PLACE, Checker, event_columns, outcome_columns
from batch.load.groups import Groups
from batch.load.incumbent_answers import ANSWER
from batch.load.late_labels import labelled
from batch.load.record_kinds import RecordKind
from batch.load.sources import OnlySpark, Source
from batch.load.spool import Spool
from batch.load.table_writer import TableWriter, Target
from batch.load.typed_columns import plain
from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.stores import charter, delta, layout, leases
from spinney.stores.arrow import arrow_type
from spinney.stores.storage import folder

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from batch.load.spark_validation import Validated

    Start = Callable[[], SparkSession]

SCRATCH = "loading"
"""Folder below the root for temporary files; removed at the end of a load."""


@dataclass
class Loaded:
    """Rows added by table; rows that were there already are not counted."""

    added: dict[str, int] = field(default_factory=dict)

    def add(self, base: Contract, rows: int) -> None:
        self.added[base.name] = self.added.get(base.name, 0) + rows


@dataclass(frozen=True)
class Progress:
    """stage: ``read``, ``validated row by row`` or the table being written. rows: done so far, out of `of`."""

    stage: str
    rows: int
    of: int


Show = Callable[[Progress], None]


def load(
    config: Config,
    source: str,
    *,
    outcomes: bool = False,
    spark: SparkSession | Start | None = None,
    show: Show | None = None,
) -> Loaded:
    """Load one Parquet file or folder, or Delta table.

    source: columns as the messages have them. outcomes: its rows are outcomes, not events. Where labels come late and
    the rows of events have the target, they are loaded as outcomes too, observed at their `observed_at` or
    `label_delay` after the event. A column `prediction` of events, if the fleet declares none of that name, is what the
    present system answered: it becomes the incumbent's. spark: a session, or a function that starts one; it is called
    only when rows have to be validated by Spark.

    Among rows with the same group and id, the one with the earliest event_time (observed_at for outcomes) is loaded;
    among equal times, the first in the source.

    Raises StoreError: nothing there, or not one of these formats; Busy: ingest is running.
    """
    found = _checked_type(sources.opened(source), config, outcomes=outcomes)
    # The directories are ingest's: it must not run meanwhile.
    with leases.held(config, [QueryName.INGEST]):
        charter.ensure_fixed(config)
        delta.create_tables(config)
        with _scratch(config) as scratch, ExitStack() as stack:
            this = _Load(config, source, scratch, outcomes=outcomes, show=show or _no_progress)
            start = _starter(config, spark)
            if isinstance(found, OnlySpark):
                this.validate_all(start(), stack)
            else:
                this.read(found)
                this.validate_doubtful(start, stack)
            return this.store()


def _no_progress(progress: Progress) -> None:
    del progress


def _has_answers(names: Iterable[str], config: Config, *, outcomes: bool) -> bool:
    return not outcomes and ANSWER in names and config.fleet.type_of(ANSWER) is None


def _checked_type(found: Source | OnlySpark, config: Config, *, outcomes: bool) -> Source | OnlySpark:
    """The source, or that only Spark reads its answers. Raises StoreError where no answer can be of their type."""
    if isinstance(found, OnlySpark) or not _has_answers(found.schema.names, config, outcomes=outcomes):
        return found
    kind = found.schema.field(ANSWER).type
    name = incumbent_answers.spark_name(kind)
    if name is None:
        return OnlySpark(found.name, f"column {ANSWER} of type {kind}")
    incumbent_answers.refuse_other_type(name, config, found.name)
    return found


def _starter(config: Config, spark: SparkSession | Start | None) -> Start:
    def start() -> SparkSession:
        from spinney.stores.spark import session, with_required

        if spark is None:
            return session(config)
        return with_required(spark() if callable(spark) else spark)

    return start


@contextmanager
def _scratch(config: Config) -> Iterator[Path]:
    """An empty temporary folder. Files left by a killed load are deleted; the lease excludes a running one."""
    place = folder(layout.root(config)) / SCRATCH
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class _Load:
    """One load. scratch: an empty folder for temporary files."""

    def __init__(self, config: Config, source: str, scratch: Path, *, outcomes: bool, show: Show) -> None:
        self._config, self._source, self._scratch, self._show = config, source, scratch, show
        self._outcomes = outcomes
        self._moment = datetime.now(UTC)
        fleet = config.fleet
        self._groups = Groups([arrow_type(fleet.columns[name]) for name in fleet.group], fleet.shards)
        self._kinds: list[RecordKind] = []
        self._has_answers = False
        self._validated: dict[str, tuple[SparkSession, Validated]] = {}

    def read(self, source: Source) -> None:
        """Check every row of a source that Arrow reads."""
        self._begin(source.schema.names, source.rows)
        first = 0
        for raw in _prefetched(source):
            batch = pa.RecordBatch.from_arrays([plain(column) for column in raw.columns], raw.schema.names)
            place = pa.array(np.arange(first, first + batch.num_rows))
            first += batch.num_rows
            for kind in self._kinds:
                if kind.late:
                    found = labelled(batch, place, self._config)
                    kind.check(found.outcomes, found.raw, found.place)
                elif self._has_answers:
                    said = incumbent_answers.stored(batch.column(ANSWER), self._config, self._source)
                    kind.check(batch, batch, place, {ANSWER: said})
                else:
                    kind.check(batch, batch, place)
            self._show(Progress("read", first, source.rows))
        if first != source.rows:
            raise StoreError(
                f"load: {self._source}: expected {source.rows} rows by its metadata; got {first}. Nothing was loaded"
            )
        for kind in self._kinds:
            kind.close()

    def validate_all(self, spark: SparkSession, stack: ExitStack) -> None:
        """Read and validate the whole source with Spark."""
        from batch.load import spark_validation

        rows = spark_validation.read(spark, self._source)
        self._begin(rows.columns, 0)
        if self._has_answers:
            rows = spark_validation.with_answers(rows, self._config, self._source)
        for kind in self._kinds:
            self._validate(spark, stack, kind, spark_validation.late_labels(rows, self._config) if kind.late else rows)

    def validate_doubtful(self, start: Start, stack: ExitStack) -> None:
        """Validate the doubtful rows with Spark. Does not start Spark when there are none."""
        for kind in [kind for kind in self._kinds if kind.doubtful_rows]:
            from batch.load import spark_validation

            spark = start()
            rows = spark_validation.read(spark, str(kind.doubtful))
            if kind.late:
                rows = spark_validation.late_labels(rows, self._config)
            elif self._has_answers:
                rows = spark_validation.with_answers(rows, self._config, self._source)
            spark_validation.refuse_other_count(
                self._validate(spark, stack, kind, rows), kind.doubtful_rows, self._source
            )

    def store(self) -> Loaded:
        """Write the valid rows that the tables do not have yet, then the dead letters."""
        loaded = Loaded()
        writer = TableWriter(self._config, self._groups, self._moment)
        for kind in self._kinds:
            columns = kind.columns
            answered = self._answered(kind) if self._has_answers and columns.base is tables.EVENTS else None
            target = Target(columns.base, kind.topic, columns.stored_time)
            loaded.add(columns.base, writer.store(kind.spool, target, answered, self._stored(columns.base)))
            if answered is not None:
                # Events that are in the table already get their answer too: the fleet may have answered them as well.
                target = Target(tables.INCUMBENT, kind.topic, None)
                loaded.add(tables.INCUMBENT, writer.store(answered, target, None, self._stored(tables.INCUMBENT)))
            loaded.add(tables.DEAD_LETTERS, self._append_dead(kind))
        return loaded

    def _begin(self, names: Iterable[str], rows: int) -> None:
        self._has_answers = _has_answers(names, self._config, outcomes=self._outcomes)
        late = not self._config.label_inside and self._config.fleet.target in names
        if self._outcomes:
            self._kinds = [self._kind(tables.OUTCOMES, rows)]
        else:
            self._kinds = [
                self._kind(tables.EVENTS, rows),
                *([self._kind(tables.OUTCOMES, rows, late=True)] if late else []),
            ]

    def _kind(self, base: Contract, rows: int, *, late: bool = False) -> RecordKind:
        columns = event_columns(self._config) if base is tables.EVENTS else outcome_columns(self._config)
        carried = [self._answer_field()] if base is tables.EVENTS and self._has_answers else []
        checker = Checker(self._config, columns, self._groups, self._moment)
        spool = Spool(self._scratch / base.name, columns.schema(*carried), self._groups, rows)
        return RecordKind(checker, spool, f"load:{self._source}{'#outcomes' if late else ''}", self._scratch, late=late)

    def _answer_field(self) -> pa.Field:
        return pa.field(ANSWER, arrow_type(layout.answer_type(self._config)))

    def _answered(self, kind: RecordKind) -> Spool:
        schema = pa.schema([(GROUP, pa.int64()), (PLACE, pa.int64()), ("event_id", pa.string()), self._answer_field()])
        return Spool(self._scratch / tables.INCUMBENT.name, schema, self._groups, kind.spool.rows)

    def _validate(self, spark: SparkSession, stack: ExitStack, kind: RecordKind, rows: DataFrame) -> Validated:
        from batch.load import spark_validation

        columns = kind.columns
        found = stack.enter_context(spark_validation.validated(rows, self._config, kind.topic, self._moment, columns))
        self._validated[columns.base.name] = spark, found
        kind.spool.expect(found.rows - found.dead)
        has_answers = self._has_answers and columns.base is tables.EVENTS
        before = kind.spool.rows
        for part in spark_validation.valid(found, self._config, columns, kind.validated, has_answers=has_answers):
            keys = [part[name].combine_chunks() for name in self._config.fleet.group]
            kind.spool.add(part.append_column(GROUP, pa.array(self._groups.of_keys(keys))))
        spark_validation.refuse_other_rows(kind.spool.rows - before, found.rows - found.dead, self._source)
        self._show(Progress("validated row by row", found.rows, found.rows))
        return found

    def _append_dead(self, kind: RecordKind) -> int:
        if kind.columns.base.name not in self._validated:
            return 0
        from batch.load import spark_validation

        spark, found = self._validated[kind.columns.base.name]
        return spark_validation.append_dead(spark, self._config, found, self._moment)

    def _stored(self, base: Contract) -> Callable[[int, int], None]:
        return lambda rows, of: self._show(Progress(base.name, rows, of))


def _prefetched(source: Source) -> Iterator[pa.RecordBatch]:
    """The source's batches, read one ahead in a thread. Raises StoreError for a damaged file."""
    batches = source.batches()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while True:
            try:
                batch = coming.result()
            except (pa.ArrowException, OSError) as error:
                raise sources.unreadable(source.name, error) from error
            if batch is None:
                return
            coming = pool.submit(next, batches, None)
            yield batch
