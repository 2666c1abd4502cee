"""Refit every group, or those named: ``spinney retrain``, or ``spark-submit batch/weekly.py --config …``.

The same plan → fit → gate → record as the stream's. A run that was cut off is finished first by the next one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import QueryName, RoundKind, Staleness
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.errors import SpinneyError, StoreError, exit_code
from spinney.core.moments import moment
from spinney.stores import champions, charter, delta, leases, signing_key, tracking
from spinney.stores.files import read_config
from spinney.stores.layout import directory
from spinney.stores.rounds import READ, Ordered, Rounds
from spinney.stores.spark import session
from spinney.stores.training import parent_keys

NAME = QueryName.WEEKLY.value
ALL, ASKED = "all", "asked"


def retrain(
    config: Config, groups: Sequence[str] | None = None, *, spark: SparkSession | None = None
) -> dict[str, object] | None:
    """Retrain these groups, or all of them and their parents. Returns the round as recorded; None: nothing to do.

    groups: keys of groups or parents, with spaces in their JSON or without. Raises StoreError when a group has never
    been seen, Busy when a batch runs.
    """
    spark = spark or session(config)
    with leases.held(config, [NAME]):
        charter.ensure_fixed(config)
        delta.create_tables(config)
        rounds = Rounds(spark, config, signing_key.signer(config), RoundKind.BATCH, NAME)
        unfinished = rounds.unfinished()
        if unfinished is not None:
            rounds.carry_out(unfinished)
        batch_id = rounds.next_batch()
        _plan(spark, config, rounds, batch_id, groups)
        ordered = rounds.carry_out(batch_id)
    tracking.deliver_now(config)
    return None if ordered is None else recorded(config, ordered.round_id)


def _plan(spark: SparkSession, config: Config, rounds: Rounds, batch_id: int, groups: Sequence[str] | None) -> None:
    pins = delta.pins(config, *READ, tables.PROMOTIONS)
    wanted = _every_group(spark, config) if groups is None else _named(spark, config, groups)
    clock = fleet_clock(spark, config)
    if clock is None:
        raise StoreError(f"fleet {config.fleet.name}: no events in {config.storage.root}; load or ingest some first")
    now = datetime.now(UTC)
    policy = ALL if groups is None else ASKED
    asked = wanted.join(champions.current(spark, config, pins).drop("shard"), "group_key", "left").persist()
    try:
        count = asked.count()
        ordered = Ordered(
            round_id=f"batch-{batch_id}",
            groups_in=count,
            deferred=0,
            reasons={policy: count},
            clock=clock,
            now=now,
            budget_seconds=None,
            predicted_seconds=0.0,
            pins=pins,
        )
        rounds.plan(_verdicts(asked, policy, clock, now), ordered, batch_id)
    finally:
        asked.unpersist()


def _verdicts(asked: DataFrame, policy: str, clock: datetime, now: datetime) -> DataFrame:
    said = "the batch refits every group" if policy == ALL else "asked for by name"
    numbers = F.to_json(F.struct(F.coalesce("pinned", F.lit(False)).alias("pinned")))
    return asked.select(
        "shard",
        "group_key",
        F.lit(policy).alias("policy"),
        F.lit(Staleness.FIT.value).alias("decision"),
        F.lit(said).alias("reason"),
        numbers.alias("numbers"),
        "model_id",
        F.coalesce("epoch", F.lit(0)).cast("bigint").alias("epoch"),
        F.lit(None).cast("timestamp").alias("stale_since"),
        F.lit(clock).alias("clock"),
        F.lit(now).alias("judged_at"),
        F.lit(None).cast("double").alias("predicted_ms"),
    )


def _every_group(spark: SparkSession, config: Config) -> DataFrame:
    events = delta.frame(spark, directory(config, tables.EVENTS))
    groups = events.select("shard", "group_key").distinct()
    if not config.fleet.parents:
        return groups
    return groups.unionByName(parent_keys(events, config))


def _named(spark: SparkSession, config: Config, groups: Sequence[str]) -> DataFrame:
    groups = [keys.typed(group) for group in groups]
    known = {row["group_key"] for row in _every_group(spark, config).filter(F.col("group_key").isin(*groups)).collect()}
    unknown = [key for key in groups if key not in known]
    if unknown:
        raise StoreError(f'group {unknown[0]}: no event of it was ever stored; expected a key like ["a","b"]')
    rows = [(keys.shard_of(key, config.fleet.shards), key) for key in groups]
    return spark.createDataFrame(rows, "shard int, group_key string").distinct()


def fleet_clock(spark: SparkSession, config: Config) -> datetime | None:
    """Now, by the fleet's clock: the wall's, or the greatest event time stored. None before the first event."""
    if config.fleet.clock == "wall":
        return datetime.now(UTC)
    events = delta.frame(spark, directory(config, tables.EVENTS))
    newest = events.agg(F.unix_micros(F.max("event_time")).alias("at")).collect()[0]["at"]
    return None if newest is None else moment(newest)


def recorded(config: Config, round_id: str) -> dict[str, object] | None:
    """The round's row of `rounds`, its JSON columns as objects."""
    for row in delta.read(config, tables.ROUNDS).to_pylist():
        if row["round_id"] == round_id:
            return {
                name: json.loads(value) if name in ("reasons", "seconds", "pins") else value
                for name, value in row.items()
            }
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="batch/weekly.py", description=__doc__)
    parser.add_argument("--config", default="fleet.toml", help="the fleet's configuration")
    parser.add_argument("--group", action="append", help="only this group_key; may be repeated")
    asked = parser.parse_args(arguments)
    try:
        row = retrain(read_config(asked.config), asked.group)
    except SpinneyError as error:
        sys.stderr.write(f"spinney: {error}\n")
        return exit_code(error)
    sys.stdout.write(json.dumps(row, default=str) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
