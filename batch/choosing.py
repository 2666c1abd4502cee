"""Which groups a batch retrains, and why: the verdicts of its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import Staleness
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.hindsight import hindsight
from spinney.core.judge import UNKNOWN_COST_MS, Terms, judge
from spinney.core.moments import microseconds, moment
from spinney.core.parts import Pace
from spinney.core.staleness import NewGroup, configured
from spinney.stores import champions, delta, news
from spinney.stores.layout import directory
from spinney.stores.rounds import READ
from spinney.stores.spark import cores_of
from spinney.stores.training import parent_keys

ALL, STALE, NAMED = "all", "stale", "asked"


@dataclass(frozen=True)
class Scope:
    """What is asked for: every group, the stale ones, or those named. groups: keys, as `keys.typed` has them."""

    which: str = ALL
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, groups: Sequence[str] | None, *, stale: bool = False) -> Scope:
        """groups: keys with spaces in their JSON or without; None: all, or all that are stale."""
        if groups is None:
            return cls(STALE if stale else ALL)
        return cls(NAMED, tuple(dict.fromkeys(map(keys.typed, groups))))


@dataclass(frozen=True)
class View:
    """The tables as a batch sees them. clock: the fleet's; now: the wall's."""

    pins: Mapping[str, int]
    clock: datetime
    now: datetime

    @classmethod
    def now_of(cls, spark: SparkSession, config: Config) -> View:
        """Raises StoreError for a fleet without events."""
        pins = delta.pins(config, *READ, tables.PROMOTIONS)
        clock = fleet_clock(spark, config)
        if clock is None:
            raise StoreError(
                f"fleet {config.fleet.name}: no events in {config.storage.root}; load or ingest some first"
            )
        return cls(pins, clock, datetime.now(UTC))


def verdicts(spark: SparkSession, config: Config, scope: Scope, view: View) -> DataFrame:
    """The rows of a plan: columns of `verdicts` but for round_id, pins and batch_id.

    Raises StoreError when a group is named of which no event was ever stored.
    """
    if scope.which == STALE:
        return _stale(spark, config, view)
    groups = every_group(spark, config) if scope.which == ALL else _named(spark, config, scope.groups)
    said = "the batch refits every group" if scope.which == ALL else "asked for by name"
    known = champions.current(spark, config, view.pins).drop("shard")
    pinned = F.to_json(F.struct(F.coalesce("pinned", F.lit(False)).alias("pinned")))
    asked = groups.join(known, "group_key", "left").withColumns(
        {"policy": F.lit(scope.which), "reason": F.lit(said), "numbers": pinned, "predicted_ms": F.col("fit_ms")}
    )
    return _planned(asked, view, stale_since=None)


def _planned(asked: DataFrame, view: View, *, stale_since: datetime | None) -> DataFrame:
    """asked: shard, group_key, policy, reason, numbers, and, null where not known, model_id, epoch, predicted_ms."""
    return asked.select(
        *(
            "shard",
            "group_key",
            "policy",
            F.lit(Staleness.FIT.value).alias("decision"),
            "reason",
            "numbers",
            "model_id",
        ),
        F.coalesce("epoch", F.lit(0)).cast("bigint").alias("epoch"),
        F.lit(stale_since).cast("timestamp").alias("stale_since"),
        F.lit(view.clock).alias("clock"),
        F.lit(view.now).alias("judged_at"),
        "predicted_ms",
    )


def _stale(spark: SparkSession, config: Config, view: View) -> DataFrame:
    """Whom the judge finds due, by all that is stored; and groups that nobody has ever tried to fit."""
    terms = Terms.of(config, configured(config))
    clock, now = microseconds(view.clock), microseconds(view.now)

    def judged(frame: pd.DataFrame) -> pd.DataFrame:
        shard = hindsight(news.of_frames([frame]), terms, clock, now)
        return news.verdict_rows(int(frame["shard"].iloc[0]), judge(shard, terms, now))

    seen = news.frame(config, partial(delta.frame, spark)).filter(F.col("group_key").isNotNull())
    due = seen.groupBy("shard").applyInPandas(judged, news.VERDICTS)
    due = due.filter(F.col("decision") == Staleness.FIT.value)
    # That its events were answered by a parent says nothing of a group's own rows, which may have been loaded.
    tried = seen.filter(F.col("kind") != "health").select("group_key").union(due.select("group_key")).distinct()
    untried = every_group(spark, config).join(tried, "group_key", "left_anti")
    new = {"policy": F.lit(NewGroup.name), "reason": F.lit("nobody has tried to fit it yet"), "numbers": F.lit("{}")}
    asked = due.unionByName(untried.withColumns(new), allowMissingColumns=True)
    return _planned(asked, view, stale_since=view.now)


def every_group(spark: SparkSession, config: Config) -> DataFrame:
    """Every group that has an event, and every parent of theirs: shard, group_key."""
    events = delta.frame(spark, directory(config, tables.EVENTS))
    groups = events.select("shard", "group_key").distinct()
    if not config.fleet.parents:
        return groups
    return groups.unionByName(parent_keys(events, config))


def _named(spark: SparkSession, config: Config, groups: Sequence[str]) -> DataFrame:
    known = {row["group_key"] for row in every_group(spark, config).filter(F.col("group_key").isin(*groups)).collect()}
    unknown = [key for key in groups if key not in known]
    if unknown:
        raise StoreError(f'group {unknown[0]}: no event of it was ever stored; expected a key like ["a","b"]')
    rows = [(keys.shard_of(key, config.fleet.shards), key) for key in groups]
    return spark.createDataFrame(rows, "shard int, group_key string")


def fleet_clock(spark: SparkSession, config: Config) -> datetime | None:
    """Now, by the fleet's clock: the wall's, or the greatest event time stored. None before the first event."""
    if config.fleet.clock == "wall":
        return datetime.now(UTC)
    events = delta.frame(spark, directory(config, tables.EVENTS))
    newest = events.agg(F.unix_micros(F.max("event_time")).alias("at")).collect()[0]["at"]
    return None if newest is None else moment(newest)


def pace_of(spark: SparkSession, config: Config, mean_ms: float | None) -> Pace:
    """How fast a batch should go. mean_ms: of a group's last fit; None when none was ever fitted."""
    cost = UNKNOWN_COST_MS if mean_ms is None else mean_ms
    return Pace(config.budget.part_seconds, cost / 1000 / cores_of(spark), known=mean_ms is not None)
