"""Estimate the time, memory and storage of a batch by fitting a sample. Nothing is stored.

Samples of growing size are fitted as in the batch, after a first one for warming up. The difference between the first
and the last is what groups and their rows cost; the rest is the cost per part, whatever its size.
"""

from __future__ import annotations

import io
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from pyspark.sql import SparkSession

from batch.group_selection import BatchView, Scope, initial_pace, plan_verdicts
from batch.recipe_changes import recipe_changes
from schemas import tables
from schemas.contract import Contract
from spinney.core.config import Config
from spinney.core.durations import format_seconds
from spinney.core.keys import is_parent, parent_values
from spinney.core.planning.parts import PartPacing, next_part
from spinney.core.recipes.recipe import Recipe
from spinney.retraining import round_gate
from spinney.retraining.event_counting import EVENTS
from spinney.retraining.group_fitting import BLOCK_ROWS, KEPT
from spinney.retraining.parent_champions import PlannedChampions, with_parents
from spinney.retraining.round_fitting import fit_plan, fitter_of
from spinney.retraining.round_plan import parse_numbers, pooling_ends, predecessor_columns
from spinney.retraining.round_record import failed_count
from spinney.retraining.round_request import RoundRequest
from spinney.spark.session import apply_required_settings, cores_of, session
from spinney.storage import charter, signing_key
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

_TIME = pa.timestamp("us", "UTC")

SMALL_SAMPLE_GROUPS = 60
"""Groups of the smaller sample."""

MAX_SAMPLE_SECONDS = 15.0
"""Longest time that a larger sample should take, predicted from the smaller ones."""

MAX_SAMPLE_GROUPS = 16_000
MAX_SAMPLE_GROWTH = 8
"""Largest ratio of the sizes of two successive samples."""

GROUP_ROWS = 60
"""A group without rows costs about as much as this many rows of a group (ridge, 8 features)."""

UNSAMPLED_SECONDS_PER_GROUP = 40e-6
"""What no sample includes: the plan is written and read, the round is recorded and delivered to MLflow. Measured with
200,000 groups."""

