"""Spark frames of the driver's own rows, without Python workers."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession


def frame_of_table(spark: SparkSession, table: pa.Table) -> DataFrame:
    """Return the rows of an Arrow table as a Spark frame.

    Spark sends the JVM a list of tuples as pickled objects and converts them in Python workers. Those are workers of
    another kind than the ones of SQL functions: they have a daemon of their own (65 MB, and 54 MB for each worker),
    which each round would wait for. Arrow needs none.
    """
    return spark.createDataFrame(table)
