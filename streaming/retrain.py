"""Query retrain: judges groups by health, promotions and failed fits, and carries out rounds.

The judge keeps the state of each group by shard. A processing-time timeout calls it without new rows, so that quiet
groups age and deferred groups are put forward again.
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
from spinney.core.planning.round_cost import PastRound, RoundCostEstimator
from spinney.core.timestamps import from_microseconds
from spinney.retraining import judge_input
from spinney.retraining.round_history import past_rounds
from spinney.retraining.round_record import FinishedRound
from spinney.retraining.round_request import READ, RoundRequest
from spinney.retraining.rounds import Rounds
from spinney.spark.session import cores_of, sibling_session
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.delta_source import read_appended
from streaming.judging import STATE_SCHEMA, ShardJudge
from streaming.planning import DueSummary, RoundRules, plan_round
from streaming.query import Query
from streaming.round_brake import RoundBrake

NAME = QueryName.RETRAIN.value
TRIGGER = "5 seconds"


def query(spark: SparkSession, config: Config, signer: Signer, *, once: bool) -> Query:
    """Return the query retrain.

    In: rows of `judge_input.union_frame` from health, promotions and models. State: one blob by shard (STATE_SCHEMA),
    output mode append. Out: judge_input.VERDICTS with judged_at, from which RetrainBatchWriter plans and runs a
    round. once: drain the tables and end.
    """
    # Timeouts need batches without data; a query that only drains has to end.
    session = sibling_session(spark, no_data_batches=not once)
    judged = (
        judge_input.union_frame(FleetStore.of(config), partial(read_appended, session))
        .groupBy("shard")
        .applyInPandasWithState(
            ShardJudge.from_config(config).function(),
            judge_input.VERDICTS,
            STATE_SCHEMA,
            "append",
            "ProcessingTimeTimeout",
        )
        .withColumn("judged_at", F.unix_micros(F.current_timestamp()))
    )
    return Query(
        NAME, judged, lambda checkpoint: RetrainBatchWriter(session, config, signer, checkpoint), trigger=TRIGGER
    )


class RetrainBatchWriter:
    """Plans a round from the judge's reports, unless the plan of this batch is stored already, and carries it out."""

    def __init__(self, spark: SparkSession, config: Config, signer: Signer, checkpoint: str) -> None:
        store = FleetStore.of(config)
        self._config, self._store = config, store
        self._rounds = Rounds(spark, config, signer, RoundKind.STREAM, checkpoint)
        self._cost_estimator = RoundCostEstimator.from_rounds(past_rounds(store, RoundKind.STREAM), cores_of(spark))
        self._brake = RoundBrake(store, config.budget.brake_share)
        self._is_warm = False

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Plan and carry out the round of a batch. Raises StoreError when counts of rows do not match."""
        # Persisted, since a second action would run the judge again. Always consumed, since the state advances with it.
        reported = batch.persist()
        try:
            summaries = reported.filter(F.col("decision") == judge_input.SUMMARY).collect()
            began = time.perf_counter()
            groups = 0
            if summaries and not self._rounds.is_planned(batch_id):
                groups = self._plan(reported, summaries, batch_id)
        finally:
            reported.unpersist()
        done = self._rounds.carry_out(batch_id)
        if groups and done is not None:
            self._learn(done, groups, time.perf_counter() - began)

    def _plan(self, reported: DataFrame, summaries: list[Row], batch_id: int) -> int:
        """Store the plan of the next round. Returns its number of groups."""
        budget, cost = self._config.budget, self._cost_estimator.estimate()
        due, judged_at = DueSummary.of(summaries), summaries[0]["judged_at"]
        round_id, now = f"stream-{batch_id}", from_microseconds(judged_at)
        braked = self._brake.decide(due, self._rounds.last_request(), round_id, now)
        plan = plan_round(reported, due, RoundRules(cost.allowance(budget), str(judged_at), braked.brake))
        is_empty = braked.brake.is_on and not plan.chosen  # not a round: every due group waits
        request = RoundRequest(
            round_id=round_id,
            groups_in=0 if is_empty else due.groups,
            deferred=0 if is_empty else due.groups - len(plan.chosen),
            reasons=dict(Counter(candidate.policy for candidate in plan.chosen)),
            clock=from_microseconds(due.clock),
            now=now,
            budget_seconds=budget.seconds,
            predicted_seconds=cost.predict([candidate.predicted_ms for candidate in plan.chosen]),
            pins=delta.pin_versions(self._store, *READ),
            brake_round=braked.round_id,
            brake_at=braked.at,
        )
        self._rounds.plan(plan.verdicts, request, batch_id)
        return len(plan.chosen)

    def _learn(self, done: FinishedRound, groups: int, seconds: float) -> None:
        if not self._is_warm:
            # The first round of a process includes JVM compilation and worker start: 29 s, where the third takes 8 s.
            self._is_warm = True
            return
        self._cost_estimator.add(PastRound(groups, done.fit_ms, done.longest_ms, seconds))