RUSAGE_UNIT_BYTES = 1024 if sys.platform != "darwin" else 1


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a batch.

    groups: including parents. seconds: wall-clock time once Spark has started, in `parts` parts. memory_bytes: peak
    resident memory of all Python workers together. table_bytes: added to `models` and `promotions`. sample: groups that
    were fitted for the estimate; failed: those of them that failed. changes: what will be compared after a change of
    the recipe, one text each. refusal: why the batch does not run without `unproven`.
    """

    groups: int
    seconds: float
    parts: int
    memory_bytes: int
    table_bytes: int
    sample: int
    failed: int
    changes: tuple[str, ...] = ()
    refusal: str | None = None

    def __str__(self) -> str:
        parts = "1 part" if self.parts == 1 else f"{self.parts} parts"
        whole = (
            f"{self.groups:,} groups: about {format_seconds(self.seconds)} in {parts}, "
            f"{self.memory_bytes / 1e6:,.0f} MB of memory in Python workers, {self.table_bytes / 1e6:,.1f} MB more in "
            f"tables; by a sample of {self.sample:,}, of which {self.failed:,} failed"
        )
        refused = [f"it would be refused: {self.refusal}"] if self.refusal else []
        return "\n".join([whole, *self.changes, *refused])


def estimate(
    config: Config, groups: Sequence[str] | None = None, *, stale: bool = False, spark: SparkSession | None = None
) -> Estimate:
    """Return the estimate of `weekly.retrain` with the same arguments. Raises the same errors, except Busy."""
    spark = apply_required_settings(spark) if spark else session(config)
    store = FleetStore.of(config)
    charter.check_unchanged(store)
    start = time.perf_counter()
    view = BatchView.now_of(store)
    scope = Scope.of(groups, stale=stale)
    rows = plan_verdicts(lambda: spark, config, scope, view)
    changes = recipe_changes(config, signing_key.load_signer(store), rows, scope, view)
    plan, mean_ms = sampling_order(rows, config.recipe.window_rows)
    planning = time.perf_counter() - start
    if not len(plan):
        return Estimate(0, planning, 0, 0, 0, 0, 0)
    pace, pooling_rows = initial_pace(cores_of(spark), config.budget, mean_ms), config.recipe.pooling_rows
    found = predict_costs(_Sampler(spark, config, view).sample, plan, pace, cores_of(spark), pooling_rows)
    return replace(found, seconds=planning + found.seconds, changes=changes.lines, refusal=changes.refusal)


def predict_costs(
    sample: Callable[[pd.DataFrame], Sample],
    plan: pd.DataFrame,
    pace: PartPacing,
    cores: int,
    pooling_rows: float | str | None = None,
) -> Estimate:
    """Return the estimate of a batch without its planning.

    sample: fits the groups of a plan and returns what that cost. plan: from `sampling_order`. pace: the initial one.
    pooling_rows: of the recipe.
    """
    warm = sample(plan.head(SMALL_SAMPLE_GROUPS))
    are_parents = plan["group_key"].map(is_parent).to_numpy(bool)
    models = [_CostModel.of(sample, plan[is_kind]) for is_kind in (are_parents, ~are_parents) if is_kind.any()]
    warming = max(warm.seconds - models[-1].small_sample.seconds, 0.0)
    parents = sorted(plan["group_key"][are_parents], key=lambda key: len(parent_values(key)))
    parts = _count_parts(len(plan), len(parents), models[-1], pace, pooling_ends(parents, pooling_rows))
    unsampled = UNSAMPLED_SECONDS_PER_GROUP * len(plan)
    return Estimate(
        groups=len(plan),
        seconds=warming + unsampled + _total_cost(models, parts, "seconds"),
        parts=parts,
        memory_bytes=int(cores * max(model.peak_bytes(cores) for model in models)),
        table_bytes=int(_total_cost(models, parts, "bytes")),
        sample=sum(model.large_sample.groups for model in models),
        failed=sum(model.large_sample.failed for model in models),
    )


def sampling_order(rows: pa.Table, window_rows: int) -> tuple[pd.DataFrame, float | None]:
    """Return the requested groups in sampling order, and the mean duration of their last fits in ms; None without any.

    Groups are sorted by shard, and in a fixed random order within a shard. A sample is the first groups of this order.
    Shards are hashes of the keys, so the groups of the first shards are a random sample. A sample must not jump between
    shards: the tables are clustered by shard, and a task reads the whole range from its first to its last shard. With
    shards in random order, each sample read nearly the whole table, which was then counted as the fixed cost of each
    part (a million groups: 949 s were predicted, 282 s were measured). With groups from all shards, each group would
    cost a row group of its own to read (66 times the time).
    """
    known = rows.select(["shard", "group_key", "epoch", "predicted_ms", "model_id", "numbers"])
    plan = known.rename_columns({"model_id": "champion_id"}).to_pandas()
    plan["lot"] = [xxhash.xxh64_intdigest(f"sample {key}".encode()) for key in plan["group_key"]]
    plan = plan.sort_values(["shard", "lot", "group_key"], ignore_index=True)
    plan[EVENTS] = pd.array([None] * len(plan), dtype="Int64")
    numbers = parse_numbers(plan["numbers"])
    plan = plan.assign(**predecessor_columns(numbers, plan.index))
    plan[WORK] = [GROUP_ROWS + min(of_group.get(EVENTS) or 0, window_rows) for of_group in numbers]
    mean_ms = plan["predicted_ms"].mean()
    columns = [*round_gate.PLAN_COLUMNS, EVENTS, WORK]
    return plan.assign(pinned=False)[columns], None if pd.isna(mean_ms) else float(mean_ms)


WORK = "work"
"""Column of a plan: the rows that a group has in its window, and GROUP_ROWS. Its cost is about proportional to it."""


@dataclass(frozen=True)
class Sample:
    """The cost of fitting some groups.

    work: sum of WORK. rows: used for fitting. bytes: in tables. peak_bytes: resident in one worker.
    """

    groups: int
    work: float
    seconds: float
    rows: int
    bytes: int
    peak_bytes: int
    failed: int


@dataclass(frozen=True)
class _Sampler:
    """Fits groups as a batch would, and measures the cost."""

    spark: SparkSession
    config: Config
    view: BatchView

    def sample(self, plan: pd.DataFrame) -> Sample:
        view = self.view
        request = RoundRequest("sample", len(plan), 0, {}, view.clock, view.now, None, 0.0, view.pins)
        began = time.perf_counter()
        store = FleetStore.of(self.config)
        signer = signing_key.load_signer(store)
        plan = with_parents(plan, PlannedChampions(store, view.pins), self.config.recipe.pooling_rows)
        fitter = fitter_of(store, signer, Recipe.of(self.config), self.config.recipe, request)
        fitted = fit_plan(self.spark, plan, fitter).toArrow()
        fitted = fitted.filter(pc.not_equal(fitted.column("status"), KEPT))
        models = fitted.append_column("shard", pa.repeat(pa.scalar(0, pa.int32()), fitted.num_rows))
        models = models.append_column("fitted_at", pa.repeat(pa.scalar(view.now, _TIME), fitted.num_rows))
        decided = round_gate.RoundGate(self.config.gate).decide_all(models, plan)
        other_files = (cores_of(self.spark) - 1) * _parquet_bytes(models.slice(0, 0), tables.MODELS)  # one per task
        size = _parquet_bytes(models, tables.MODELS) + other_files + _parquet_bytes(decided, tables.PROMOTIONS)
        return Sample(
            groups=len(plan),
            work=float(plan[WORK].sum()),
            seconds=time.perf_counter() - began,
            rows=pc.sum(fitted.column("rows")).as_py() or 0,
            bytes=size,
            peak_bytes=worker_peak_bytes(self.spark),
            failed=failed_count(fitted.column("status").to_pandas()),
        )


def worker_peak_bytes(spark: SparkSession) -> int:
    """Return the largest resident memory so far of a Python worker, or of the child process that fits for it."""
    tasks = cores_of(spark)
    found = spark.range(0, tasks, 1, tasks).mapInArrow(_peaks, "peak bigint").collect()
    return max(int(row["peak"]) for row in found)


def _peaks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield this worker's peak.

    The child process begins as a copy of its worker, so their shared memory counts once.
    """
    for _ in batches:
        most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        yield pa.RecordBatch.from_pydict({"peak": [most * RUSAGE_UNIT_BYTES]})


