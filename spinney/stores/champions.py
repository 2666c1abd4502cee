"""Who answers: the fleet's champions, from its promotions."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from schemas import tables
from spinney.core import champion_table
from spinney.core.config import Config
from spinney.stores import delta

CHAMPION_DDL = "shard int, group_key string, model_id string, epoch bigint, pinned boolean, fit_ms double"


def current(spark: SparkSession, config: Config, pins: Mapping[str, int] | None = None) -> DataFrame:
    """One row per group that any promotion names: CHAMPION_DDL; model_id null where no model may answer.

    fit_ms: of its last fit that was decided about; null if none was.
    """
    rows = delta.union(spark, config, tables.PROMOTIONS, pins).select(*champion_table.INPUT)
    return rows.groupBy("shard").applyInArrow(_champions_of_shard, CHAMPION_DDL)


def _champions_of_shard(rows: pa.Table) -> pa.Table:
    return champion_table.champions_of(rows)
