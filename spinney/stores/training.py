"""The rows to fit on: events with their labels, mature ones only, of the groups that a round asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from schemas import tables
from spinney.core.config import Config
from spinney.core.keys import is_parent, parent_values
from spinney.stores import delta
from spinney.stores.layout import feature_columns
from spinney.stores.validity import shard

ROW_COLUMNS = ("group_key", "event_id", "event_time")


@dataclass(frozen=True)
class Wanted:
    """The groups and parents whose rows are wanted.

    asked: shard, group_key, small enough to send to every task. levels: of the parents among them.
    """

    asked: DataFrame
    levels: tuple[tuple[str, ...], ...]


def levels_of(config: Config, group_keys: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The levels of parents that these keys name."""
    named = {frozenset(parent_values(key)) for key in group_keys if is_parent(key)}
    return tuple(level for level in config.fleet.parents if frozenset(level) in named)


def rows(spark: SparkSession, config: Config, wanted: Wanted, pins: Mapping[str, int], clock: datetime) -> DataFrame:
    """The training rows of the groups and parents wanted.

    clock: the fleet's: rows younger than `label_delay` are not mature, rows older than `recipe.window` not wanted.
    Returns ROW_COLUMNS, the features and label.
    """
    labelled = _labelled(spark, config, wanted, pins, clock)
    mine = _own(labelled, config, wanted.asked)
    return mine.unionByName(_parents(labelled, config, wanted)) if wanted.levels else mine


def _labelled(
    spark: SparkSession, config: Config, wanted: Wanted, pins: Mapping[str, int], clock: datetime
) -> DataFrame:
    """Mature events of the window with their labels; of all groups when a parent is wanted."""
    fleet = config.fleet
    newest, oldest = clock - fleet.label_delay, clock - config.recipe.window
    events = delta.union(spark, config, tables.EVENTS, pins).filter(
        (F.col("event_time") <= F.lit(newest)) & (F.col("event_time") >= F.lit(oldest))
    )
    events = _needed(events, wanted)
    features = [F.expr(each) for each in feature_columns(config)]
    keys = [F.col(name).alias(f"key_{name}") for name in fleet.group]
    if config.label_inside:
        label = F.col(fleet.target).alias("label")
        return events.select(*ROW_COLUMNS, *features, *keys, label).filter(F.col("label").isNotNull())
    outcomes = _needed(delta.union(spark, config, tables.OUTCOMES, pins), wanted)
    # No label is seen before its event: older files than the window's need not be opened.
    known = outcomes.filter((F.col("observed_at") <= F.lit(clock)) & (F.col("observed_at") >= F.lit(oldest)))
    # An id may come twice when its copies are further apart than duplicates_within: the label known first counts.
    first = F.min_by("label", F.struct("observed_at", "label")).alias("label")
    once = known.groupBy("group_key", "event_id").agg(first)
    return events.select(*ROW_COLUMNS, *features, *keys).join(once, ["group_key", "event_id"])


def _needed(frame: DataFrame, wanted: Wanted) -> DataFrame:
    """Only rows of groups that are asked for. A parent needs the rows of all its children."""
    if wanted.levels:
        return frame
    return frame.join(F.broadcast(wanted.asked.select("shard", "group_key")), ["shard", "group_key"], "leftsemi")


def _own(labelled: DataFrame, config: Config, asked: DataFrame) -> DataFrame:
    """The newest `window_rows` of each asked group: a giant group costs no more than any other."""
    mine = labelled.drop(*_keys(config)).join(F.broadcast(asked.select("group_key")), "group_key", "leftsemi")
    newest = Window.partitionBy("group_key").orderBy(F.desc("event_time"), F.desc("event_id"))
    return _capped(mine, newest, config.recipe.window_rows)


def _parents(labelled: DataFrame, config: Config, wanted: Wanted) -> DataFrame:
    """A sample of each asked parent's rows: those whose event_id hashes lowest, so that every path draws the same."""
    exploded = labelled.withColumn("group_key", F.explode(F.array(*(_parent_key(level) for level in wanted.levels))))
    mine = exploded.drop(*_keys(config)).join(F.broadcast(wanted.asked.select("group_key")), "group_key", "leftsemi")
    drawn = Window.partitionBy("group_key").orderBy(F.xxhash64("event_id"), "event_id")
    return _capped(mine, drawn, config.recipe.parents.max_rows)


def _capped(frame: DataFrame, window: WindowSpec, most: int) -> DataFrame:
    return frame.withColumn("place", F.row_number().over(window)).filter(F.col("place") <= most).drop("place")


def _keys(config: Config) -> list[str]:
    return [f"key_{name}" for name in config.fleet.group]


def _parent_key(level: tuple[str, ...]) -> Column:
    if not level:
        return F.lit("{}")
    return F.to_json(F.struct(*(F.col(f"key_{name}").cast("string").alias(name) for name in level)))


def parent_keys(events: DataFrame, config: Config) -> DataFrame:
    """Every parent that some event has: shard, group_key."""
    columns = [F.col(name).alias(f"key_{name}") for name in config.fleet.group]
    groups = events.select(*columns).distinct()
    keys = groups.select(F.explode(F.array(*(_parent_key(level) for level in config.fleet.parents))).alias("group_key"))
    return keys.distinct().withColumn("shard", F.expr(shard(config)))
