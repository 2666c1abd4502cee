"""Health, promotions and failed fits → verdicts → rounds.

The judge keeps what is known of each group in a state by shard; a timer wakes it, so that groups age while nothing
happens to them and deferred ones come back.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from schemas.vocabulary import QueryName, RoundKind
from spinney.core.config import Config
from spinney.core.models.signing import Signer
from spinney.core.planning.round_cost import Experience, PastRound
from spinney.core.timestamps import from_microseconds
from spinney.retraining import judge_input
from spinney.retraining.round_history import fit_times, past_rounds
from spinney.retraining.round_order import READ, RoundOrder
from spinney.retraining.rounds import Rounds
from spinney.spark.session import cores_of, sibling_session
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.delta_source import read_appended
from streaming.judging import STATE, Judging
from streaming.planning import Due, planned
from streaming.query import Query

NAME = QueryName.RETRAIN.value
TRIGGER = "5 seconds"


def query(spark: SparkSession, config: Config, signer: Signer, *, once: bool) -> Query:
    # Timers need batches without data; a query that only drains has to end.
    session = sibling_session(spark, no_data_batches=not once)
    judged = (
        judge_input.union_frame(FleetStore.of(config), partial(read_appended, session))
        .groupBy("shard")
        .applyInPandasWithState(
            Judging.of(config).function(), judge_input.VERDICTS, STATE, "append", "ProcessingTimeTimeout"
        )
        .withColumn("judged_at", F.unix_micros(F.current_timestamp()))
    )
    return Query(NAME, judged, lambda checkpoint: Batches(session, config, signer, checkpoint), trigger=TRIGGER)


class Batches:
    """Plans a round from what the judge reports, unless this batch's plan is stored, and carries it out."""

    def __init__(self, spark: SparkSession, config: Config, signer: Signer, checkpoint: str) -> None:
        store = FleetStore.of(config)
        self._config, self._store = config, store
        self._rounds = Rounds(spark, config, signer, RoundKind.STREAM, checkpoint)
        self._experience = Experience.of(past_rounds(store, RoundKind.STREAM), cores_of(spark))
        self._is_warm = False

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        # Kept: a second action would run the judge again. Always consumed whole: the state advances with it.
        reported = batch.persist()
        try:
            summaries = reported.filter(F.col("decision") == judge_input.SUMMARY).collect()
            began = time.perf_counter()
            groups = 0
            if summaries and not self._rounds.is_planned(batch_id):
                groups = self._plan(reported, summaries, batch_id)
        finally:
            reported.unpersist()
        self._rounds.carry_out(batch_id)
        if groups:
            self._learn(batch_id, groups, time.perf_counter() - began)

    def _plan(self, reported: DataFrame, summaries: list[Row], batch_id: int) -> int:
        """Store what the next round does. Returns of how many groups."""
        budget, cost = self._config.budget, self._experience.cost()
        due, now = Due.of(summaries), summaries[0]["judged_at"]
        plan = planned(reported, due, cost.allowance(budget), lot=str(now))
        ordered = RoundOrder(
            round_id=f"stream-{batch_id}",
            groups_in=due.groups,
            deferred=due.groups - len(plan.chosen),
            reasons=dict(Counter(each.policy for each in plan.chosen)),
            clock=from_microseconds(due.clock),
            now=from_microseconds(now),
            budget_seconds=budget.seconds,
            predicted_seconds=cost.predicted([each.predicted_ms for each in plan.chosen]),
            pins=delta.pins(self._store, *READ),
        )
        self._rounds.plan(plan.verdicts, ordered, batch_id)
        return len(plan.chosen)

    def _learn(self, batch_id: int, groups: int, seconds: float) -> None:
        if not self._is_warm:
            # The first round of a process waits for the JVM to compile and for workers to start: 29 s, the third 8 s.
            self._is_warm = True
            return
        none = (0.0, 0.0)  # all were kept
        fits = fit_times(self._store, RoundKind.STREAM, [batch_id]).get(batch_id, none)
        self._experience.add(PastRound(groups, *fits, seconds))
