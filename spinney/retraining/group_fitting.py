"""Fitting many groups in one call, in supervised worker processes: fit requests in, one row a group out.

Spark only hands out the work. A task reads the rows of its groups and their champions itself, from the files that the
driver named, so that no plan of Spark's can bring rows and requests to different tasks; and it counts what it read
against what the round's plan counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.core.column_names import internal_name
from spinney.core.errors import StoreError
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fit_attempt import COLUMNS
from spinney.retraining import fit_requests, training_tables
from spinney.retraining.fit_requests import CHAMPION, Champions
from spinney.retraining.training_tables import TrainingTables
from spinney.tables.arrow_schemas import to_pandas
from spinney.tables.snapshot import Snapshot
from spinney.workers.fit_block import IS_ASK
from spinney.workers.supervised_fitting import Fits, Supervised
from spinney.workers.worker_process import Limits

BLOCK_ROWS = 50_000
"""Rows handed to a kernel at once: large enough for its per-call cost to vanish, small enough for a worker's memory."""

BLOCK_GROUPS = 5_000
"""Groups handed to a kernel at once, where they have few rows."""

TASK_EVENTS = 2_000_000
"""Events that a task reads, as the plan counted them: some 300 MB of rows of ten columns."""

TASK_GROUPS = 20_000
"""Groups of a task, where the plan did not count their events."""

FITTED = {name: tables.MODELS.column(name).type for name in COLUMNS}
KEPT = "kept"
"""Status of a group whose rows and recipe are its champion's own: nothing was fitted, no row of `models` is written."""

_SCHEMA = pa.schema([(name, arrow_type(type_)) for name, type_ in FITTED.items()])
FITTED_DDL = ", ".join(f"{name} {type_}" for name, type_ in FITTED.items())
TASK_DDL = "task int, requests binary"

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class Fitter:
    """What fitting needs to know; pickled into the workers. models: the tables that hold the champions."""

    recipe: Recipe
    signer: Signer
    clock: datetime
    rows: TrainingTables
    models: tuple[Snapshot, ...]
    limits: Limits = field(default_factory=Limits)

    def fit_tasks(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        """The tasks of a partition, rows of TASK_DDL: one row FITTED per request, in their order."""
        with closing(self.supervised()) as worker:
            for batch in batches:
                for value in batch.column("requests").to_pylist():
                    yield from self._fit_task(fit_requests.read(value), worker)

    def _fit_task(self, requests: pa.Table, worker: Supervised) -> Iterator[pa.RecordBatch]:
        keys = requests.column("group_key").combine_chunks()
        rows = training_tables.rows_of_groups(self.rows, keys, fit_requests.wanted(requests, self.rows.shards))
        refuse_missing(keys.to_pylist(), requests.column("events").to_pylist(), rows.events.tolist())
        champions = self.champions(requests)
        for first, stop in pieces(np.diff(rows.starts)):
            mine = rows.table.slice(int(rows.starts[first]), int(rows.starts[stop] - rows.starts[first]))
            owners = np.repeat(np.arange(first, stop), np.diff(rows.starts[first : stop + 1]))
            yield from fitted(block(mine, keys.take(pa.array(owners)), champions.of(first, stop)), worker).to_batches()

    def champions(self, requests: pa.Table) -> Champions:
        mine = fit_requests.wanted(requests, self.rows.shards)
        files = [path for table in self.models for path in table.files_for(mine)]
        return Champions(files, requests)

    def supervised(self) -> Supervised:
        return Supervised(Fits(self.recipe, self.clock, self.signer, self.limits), parted)


@dataclass(frozen=True)
class Output:
    """What a task makes of the rows FITTED of its groups: the rows themselves, unless said otherwise."""

    ddl: str = FITTED_DDL
    made_of: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]] = iter


def fit_groups(spark: SparkSession, requests: pa.Table, fitter: Fitter, cores: int, output: Output) -> DataFrame:
    """What `output` makes of FITTED, one row per request, lazily. requests: fit_requests.REQUEST, of groups.

    Raises StoreError in its tasks when a group's events are not those that the plan counted.
    """
    made_of = output.made_of
    return _sent(spark, tasks(requests, cores)).mapInArrow(lambda rows: made_of(fitter.fit_tasks(rows)), output.ddl)


