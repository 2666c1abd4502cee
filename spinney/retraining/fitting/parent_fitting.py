"""Fit parents. Their groups are in all shards, so their rows come from several tasks, unless one process reads all.

Each reading task samples some shards, and all samples of a parent are sent to one task, by its number. Each sample has
the number of events that it was drawn from. If a sample is missing, or fewer events were read than the plan counted,
the round fails.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from spinney.core.arrow_types import arrow_type
from spinney.core.errors import StoreError
from spinney.core.internal_column_names import internal_name
from spinney.core.training.parent_row_lineage import ORIGIN
from spinney.retraining.fitting import fit_request_table, parent_samples, training_row_reader
from spinney.retraining.fitting.fit_request_table import PARENT_COLUMNS
from spinney.retraining.fitting.parent_champions import ParentChampions
from spinney.retraining.fitting.spark_fitting import (
    BLOCK_ROWS,
    TASK_EVENTS,
    Batches,
    Fitter,
    TaskOutput,
    fit_one_block,
    require_planned_events,
)
from spinney.retraining.fitting.training_row_reader import TrainingTables
from spinney.spark.arrow_frames import frame_of_table
from spinney.tables.snapshot import ShardRange
from spinney.workers.group_block import FitTables
from spinney.workers.supervised_fitting import SupervisedFitter

_TASK, _KEY, _COUNTED = internal_name("task"), "group_key", internal_name("events")

_RANGE_SCHEMA = pa.schema([(name, pa.int32()) for name in ("task", "first", "last")])
BATCH_ROWS = 10_000
"""Rows per batch if one process reads everything; Spark's own size. Blocks end at the end of a batch."""


