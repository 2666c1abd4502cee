"""Fit many groups in Spark tasks with supervised worker processes: fit requests in, one row per group out.

Spark only distributes the requests. A task reads its groups' rows and champions itself, from the files that the driver
named, so rows cannot be separated from their request by a Spark plan. It compares the number of rows it read with the
number that the round's plan counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.core.errors import StoreError
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fit_attempt import COLUMNS
from spinney.retraining.fitting import fit_request_table, training_row_reader
from spinney.retraining.fitting.champion_reader import StoredChampions
from spinney.retraining.fitting.fit_request_table import PARENT_COLUMNS
from spinney.retraining.fitting.parent_champions import ParentChampions
from spinney.retraining.fitting.training_row_reader import TrainingTables
from spinney.spark.arrow_frames import frame_of_table
from spinney.tables.snapshot import Snapshot
from spinney.workers.group_block import FitTables
from spinney.workers.supervised_fitting import FitSettings, SupervisedFitter
from spinney.workers.worker_process import Limits

BLOCK_ROWS = 50_000
"""Rows per call of a kernel: enough to make the cost per call negligible, few enough for a worker's memory."""

BLOCK_GROUPS = 5_000
"""Groups per call of a kernel, if they have few rows."""

TASK_EVENTS = 2_000_000
"""Events per task, as the plan counted them: about 300 MB of rows of ten columns."""

TASK_GROUPS = 20_000
"""Groups per task, if the plan did not count their events."""

UNCOUNTED_EVENTS = TASK_EVENTS // TASK_GROUPS
"""Number of events that a group counts as if the plan did not count its events."""

RESULT_TYPES = {name: tables.MODELS.column(name).type for name in COLUMNS}
KEPT = "kept"
"""Status of a group whose rows and recipe are its champion's: nothing is fitted and no row of `models` is written."""

_SCHEMA = pa.schema([(name, arrow_type(type_)) for name, type_ in RESULT_TYPES.items()])
RESULT_DDL = ", ".join(f"{name} {type_}" for name, type_ in RESULT_TYPES.items())
TASK_SCHEMA = pa.schema([("task", pa.int32()), ("requests", pa.binary())])

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class Fitter:
    """Fits the requests of a task. It is pickled and sent to Spark's workers.

    rows: the tables with the training rows. models: the tables with the champions. limits: limits of a worker process.
    """

    recipe: Recipe
    signer: Signer
    clock: datetime
    rows: TrainingTables
    models: tuple[Snapshot, ...]
    limits: Limits = field(default_factory=Limits)

    def fit_tasks(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        """Fit the tasks of a partition, rows of TASK_SCHEMA. Yields one result per request, in their order."""
        with closing(self.make_worker()) as worker:
            for batch in batches:
                for value in batch.column("requests").to_pylist():
                    yield from self._fit_task(fit_request_table.deserialize(value), worker)

    def _fit_task(self, requests: pa.Table, worker: SupervisedFitter) -> Iterator[pa.RecordBatch]:
        keys = requests.column("group_key").combine_chunks()
        rows = training_row_reader.read_group_rows(
            self.rows, keys, fit_request_table.shards_of(requests, self.rows.shards)
        )
        require_planned_events(keys.to_pylist(), requests.column("events").to_pylist(), rows.events.tolist())
        champions, parents = self.champions(requests), ParentChampions(self.models, requests, self.rows.shards)
        for first, stop in block_ranges(np.diff(rows.starts)):
            block_rows = rows.table.slice(int(rows.starts[first]), int(rows.starts[stop] - rows.starts[first]))
            owners = np.repeat(np.arange(first, stop), np.diff(rows.starts[first : stop + 1]))
            block_requests = champions.of(first, stop)
            for name, column in zip(PARENT_COLUMNS, parents.of(first, stop).columns, strict=True):
                block_requests = block_requests.append_column(name, column)
            of_rows = block_rows.add_column(0, "group_key", keys.take(pa.array(owners)))
            yield from fit_one_block(FitTables(of_rows, block_requests), worker).to_batches()

    def champions(self, requests: pa.Table) -> StoredChampions:
        """Return the stored champions of these requests."""
        shards = fit_request_table.shards_of(requests, self.rows.shards)
        files = [path for table in self.models for path in table.files_for(shards)]
        return StoredChampions(files, requests)

    def make_worker(self) -> SupervisedFitter:
        """Return a worker that fits block after block."""
        return SupervisedFitter(FitSettings(self.recipe, self.clock, self.signer, self.limits))


@dataclass(frozen=True)
class TaskOutput:
    """The result of a task, computed from the results of its groups; by default these results.

    ddl: the columns it returns.
    """

    ddl: str = RESULT_DDL
    transform: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]] = iter


