"""Streams of the rows appended to Delta tables."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame, SparkSession

from schemas.contract import Contract
from spinney.storage.layout import Directory, FleetStore


def read_appended(spark: SparkSession, directory: Directory, max_bytes: int | None = None) -> DataFrame:
    """Return a stream of every row appended to the directory, once, from its start.

    Commits that remove or rewrite rows (retention, compaction) are skipped. max_bytes: size of the files that a batch
    reads; it reads at least one file. None: Delta's default.
    """
    reader = spark.readStream.format("delta").option("skipChangeCommits", "true")
    if max_bytes is not None:
        reader = reader.option("maxBytesPerTrigger", f"{max_bytes}b")
    return reader.load(directory.uri)


def read_appended_union(spark: SparkSession, store: FleetStore, base: Contract) -> DataFrame:
    """Return a stream of the rows appended to all directories of a table."""
    directories = store.directories(base)
    return reduce(DataFrame.unionByName, (read_appended(spark, directory) for directory in directories))
