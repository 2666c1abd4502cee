"""Estimate the time, memory and storage of a batch by fitting samples of its groups. Nothing is stored."""

from __future__ import annotations

import io
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from pyspark.sql import SparkSession

from batch.cost_prediction import COUNTED, GROUP_ROWS, WORK, Estimate, Sample, predict_costs
from batch.group_selection import BatchView, Scope, initial_pace, plan_verdicts
from batch.recipe_changes import recipe_changes
from schemas import tables
from schemas.contract import Contract
from spinney.core.config import Config
from spinney.core.recipes.recipe import Recipe
from spinney.retraining import round_gate
from spinney.retraining.event_counting import EVENTS
from spinney.retraining.parent_champions import PlannedChampions, with_parents
from spinney.retraining.round_fitting import fit_plan, fitter_of
from spinney.retraining.round_plan import parse_numbers, predecessor_columns
from spinney.retraining.round_record import failed_count
from spinney.retraining.round_request import RoundRequest
from spinney.retraining.spark_fitting import KEPT, UNCOUNTED_EVENTS
from spinney.spark.session import apply_required_settings, cores_of, session
from spinney.storage import charter, signing_key
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

_TIME = pa.timestamp("us", "UTC")

RUSAGE_UNIT_BYTES = 1024 if sys.platform != "darwin" else 1


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
    plan[COUNTED] = [of_group.get(EVENTS, UNCOUNTED_EVENTS) for of_group in numbers]
    columns = [*round_gate.PLAN_COLUMNS, EVENTS, WORK, COUNTED]
    return plan.assign(pinned=False)[columns], None if pd.isna(mean_ms) else float(mean_ms)


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
        return Sample(
            groups=len(plan),
            work=float(plan[WORK].sum()),
            seconds=time.perf_counter() - began,
            rows=pc.sum(fitted.column("rows")).as_py() or 0,
            bytes=_parquet_bytes(models, tables.MODELS) + _parquet_bytes(decided, tables.PROMOTIONS),
            file_bytes=_parquet_bytes(models.slice(0, 0), tables.MODELS),
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