def fit_groups(spark: SparkSession, requests: pa.Table, fitter: Fitter, cores: int, output: TaskOutput) -> DataFrame:
    """Return a lazy Spark frame that fits the requests and returns `output`. requests: REQUEST_SCHEMA, of groups only.

    Its tasks raise StoreError if they read another number of a group's events than the plan counted.
    """
    transform = output.transform
    return _one_partition_per_task(spark, cut_into_tasks(requests, cores)).mapInArrow(
        lambda rows: transform(fitter.fit_tasks(rows)), output.ddl
    )


def cut_into_tasks(requests: pa.Table, cores: int) -> list[pa.Table]:
    """Sort the requests by shard and key and cut them into tasks: one per core, or more if tasks would be too large.

    A task reads every file that may have its shards, so fewer tasks read less in total. Tasks have about the same
    number of events. If there are more tasks than cores, their number is a multiple of the cores, so that all cores end
    at about the same time.
    """
    ordered = requests.sort_by([("shard", "ascending"), ("group_key", "ascending")])
    edges = task_edges(ordered.column("events").fill_null(UNCOUNTED_EVENTS).to_numpy().astype(np.int64), cores)
    return [ordered.slice(first, stop - first) for first, stop in pairwise(edges)]


def task_edges(events: np.ndarray, cores: int) -> list[int]:
    """Return the position of each task's first group, and the number of groups as the last entry.

    events: number of events of each group, in the order of shards.
    """
    total = int(events.sum())
    few = 1 if len(events) < cores * 10 else cores
    needed = -(-total // TASK_EVENTS)
    count = max(few, min(len(events), needed if needed <= cores else -(-needed // cores) * cores))
    # Weighted by events, plus one so that a group without events is included.
    weight = np.cumsum(events + 1)
    edges = np.searchsorted(weight, weight[-1] * np.arange(1, count) / count).tolist()
    return sorted({0, *edges, len(events)})


def _one_partition_per_task(spark: SparkSession, parts: Sequence[pa.Table]) -> DataFrame:
    """Return a frame with one partition per task.

    Rows are assigned by number: a hash would put several tasks together.
    """
    values = [fit_request_table.serialize(part) for part in parts]
    tasks = pa.table({"task": range(len(values)), "requests": values}, schema=TASK_SCHEMA)
    return frame_of_table(spark, tasks).repartitionById(len(values), "task")


def task_batches(requests: pa.Table) -> list[pa.RecordBatch]:
    """Return the requests as batches for `Fitter.fit_tasks` in this process."""
    values = [fit_request_table.serialize(part) for part in cut_into_tasks(requests, cores=1)]
    return [pa.RecordBatch.from_pydict({"requests": pa.array([value], pa.binary())}) for value in values]


def require_planned_events(keys: Sequence[str], planned: Sequence[int | None], read: Sequence[int]) -> None:
    """Check that the number of events read of each group equals the number that the plan counted. Raises StoreError.

    planned: None for groups whose events were not counted.
    """
    for key, expected, found in zip(keys, planned, read, strict=True):
        if expected is not None and expected != found:
            raise StoreError(
                f"group {key}: expected the {expected} events that the round's plan counted in the table events; read "
                f"{found}. Nothing was decided about it: the round stops here. Run the command again; if it happens "
                "again, run `spinney check` and report it"
            )


def block_ranges(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges (first, stop) of consecutive groups that are fitted in one call. sizes: rows of each group."""
    first = rows = 0
    for at, size in enumerate(sizes.tolist()):
        if at > first and (rows + size > BLOCK_ROWS or at - first >= BLOCK_GROUPS):
            yield first, at
            first, rows = at, 0
        rows += size
    if len(sizes) > first:
        yield first, len(sizes)


def fit_one_block(block: FitTables, worker: SupervisedFitter) -> pa.Table:
    """Fit a block: one row per request, in their order. Raises StoreError if one is missing."""
    results = worker.fit(block)
    parts = [
        pa.Table.from_pandas(frame[list(RESULT_TYPES)], schema=_SCHEMA, preserve_index=False) for _, frame in results
    ]
    places = [place for piece, _ in results for place in piece]
    n_requests = block.requests.num_rows
    if sorted(places) != list(range(n_requests)):
        raise StoreError(f"fit: expected one result for each of {n_requests} requests; got {len(places)}. Report this")
    whole = pa.concat_tables([_SCHEMA.empty_table(), *parts])
    return whole.take(pa.array(np.argsort(places), pa.int64()))
