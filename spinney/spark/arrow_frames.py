"""Spark frames of the driver's own rows, without Python workers."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession


def frame_of_table(spark: SparkSession, table: pa.Table) -> DataFrame:
    """Return the rows of an Arrow table as a Spark frame.

    If it is given a list of tuples, Spark pickles them and converts them in Python workers. These are other workers
    than those of SQL functions: they have a daemon of their own (65 MB, and 54 MB for each worker), for which each
    round would wait. Arrow needs no workers.
    """
    return spark.createDataFrame(table)