@dataclass(frozen=True)
class _ParentSampling:
    """Reads each parent's sample from a range of shards.

    of_task: for each parent, the number of the task that fits it.
    """

    rows: TrainingTables
    parents: tuple[str, ...]
    of_task: tuple[int, ...]

    @property
    def types(self) -> dict[str, str]:
        own = {_TASK: "int", _KEY: "string", _COUNTED: "bigint", ORIGIN: "string"}
        return {**own, **self.rows.types}

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, arrow_type(kind)) for name, kind in self.types.items()])

    @property
    def ddl(self) -> str:
        return ", ".join(f"`{name}` {kind}" for name, kind in self.types.items())

    def read(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the samples, and for each parent a row with the number of events, which may be 0."""
        for batch in batches:
            for first, last in zip(batch["first"].to_pylist(), batch["last"].to_pylist(), strict=True):
                rows, counts = parent_samples.read_parent_rows(self.rows, self.parents, ShardRange(first, last))
                yield from self._sample_rows(rows.column(parent_samples.PARENT).to_numpy(), None, rows).to_batches()
                yield from self._sample_rows(np.arange(len(self.parents)), counts, None).to_batches()

    def _sample_rows(self, parents: np.ndarray, counts: np.ndarray | None, rows: pa.Table | None) -> pa.Table:
        place = pa.array(parents, pa.int64())
        columns: dict[str, pa.Array] = {
            _TASK: pa.array(self.of_task, pa.int32()).take(place),
            _KEY: pa.array(self.parents, pa.string()).take(place),
        }
        for field in self.schema:
            if field.name == _COUNTED and counts is not None:
                columns[field.name] = pa.array(counts, pa.int64())
            elif field.name not in columns:
                columns[field.name] = pa.nulls(len(place), field.type) if rows is None else _or_null(rows, field)
        return pa.table([columns[field.name] for field in self.schema], schema=self.schema)


def _or_null(rows: pa.Table, wanted: pa.Field) -> pa.ChunkedArray | pa.Array:
    return rows.column(wanted.name) if wanted.name in rows.column_names else pa.nulls(rows.num_rows, wanted.type)


@dataclass(frozen=True)
class _ParentFitting:
    """Fits the parents whose samples a partition received. counts: number of shard ranges that report each parent."""

    fitter: Fitter
    requests: bytes
    of_task: Mapping[str, int]
    counts: int

    def fit(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        with closing(self.fitter.make_worker()) as worker:
            for rows in whole_groups(batches):
                yield from self._fit_some(rows, worker)

    def _fit_some(self, rows: pa.Table, worker: SupervisedFitter) -> Iterator[pa.RecordBatch]:
        """Fit some parents. rows: all their rows, sorted by key."""
        keys = pc.unique(rows.column(_KEY))
        if len({self.of_task[key] for key in keys.to_pylist()}) > 1:
            raise StoreError("parents: expected the parents of one task; got others too. Report this")
        requests = fit_request_table.deserialize(self.requests)
        parent_requests = requests.take(pc.index_in(keys, value_set=requests.column("group_key").combine_chunks()))
        self._require_complete(keys, parent_requests, rows.filter(rows.column(_COUNTED).is_valid()))
        data = rows.filter(rows.column(_COUNTED).is_null())
        place = pc.index_in(data.column(_KEY), value_set=keys).cast(pa.int64())
        chosen = parent_samples.cut_samples(data.append_column(parent_samples.PARENT, place), self.fitter.rows.max_rows)
        owners = chosen.column(_KEY).combine_chunks()
        champions = self.fitter.champions(parent_requests).of(0, parent_requests.num_rows)
        training_rows = chosen.select([ORIGIN, *self.fitter.rows.schema.names]).add_column(0, "group_key", owners)
        for name, column in zip(PARENT_COLUMNS, self._priors(parent_requests).columns, strict=True):
            champions = champions.append_column(name, column)
        yield from fit_one_block(FitTables(training_rows, champions), worker).to_batches()

    def _priors(self, requests: pa.Table) -> pa.Table:
        """The champions of the parents' own parents."""
        return ParentChampions(self.fitter.models, requests, self.fitter.rows.shards).of(0, requests.num_rows)

    def _require_complete(self, keys: pa.Array, requests: pa.Table, counts: pa.Table) -> None:
        totals = counts.group_by(_KEY).aggregate([(_COUNTED, "sum"), (_COUNTED, "count")])
        order = pc.index_in(keys, value_set=totals.column(_KEY).combine_chunks())
        reports = totals.column(f"{_COUNTED}_count").take(order).to_pylist()
        for key, reported in zip(keys.to_pylist(), reports, strict=True):
            if reported != self.counts:
                raise StoreError(
                    f"parent {key}: expected {self.counts} shard ranges to report its rows to one task; got {reported}."
                    " Nothing was decided about it: the round stops here. Report this"
                )
        events = totals.column(f"{_COUNTED}_sum").take(order).to_pylist()
        require_planned_events(keys.to_pylist(), requests.column("events").to_pylist(), events)


def fit_parents(spark: SparkSession, requests: pa.Table, fitter: Fitter, cores: int, output: TaskOutput) -> DataFrame:
    """Return a lazy Spark frame that fits the requests and returns `output`. requests: REQUEST_SCHEMA, only parents.

    Its tasks raise StoreError if samples or events of a parent are missing.
    """
    parents = tuple(requests.column("group_key").to_pylist())
    count = parent_tasks(len(parents), cores)
    of_task = tuple(at % count for at in range(len(parents)))
    stored = fitter.rows.events.rows
    ranges = list(training_row_reader.shard_ranges(fitter.rows.shards, max(cores, -(-stored // TASK_EVENTS))))
    sampling = _ParentSampling(fitter.rows, parents, of_task)
    read = [{"task": at, "first": shards.first, "last": shards.last} for at, shards in enumerate(ranges)]
    frame = frame_of_table(spark, pa.Table.from_pylist(read, _RANGE_SCHEMA)).repartitionById(len(read), "task")
    samples = frame.mapInArrow(sampling.read, sampling.ddl)
    fitting = _ParentFitting(
        fitter, fit_request_table.serialize(requests), dict(zip(parents, of_task, strict=True)), len(ranges)
    )
    ordered = samples.repartitionById(count, f"`{_TASK}`").sortWithinPartitions(_KEY)
    transform = output.transform
    return ordered.mapInArrow(lambda rows: transform(fitting.fit(rows)), output.ddl)


def parent_tasks(parents: int, cores: int) -> int:
    """Return the number of tasks that fit this many parents."""
    return min(cores, parents)


def fit_parents_locally(requests: pa.Table, fitter: Fitter) -> Iterator[pa.RecordBatch]:
    """Fit parents in this process: one result per request, with the same samples and models as by `fit_parents`.

    Raises StoreError if another number of a parent's events is read than the plan counted.
    """
    parents = tuple(requests.column("group_key").to_pylist())
    of_task = (0,) * len(parents)
    sampling = _ParentSampling(fitter.rows, parents, of_task)
    all_shards = pa.RecordBatch.from_pydict({"first": [0], "last": [fitter.rows.shards - 1]})
    samples = pa.Table.from_batches(sampling.read([all_shards]), sampling.schema).sort_by(_KEY)
    fitting = _ParentFitting(
        fitter, fit_request_table.serialize(requests), dict(zip(parents, of_task, strict=True)), counts=1
    )
    yield from fitting.fit(samples.to_batches(max_chunksize=BATCH_ROWS))


def whole_groups(batches: Batches, block_rows: int = BLOCK_ROWS) -> Iterator[pa.Table]:
    """Cut a stream of rows sorted by group_key into blocks that hold whole groups."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        held.append(batch)
        if sum(table.num_rows for table in held) < block_rows:
            continue
        table = pa.Table.from_batches(held)
        cut = _start_of_last_group(table)
        if cut:
            yield table.slice(0, cut)
            held = table.slice(cut).combine_chunks().to_batches()
    if held:
        yield pa.Table.from_batches(held)


def _start_of_last_group(table: pa.Table) -> int:
    """The first row of the last group, by bisection: the keys are sorted by their bytes, as Spark sorts them."""
    keys = table.column("group_key").combine_chunks()
    last = keys[len(keys) - 1].as_py().encode()
    return bisect_left(range(len(keys)), last, key=lambda at: keys[at].as_py().encode())
