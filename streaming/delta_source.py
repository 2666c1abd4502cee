"""What is appended to a directory, as a stream."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from spinney.stores.layout import Directory


def appended(spark: SparkSession, directory: Directory) -> DataFrame:
    """Every row appended to the directory, once, from its beginning. Retention that removes rows is passed over."""
    return spark.readStream.format("delta").option("skipChangeCommits", "true").load(directory.uri)
