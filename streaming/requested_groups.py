"""Groups that people asked to retrain, in the plan of a streaming round.

The notes of a plan's commit name the requests that it takes. The requests are deleted once the round is recorded, and
Spark ends the batch only after that. So a killed batch is repeated from its stored plan: no request is lost, and none
is carried out twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.vocabulary import Staleness
from spinney.core.planning.brake import BrakeAction
from spinney.core.planning.budget import Candidate, take_requested
from spinney.retraining.requested_verdicts import PlanMoment, candidates_of, requested_verdicts
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import RetrainRequest
from streaming.round_planning import DueSummary, RoundPlan, RoundRules, plan_round

FIT, DEFERRED = Staleness.FIT.value, Staleness.DEFERRED.value


@dataclass(frozen=True)
class RequestedGroups:
    """The requested groups that a round takes, oldest request first. verdicts: as `requested_verdicts` returns them."""

    ids: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    verdicts: pa.Table

    @property
    def group_keys(self) -> list[str]:
        """The keys of the groups."""
        return [candidate.group_key for candidate in self.candidates]


def take_requests(
    store: FleetStore, waiting: Sequence[RetrainRequest], moment: PlanMoment, rules: RoundRules
) -> tuple[RequestedGroups | None, RoundRules]:
    """Return the requests that a round takes, and the rules with the remaining allowance for other groups.

    waiting: oldest first. A round that refits the brake's sample takes no requests, since its groups must all be chosen
    at random; the next round takes them (`RoundBrake.decide`).
    """
    if not waiting or rules.brake.action is BrakeAction.SAMPLE:
        return None, rules
    verdicts = requested_verdicts(store, waiting, moment)
    taken, left = take_requested(candidates_of(verdicts), rules.allowance)
    count = len(taken)
    ids = tuple(request.id for request in waiting[:count])
    return RequestedGroups(ids, tuple(taken), verdicts.slice(0, count)), replace(rules, allowance=left)


def plan_with_requests(
    reported: DataFrame | None,
    due: DueSummary,
    rules: RoundRules,
    requested: RequestedGroups | None,
    deferred: Mapping[str, int] = MappingProxyType({}),
) -> RoundPlan:
    """Return the plan of a round: the requested groups, then the due groups that these rules choose.

    reported: as for `plan_round`; None if no shard has reported anything. deferred: from `deferred_groups`; may be
    empty if no shard withholds a group. A requested group that is also due counts once. Raises the errors of
    `plan_round`.
    """
    if requested is None:
        assert reported is not None, "a round without requests has reports"
        return plan_round(reported, due, rules)
    if reported is None:
        return RoundPlan(requested.candidates, requested.verdicts, len(requested.candidates))
    is_requested = F.col("group_key").isin(requested.group_keys) & F.col("decision").isin(FIT, DEFERRED)
    others = _without_requested(reported, due, requested, deferred)
    plan = plan_round(reported.filter(~is_requested), others, rules)
    if isinstance(plan.verdicts, pa.Table):
        verdicts: DataFrame | pa.Table = pa.concat_tables([requested.verdicts, plan.verdicts])
    else:
        frame = reported.sparkSession.createDataFrame(requested.verdicts)
        verdicts = plan.verdicts.unionByName(frame)
    chosen = (*requested.candidates, *plan.chosen)
    return RoundPlan(chosen, verdicts, plan.groups_in + len(requested.candidates))


def _without_requested(
    reported: DataFrame, due: DueSummary, requested: RequestedGroups, deferred: Mapping[str, int]
) -> DueSummary:
    """The sums of the shards without the requested groups."""
    rows = reported.filter(F.col("group_key").isin(requested.group_keys)).select("group_key", "decision").collect()
    decisions = {row["group_key"]: row["decision"] for row in rows}
    counts = Counter(decisions.values())
    # A shard reports a group that it withholds in the first batch only, and again when that has changed.
    withheld = [key for key, shard in deferred.items() if key not in decisions and shard in due.errors]
    reported_rows = counts[FIT] + counts[DEFERRED]
    return due.without(counts[FIT], withheld=counts[DEFERRED] + len(withheld), rows=reported_rows)
