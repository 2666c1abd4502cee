"""Fit the groups of a round's plan from the table versions that it pins."""

from __future__ import annotations

from functools import reduce

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from schemas import tables
from spinney.core.config import sections
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.retraining.fitting import parent_fitting, spark_fitting
from spinney.retraining.fitting.fit_request_table import REQUEST_SCHEMA, split_parents
from spinney.retraining.fitting.spark_fitting import TaskOutput
from spinney.retraining.fitting.training_row_reader import TrainingTables
from spinney.retraining.round_request import RoundRequest
from spinney.spark.session import cores_of
from spinney.storage.layout import FleetStore
from spinney.tables import recipe_store
from spinney.tables.snapshot import take_snapshots
from spinney.workers.worker_process import Limits


def fitter_of(
    store: FleetStore, signer: Signer, recipe: Recipe, settings: sections.Recipe, request: RoundRequest
) -> spark_fitting.Fitter:
    """Return the Fitter of a round, which reads the pinned versions as of the round's clock.

    recipe: the recipe to fit by. settings: the section `[recipe]` that it was made from, for the limits of workers and
    reads.
    """
    rows = TrainingTables.of(store, settings, request.pins, request.clock)
    models = tuple(take_snapshots(store, tables.MODELS))
    compared = recipe_store.with_earlier_recipes(store, signer, recipe)
    return spark_fitting.Fitter(compared, signer, request.clock, rows, models, Limits.of(settings))


def fit_plan(
    spark: SparkSession, plan: pd.DataFrame, fitting: spark_fitting.Fitter, output: TaskOutput | None = None
) -> DataFrame:
    """Return a lazy Spark frame that fits the groups and parents of a plan, with `output`, by default the results.

    plan: the columns of REQUEST_SCHEMA. The frame's tasks raise StoreError if rows that the plan counted are missing.
    """
    of_groups, of_parents = split_parents(requests_of(plan))
    cores, task_output, frames = cores_of(spark), output or TaskOutput(), []
    if of_groups.num_rows:
        frames.append(spark_fitting.fit_groups(spark, of_groups, fitting, cores, task_output))
    if of_parents.num_rows:
        frames.append(parent_fitting.fit_parents(spark, of_parents, fitting, cores, task_output))
    return reduce(DataFrame.unionByName, frames)


def requests_of(plan: pd.DataFrame) -> pa.Table:
    """Return the fit requests of a plan: REQUEST_SCHEMA.

    The plan may have other columns, and need not have those of parents.
    """
    absent = {name: pd.Series(None, plan.index, dtype=object) for name in REQUEST_SCHEMA.names if name not in plan}
    return pa.Table.from_pandas(plan.assign(**absent)[REQUEST_SCHEMA.names], REQUEST_SCHEMA, preserve_index=False)