def _parquet_bytes(rows: pa.Table, contract: Contract) -> int:
    """Return the size of the rows as a file with all columns of the table: in a small one those take the most."""
    file, schema = io.BytesIO(), arrow_schema(contract)
    columns = [
        rows.column(field.name) if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    pq.write_table(pa.table(columns, schema=schema), file, compression="snappy")
    return file.tell()


def next_sample_size(samples: Sequence[tuple[int, float]], available: int) -> int | None:
    """Return how many groups to sample next, or None if the samples show the cost per group.

    samples: groups and seconds of each, smallest first. available: groups of the plan. Reading costs seconds whatever
    the number of groups. Until a sample takes twice as long as the first, it shows that cost and its noise rather than
    the groups: a million groups were once predicted to take eleven times as long as they did.
    """
    (first_groups, first_seconds), (groups, seconds) = samples[0], samples[-1]
    if groups >= available or groups < first_groups:
        return None
    if len(samples) == 1:
        # At least four times as many: a smaller difference would be lost in noise.
        affordable = max(4 * groups, int(groups * MAX_SAMPLE_SECONDS / max(seconds, 0.1)))
        return min(affordable, MAX_SAMPLE_GROWTH * groups, MAX_SAMPLE_GROUPS, available)
    if seconds >= 2 * first_seconds:
        return None
    slope = max((seconds - first_seconds) / (groups - first_groups), 1e-6)
    affordable = groups + int(max(MAX_SAMPLE_SECONDS - seconds, 0.0) / slope)
    size = min(affordable, MAX_SAMPLE_GROWTH * groups, MAX_SAMPLE_GROUPS, available)
    return size if size >= 2 * groups else None


@dataclass(frozen=True)
class _CostModel:
    """Groups of one kind, and the measured costs of a smaller and a larger sample of them. work: of all groups."""

    groups: int
    work: float
    small_sample: Sample
    large_sample: Sample

    @classmethod
    def of(cls, sample: Callable[[pd.DataFrame], Sample], plan: pd.DataFrame) -> _CostModel:
        small = sample(plan.head(SMALL_SAMPLE_GROUPS))
        samples = [small]
        while size := next_sample_size([(found.groups, found.seconds) for found in samples], len(plan)):
            samples.append(sample(plan.head(size)))
        return cls(len(plan), float(plan[WORK].sum()), small, samples[-1])

    def of_groups(self, measure: str) -> float:
        """Return the cost of all groups without that of their parts."""
        return self._per_work(measure) * self.work

    def per_part(self, measure: str) -> float:
        """Return the cost per part, whatever its size."""
        return float(getattr(self.large_sample, measure) - self._per_work(measure) * self.large_sample.work)

    def _per_work(self, measure: str) -> float:
        """Return the cost per unit of work, at most that of the larger sample divided by its work."""
        large, small = self.large_sample, self.small_sample
        slope = (getattr(large, measure) - getattr(small, measure)) / max(large.work - small.work, 1.0)
        return float(min(max(slope, 0.0), getattr(large, measure) / max(large.work, 1.0)))

    def peak_bytes(self, cores: int) -> float:
        """Return the resident bytes of a worker with a full block of rows."""
        more = (self.large_sample.peak_bytes - self.small_sample.peak_bytes) / max(
            self.large_sample.rows - self.small_sample.rows, 1
        )
        in_all = self.groups * self.large_sample.rows / max(self.large_sample.groups, 1)
        block = min(BLOCK_ROWS * cores, in_all)
        return self.large_sample.peak_bytes + max(more * (block - self.large_sample.rows), 0.0)


def _total_cost(models: Sequence[_CostModel], parts: int, measure: str) -> float:
    """Return the cost of all groups. A part with both kinds has the seconds per part once, and files of both."""
    per_part = [model.per_part(measure) for model in models]
    of_both = sum(per_part) if measure == "bytes" else max(per_part)
    of_parts = of_both if parts == 1 else sum(per_part[:-1]) + (parts - len(models) + 1) * per_part[-1]
    return of_parts + sum(model.of_groups(measure) for model in models)


def _count_parts(total: int, parents: int, groups: _CostModel, pace: PartPacing, apart: Sequence[int]) -> int:
    """Return the number of parts of a batch that starts at this pace and adapts it after each part."""
    part, count = None, 0
    while part := next_part(part, total, parents, pace, apart=apart):
        count += 1
        if part.begin >= parents:
            size = part.end - part.begin
            pace = pace.after(size, groups.per_part("seconds") + groups.of_groups("seconds") * size / groups.groups)
    return count
