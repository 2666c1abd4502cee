"""Estimate the time, memory and storage of a batch by fitting samples of its groups. Nothing is stored."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from pyspark.sql import SparkSession

from batch.cost_prediction import Estimate, predict_costs
from batch.group_selection import BatchView, Scope, initial_pace, plan_verdicts
from batch.recipe_changes import recipe_changes
from batch.sample_model_writing import SAMPLE_DDL, SampleWriter
from batch.sampled_costs import COUNTED, GROUP_ROWS, WORK, Capacity, Sample, held_rows, parent_block_rows
from schemas import tables
from schemas.contract import Contract
from spinney.core.config import Config
from spinney.core.keys import is_parent
from spinney.core.recipes.recipe import Recipe
from spinney.retraining import round_gate
from spinney.retraining.event_counting import EVENTS
from spinney.retraining.fitting.parent_champions import PlannedChampions, with_parents
from spinney.retraining.fitting.parent_fitting import parent_tasks
from spinney.retraining.fitting.spark_fitting import UNCOUNTED_EVENTS, TaskOutput
from spinney.retraining.round_fitting import fit_plan, fitter_of
from spinney.retraining.round_plan import parse_numbers, predecessor_columns
from spinney.retraining.round_record import failed_count
from spinney.retraining.round_request import RoundRequest
from spinney.spark.session import apply_required_settings, cores_of, session, task_slots
from spinney.storage import charter, signing_key
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

DELIVERY_SECONDS = 4.0
"""Seconds of the delivery to MLflow, apart from its time per group: its client is imported and makes 13 calls."""


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
        return Estimate(
            0, planning, 0, 0, 0, 0, 0,
            seconds_low=planning, seconds_high=planning, memory_low_bytes=0, memory_high_bytes=0,
        )  # fmt: skip
    pace, pooling_rows = initial_pace(cores_of(spark), config.budget, mean_ms), config.recipe.pooling_rows
    capacity = Capacity(cores_of(spark), task_slots(spark))
    found = predict_costs(_Sampler(spark, config, view).sample, plan, pace, capacity, pooling_rows)
    delivery = 0.0 if config.tracking.mode == "off" else DELIVERY_SECONDS
    return replace(found.plus(planning + delivery).widened(), changes=changes.lines, refusal=changes.refusal)


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
    numbers = parse_numbers(plan["numbers"])
    plan[EVENTS] = pd.array([of_group.get(EVENTS) for of_group in numbers], dtype="Int64")
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
        """Fit these groups, or parents, and decide about their models."""
        began = time.perf_counter()
        reports = self._fit(plan)
        fitted = time.perf_counter()
        files = reports.column("contents").drop_null().to_pylist()
        models = pa.concat_tables([arrow_schema(tables.MODELS).empty_table(), *map(_models_in, files)])
        decided = round_gate.RoundGate(self.config.gate).decide_all(models, plan)
        promotions_bytes = _parquet_bytes(decided, tables.PROMOTIONS)
        ended = time.perf_counter()
        file_bytes, rows = _parquet_bytes(models.slice(0, 0), tables.MODELS), pc.sum(models.column("rows")).as_py() or 0
        return Sample(
            groups=len(plan),
            work=float(plan[WORK].sum()),
            fit_s=fitted - began,
            gate_s=ended - fitted,
            rows=rows,
            task_rows=self._task_rows(plan, rows),
            bytes=sum(map(len, files)) - max(len(files) - 1, 0) * file_bytes + promotions_bytes,
            file_bytes=file_bytes,
            worker_peak=pc.max(reports.column("worker_peak")).as_py(),
            child_peak=pc.max(reports.column("child_peak")).as_py(),
            failed=failed_count(models.column("status").to_pandas()),
        )

    def _fit(self, plan: pd.DataFrame) -> pa.Table:
        """Fit as a batch does. Returns rows of SAMPLE_DDL."""
        view, recipe = self.view, Recipe.of(self.config)
        request = RoundRequest("sample", len(plan), 0, {}, view.clock, view.now, None, 0.0, view.pins)
        constants = {
            "round_id": request.round_id,
            "generation": None,
            "loss_name": recipe.loss,
            "fitted_at": view.now,
            "clock": view.clock,
            "batch_id": 0,
        }
        # The rows of parents are read in other tasks than fit them, so the peak of these is that of both.
        is_peak_reset = not is_parent(plan["group_key"].iloc[0])
        writing = SampleWriter(constants, self.config.fleet.shards, is_peak_reset)
        store = FleetStore.of(self.config)
        plan = with_parents(plan, PlannedChampions(store, view.pins), self.config.recipe.pooling_rows)
        fitter = fitter_of(store, signing_key.load_signer(store), recipe, self.config.recipe, request)
        return fit_plan(self.spark, plan, fitter, TaskOutput(SAMPLE_DDL, writing.write)).toArrow()

    def _task_rows(self, plan: pd.DataFrame, rows: int) -> int:
        """Return the largest number of rows that a task of the sample held at once.

        rows: number of rows used for fitting.
        """
        cores = cores_of(self.spark)
        if is_parent(plan["group_key"].iloc[0]):
            return parent_block_rows(rows, parent_tasks(len(plan), cores))
        in_order = plan.sort_values(["shard", "group_key"])
        return held_rows(in_order[COUNTED].to_numpy(), cores)


def _models_in(contents: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(contents), schema=arrow_schema(tables.MODELS))


def _parquet_bytes(rows: pa.Table, contract: Contract) -> int:
    """Return the size in bytes of the rows as a file with all columns of the table, which take up most
    of a small file.
    """
    file, schema = io.BytesIO(), arrow_schema(contract)
    columns = [
        rows.column(field.name) if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    pq.write_table(pa.table(columns, schema=schema), file, compression="snappy")
    return file.tell()
