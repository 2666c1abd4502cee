"""Query retrain: judges groups by health, promotions and failed fits, and carries out rounds.

The judge keeps the state of each group by shard. A processing-time timeout calls it without new rows, so that quiet
groups age and deferred groups are put forward again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import QueryName, RoundKind
from spinney.core.config import Config
from spinney.core.models.signing import Signer
from spinney.core.planning.round_cost import PastRound, RoundCostEstimator
from spinney.core.timestamps import from_microseconds, to_microseconds
from spinney.retraining import judge_input
from spinney.retraining.requested_verdicts import PlanMoment, deferred_groups
from spinney.retraining.round_history import past_rounds
from spinney.retraining.round_record import FinishedRound
from spinney.retraining.round_request import READ, RoundRequest
from spinney.retraining.rounds import Rounds
from spinney.spark.session import cores_of, sibling_session
from spinney.storage import charter, checkpoints, step_observer
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import RetrainRequest, read_requests, remove_requests
from spinney.tables import delta
from spinney.tables.empty_append import append_no_rows
from spinney.tables.readers.fleet_clock import read_fleet_clock
from streaming.delta_source import read_appended
from streaming.judging import STATE_SCHEMA, ShardJudge
from streaming.query import Query
from streaming.requested_groups import plan_with_requests, take_requests
from streaming.round_brake import RoundBrake
from streaming.round_planning import DueSummary, RoundRules

NAME = QueryName.RETRAIN.value
TRIGGER = "5 seconds"


def query(spark: SparkSession, config: Config, signer: Signer, *, once: bool) -> Query:
    """Return the query retrain.

    In: rows of `judge_input.union_frame` from health, promotions and models. State: one blob by shard (STATE_SCHEMA),
    output mode append. Out: judge_input.VERDICTS with judged_at, from which RetrainBatchWriter plans and runs a round.
    once: whether to process the available rows and end.
    """
    # Timeouts need batches without data; a query that only drains has to end.
    session, store = sibling_session(spark, no_data_batches=not once), FleetStore.of(config)
    judged = (
        judge_input.union_frame(store, partial(read_appended, session))
        .groupBy("shard")
        .applyInPandasWithState(
            ShardJudge.from_config(config, charter.losses_of(store)).function(),
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


def waiting_requests(store: FleetStore) -> frozenset[str]:
    """Return the ids of the requests to retrain groups that are not carried out yet."""
    return frozenset(request.id for request in read_requests(store))


def force_batch(store: FleetStore) -> None:
    """Make the next start of the query begin with a batch, even if no table has new rows. The caller must hold its
    lease.

    After a start Spark runs no batch before a source has new data, not even for the timers of states, and requests are
    not a source. Does nothing before the very first start, which reads everything.
    """
    location = store.checkpoint(NAME)
    if checkpoints.has_begun(location):
        place = store.directory(tables.MODELS, RoundKind.STREAM.value)
        append_no_rows(place, NAME, checkpoints.query_id(location))


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
            groups = self.plan(reported, summaries, batch_id)
        finally:
            reported.unpersist()
        done = self.carry_out(batch_id)
        if groups and done is not None:
            self._learn(done, groups, time.perf_counter() - began)

    def plan(self, reported: DataFrame | None, summaries: Sequence[Row], batch_id: int) -> int:
        """Store the plan of the next round unless it is stored. Returns its number of groups; 0 if it was stored
        already.

        reported: all rows of the judge; None if no shard reported anything. summaries: the shards' summary rows among
        them.
        """
        if self._rounds.is_planned(batch_id):
            return 0
        waiting = read_requests(self._store)
        if not summaries and not waiting:
            return 0
        if summaries:
            judged_at, due = summaries[0]["judged_at"], DueSummary.of(summaries)
            return self._plan(reported, due, from_microseconds(judged_at), waiting, batch_id)
        clock = read_fleet_clock(self._store)
        due = DueSummary(0, 0, 0, 0 if clock is None else to_microseconds(clock))
        return self._plan(None, due, datetime.now(UTC), waiting, batch_id)

    def carry_out(self, batch_id: int) -> FinishedRound | None:
        """Carry out the planned round, and delete the requests that it took. Returns None if nothing was planned."""
        done = self._rounds.carry_out(batch_id)
        if done is not None and done.request.requests:
            remove_requests(self._store, done.request.requests)
            step_observer.announce(f"{NAME}.requests", batch_id)
        return done

    def _plan(
        self,
        reported: DataFrame | None,
        due: DueSummary,
        now: datetime,
        waiting: Sequence[RetrainRequest],
        batch_id: int,
    ) -> int:
        budget, cost = self._config.budget, self._cost_estimator.estimate()
        round_id, pins = f"stream-{batch_id}", delta.pin_versions(self._store, *READ)
        clock = from_microseconds(due.clock)
        before = self._rounds.last_request()
        if reported is None:
            braked = self._brake.unasked(before, now)
        else:
            braked = self._brake.decide(due, before, round_id, now, has_requests=bool(waiting))
        rules = RoundRules(cost.allowance(budget), str(to_microseconds(now)), braked.brake)
        requested, rules = take_requests(self._store, waiting, PlanMoment(pins, clock, now), rules)
        if requested is None and reported is None:
            return 0
        deferred = {} if requested is None or not due.withheld else deferred_groups(self._store, requested.group_keys)
        plan = plan_with_requests(reported, due, rules, requested, deferred)
        is_empty = braked.brake.is_on and not plan.chosen  # not a round: every due group waits
        request = RoundRequest(
            round_id=round_id,
            groups_in=0 if is_empty else plan.groups_in,
            deferred=0 if is_empty else plan.groups_in - len(plan.chosen),
            reasons=dict(Counter(candidate.policy for candidate in plan.chosen)),
            clock=clock,
            now=now,
            budget_seconds=budget.seconds,
            predicted_seconds=cost.predict([candidate.predicted_ms for candidate in plan.chosen]),
            pins=pins,
            brake_round=braked.round_id,
            brake_at=braked.at,
            requests=() if requested is None else requested.ids,
        )
        self._rounds.plan(plan.verdicts, request, batch_id)
        return len(plan.chosen)

    def _learn(self, done: FinishedRound, groups: int, seconds: float) -> None:
        if not self._is_warm:
            # The first round of a process includes JVM compilation and worker start: 29 s, where the third takes 8 s.
            self._is_warm = True
            return
        self._cost_estimator.add(PastRound(groups, done.fit_ms, done.longest_ms, seconds))