def tasks(requests: pa.Table, cores: int) -> list[pa.Table]:
    """The requests, sorted by shard and key and cut into tasks: as few as the cores need, unless they grow too large.

    A task reads every file that its shards may be in, so fewer tasks read less.
    """
    ordered = requests.sort_by([("shard", "ascending"), ("group_key", "ascending")])
    events = ordered.column("events").fill_null(TASK_EVENTS // TASK_GROUPS).to_numpy().astype(np.int64)
    total = int(events.sum())
    few = 1 if len(events) < cores * 10 else cores
    count = max(few, min(len(events), -(-total // TASK_EVENTS)))
    # By events, and every group has a share: one with none must not be left out.
    weight = np.cumsum(events + 1)
    edges = np.searchsorted(weight, weight[-1] * np.arange(1, count) / count).tolist()
    cuts = sorted({0, *edges, len(events)})
    return [ordered.slice(first, stop - first) for first, stop in pairwise(cuts)]


def _sent(spark: SparkSession, parts: Sequence[pa.Table]) -> DataFrame:
    """One partition per task. By its number: a hash would put two tasks into one partition and none into another."""
    values = [fit_requests.written(each) for each in parts]
    frame = spark.createDataFrame(list(enumerate(values)), TASK_DDL)
    return frame.repartitionById(len(values), "task")


def tasks_here(requests: pa.Table) -> list[pa.RecordBatch]:
    """The requests as `Fitter.fit_tasks` takes them, for this process."""
    values = [fit_requests.written(each) for each in tasks(requests, cores=1)]
    return [pa.RecordBatch.from_pydict({"requests": pa.array([value], pa.binary())}) for value in values]


def refuse_missing(keys: Sequence[str], planned: Sequence[int | None], read: Sequence[int]) -> None:
    """Raises StoreError where not as many events were read of a group as the plan counted."""
    for key, expected, found in zip(keys, planned, read, strict=True):
        if expected is not None and expected != found:
            raise StoreError(
                f"group {key}: expected the {expected} events that the round's plan counted in the table events; read "
                f"{found}. Nothing was decided about it: the round stops here. Run the command again; if it happens "
                "again, run `spinney check` and report it"
            )


def pieces(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Consecutive groups whose rows are handed over together: from the first to before the stop. sizes: rows each."""
    first = rows = 0
    for at, size in enumerate(sizes.tolist()):
        if at > first and (rows + size > BLOCK_ROWS or at - first >= BLOCK_GROUPS):
            yield first, at
            first, rows = at, 0
        rows += size
    if len(sizes) > first:
        yield first, len(sizes)


def block(rows: pa.Table, group_keys: pa.Array, champions: pa.Table) -> pa.Table:
    """Rows and requests of some groups in one table, as `parted` takes it apart.

    rows: training columns; group_keys: of each row; champions: group_key and CHAMPION, one row per request.
    """
    of_rows = rows.add_column(0, "group_key", group_keys)
    told = champions.rename_columns({name: internal_name(name) for name in CHAMPION})
    flag = {True: pa.array([True] * champions.num_rows), False: pa.array([False] * rows.num_rows)}
    parts = [of_rows.append_column(IS_ASK, flag[False]), told.append_column(IS_ASK, flag[True])]
    names = [*of_rows.column_names, *map(internal_name, CHAMPION), IS_ASK]
    whole = pa.concat_tables(parts, promote_options="default")
    return whole.select(names)


def parted(block: pa.Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows and the requests of a block. By one thread: a forked process has no others."""
    is_ask = block.column(IS_ASK)
    champion = {internal_name(name): name for name in CHAMPION if internal_name(name) in block.column_names}
    rows = block.filter(pc.invert(is_ask)).drop_columns([IS_ASK, *champion])
    requests = block.filter(is_ask).select(["group_key", *champion]).rename_columns(champion)
    return to_pandas(rows), to_pandas(requests)


def fitted(block: pa.Table, worker: Supervised) -> pa.Table:
    """One row per request of the block, in their order. Raises StoreError when one is missing."""
    found = worker.fit(block)
    parts = [pa.Table.from_pandas(each[list(FITTED)], schema=_SCHEMA, preserve_index=False) for _, each in found]
    places = [place for piece, _ in found for place in piece]
    asked = int(pc.sum(block.column(IS_ASK)).as_py() or 0)
    if sorted(places) != list(range(asked)):
        raise StoreError(f"fit: expected one result for each of {asked} requests; got {len(places)}. Report this")
    whole = pa.concat_tables([_SCHEMA.empty_table(), *parts])
    return whole.take(pa.array(np.argsort(places), pa.int64()))
