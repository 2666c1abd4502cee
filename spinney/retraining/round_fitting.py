"""Fitting what a round's plan names, as of the versions that it pins."""

from __future__ import annotations

from functools import reduce

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from schemas import tables
from spinney.core.config import Config
from spinney.core.keys import is_parent
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.retraining import fit_requests, group_fitting, parent_fitting
from spinney.retraining.group_fitting import Output
from spinney.retraining.round_order import Ordered
from spinney.retraining.training_tables import TrainingTables
from spinney.spark.session import cores_of
from spinney.storage.layout import FleetStore
from spinney.tables import recipe_store
from spinney.tables.snapshot import snapshots
from spinney.workers.worker_process import Limits


def fitting_of(config: Config, signer: Signer, ordered: Ordered) -> group_fitting.Fitter:
    """How the groups of a round are fitted: as of its pins and its clock."""
    rows = TrainingTables.of(config, ordered.pins, ordered.clock)
    store = FleetStore.of(config)
    models = tuple(snapshots(store, tables.MODELS))
    recipe = recipe_store.with_earlier(store, signer, Recipe.of(config))
    return group_fitting.Fitter(recipe, signer, ordered.clock, rows, models, Limits.of(config))


def fit(
    spark: SparkSession, plan: pd.DataFrame, fitting: group_fitting.Fitter, output: Output | None = None
) -> DataFrame:
    """What `output` makes of rows fitter.FITTED, one per group and parent of the plan; by default these rows.

    plan: the columns of fit_requests.REQUEST. Raises StoreError in its tasks when rows are missing that the plan
    counted.
    """
    requests = requests_of(plan)
    are_parents = pa.array(plan["group_key"].map(is_parent), pa.bool_())
    of_groups, of_parents = requests.filter(pc.invert(are_parents)), requests.filter(are_parents)
    cores, made, frames = cores_of(spark), output or Output(), []
    if of_groups.num_rows:
        frames.append(group_fitting.fit_groups(spark, of_groups, fitting, cores, made))
    if of_parents.num_rows:
        frames.append(parent_fitting.fit_parents(spark, of_parents, fitting, cores, made))
    return reduce(DataFrame.unionByName, frames)


def requests_of(plan: pd.DataFrame) -> pa.Table:
    """plan: the columns of fit_requests.REQUEST, and others."""
    return pa.Table.from_pandas(plan[fit_requests.REQUEST.names], fit_requests.REQUEST, preserve_index=False)
