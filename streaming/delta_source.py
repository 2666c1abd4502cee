"""What is appended to a directory, as a stream."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame, SparkSession

from schemas.contract import Contract
from spinney.core.config import Config
from spinney.storage.layout import Directory, FleetStore


def appended(spark: SparkSession, directory: Directory) -> DataFrame:
    """Every row appended to the directory, once, from its beginning. Retention that removes rows is passed over."""
    return spark.readStream.format("delta").option("skipChangeCommits", "true").load(directory.uri)


def appended_all(spark: SparkSession, config: Config, base: Contract) -> DataFrame:
    """The same of all directories of a table."""
    return reduce(DataFrame.unionByName, (appended(spark, each) for each in FleetStore.of(config).directories(base)))
