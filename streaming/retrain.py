"""Health, promotions and failed fits → verdicts → rounds.

The judge keeps what is known of each group in a state by shard; a timer wakes it, so that groups age while nothing
happens to them and deferred ones come back.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import QueryName, RoundKind, Staleness
from spinney.core.config import Config
from spinney.core.groups import NEVER
from spinney.core.moments import moment
from spinney.core.plan import Allowance, Candidate, choose
from spinney.core.signing import Signer
from spinney.stores import delta, news
from spinney.stores.arrow import arrow_schema
from spinney.stores.rounds import READ, Ordered, Rounds
from spinney.stores.spark import session_for
from streaming.delta_source import appended
from streaming.judging import STATE, Judging
from streaming.query import Query

NAME = QueryName.RETRAIN.value
TRIGGER = "5 seconds"
OF_THE_ROUND = ("round_id", "pins", "batch_id")


def query(spark: SparkSession, config: Config, signer: Signer, *, once: bool) -> Query:
    # Timers need batches without data; a query that only drains has to end.
    session = session_for(spark, no_data_batches=not once)
    judged = (
        news.frame(config, partial(appended, session))
        .groupBy("shard")
        .applyInPandasWithState(Judging.of(config).function(), news.VERDICTS, STATE, "append", "ProcessingTimeTimeout")
        .withColumn("judged_at", F.unix_micros(F.current_timestamp()))
    )
    return Query(NAME, judged, lambda checkpoint: Batches(session, config, signer, checkpoint), trigger=TRIGGER)


class Batches:
    """Plans a round from what the judge reports, unless this batch's plan is stored, and carries it out."""

    def __init__(self, spark: SparkSession, config: Config, signer: Signer, checkpoint: str) -> None:
        self._spark = spark
        self._config = config
        self._rounds = Rounds(spark, config, signer, RoundKind.STREAM, checkpoint)

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        # Always consumed whole: the state advances with it.
        reported = batch.collect()
        if reported and not self._rounds.planned(batch_id):
            self._plan(reported, batch_id)
        self._rounds.carry_out(batch_id)

    def _plan(self, reported: list[Row], batch_id: int) -> None:
        due = [row for row in reported if row["decision"] == Staleness.FIT]
        budget = self._config.budget
        allowance = Allowance(budget.seconds, budget.oldest_first_share, budget.random_share)
        round_id = f"stream-{batch_id}"
        candidates = [
            Candidate(row["group_key"], row["policy"], row["urgency"], row["stale_since"], row["predicted_ms"])
            for row in due
        ]
        chosen = set(choose(candidates, allowance, round_id))
        ordered = Ordered(
            round_id=round_id,
            groups_in=len(due),
            deferred=len(due) - len(chosen),
            reasons=dict(Counter(row["policy"] for row in due if row["group_key"] in chosen)),
            clock=moment(max(row["clock"] for row in reported)),
            now=moment(reported[0]["judged_at"]),
            budget_seconds=budget.seconds,
            predicted_seconds=sum(row["predicted_ms"] for row in due if row["group_key"] in chosen) / 1000,
            pins=delta.pins(self._config, *READ),
        )
        rows = [verdict(row, chosen=row["group_key"] in chosen) for row in reported]
        names = [name for name in tables.VERDICTS.names if name not in OF_THE_ROUND]
        schema = pa.schema([arrow_schema(tables.VERDICTS).field(name) for name in names])
        stored = pa.Table.from_pylist([row for row in rows if row is not None], schema=schema)
        self._rounds.plan(stored, ordered, batch_id)


def verdict(row: Row, *, chosen: bool) -> dict[str, Any] | None:
    """A row of `verdicts` for what the judge reported; None for a group deferred before and deferred again."""
    decision, reason = row["decision"], row["reason"]
    if decision == Staleness.FIT and not chosen:
        if row["repeats"]:
            return None
        decision, reason = Staleness.DEFERRED.value, f"{reason}; the round's budget was spent on groups before it"
    return {
        **{name: row[name] for name in ("shard", "group_key", "policy", "model_id", "epoch", "predicted_ms")},
        "decision": decision,
        "reason": reason,
        "numbers": row["numbers"],
        "stale_since": moment(row["stale_since"]) if row["stale_since"] != NEVER else None,
        "clock": moment(row["clock"]) if row["clock"] != NEVER else None,
        "judged_at": moment(row["judged_at"]),
    }
