"""The staleness judge: the state of a shard's groups, and the verdicts that follow from it.

`advance` returns the state updated with new promotions, failed fits and health, and leaves the given state unchanged.
`judge` and `report` return verdicts and mark in the state what was reported. The clock is a parameter. The order of
the rows in one batch does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from schemas.vocabulary import Staleness
from spinney.core import state_codec
from spinney.core.champions.champion_selection import is_pinned, select_champion
from spinney.core.champions.shard_champions import Champions
from spinney.core.migration import LossHistory
from spinney.core.planning.brake import RaisedErrors
from spinney.core.planning.budget import FIRST_POLICY, lottery_number
from spinney.core.staleness.attempt_outcomes import (
    SECOND,
    DecisionRecord,
    UnfittedAttempt,
    apply_attempts,
    spend_evidence,
    time_order,
)
from spinney.core.staleness.encoded_champions import EncodedChampions
from spinney.core.staleness.evidence.error_evidence import LIMIT, ErrorEvidence, tail_index_of
from spinney.core.staleness.evidence.loss_counting import CountSettings, count_labels, start_samples
from spinney.core.staleness.evidence.prediction_drift import PredictionDrift
from spinney.core.staleness.expected_gain import UNKNOWN_COST_MS, ExpectedGain
from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.judge_state_upgrades import UPGRADES
from spinney.core.staleness.last_arrival_times import note_arrivals
from spinney.core.staleness.lazy_state_section import LazySection
from spinney.core.staleness.loss_change import in_current_loss
from spinney.core.staleness.pending_labels import PendingLabels
from spinney.core.staleness.policies import Policy, configured_policies
from spinney.core.staleness.predecessors import add_predecessors
from spinney.core.staleness.verdicts import (
    ERROR_RISE,
    VERDICT_COLUMNS,
    StalenessResult,
    VerdictContext,
    decide_staleness,
    make_verdicts,
)
from spinney.core.stored_formats import JUDGE_STATE

if TYPE_CHECKING:
    from spinney.core.config import Config

__all__ = [
    "UNKNOWN_COST_MS",
    "VERDICT_COLUMNS",
    "DecisionRecord",
    "DueLimits",
    "JudgeInput",
    "JudgeSettings",
    "ShardReport",
    "ShardState",
    "UnfittedAttempt",
    "advance",
    "judge",
    "report",
]  # fmt: skip

CODEC = state_codec.StateCodec(JUDGE_STATE, UPGRADES)


@dataclass(frozen=True)
class JudgeSettings:
    """Settings of the judge.

    min_rows: of the recipe. label_delay: microseconds. patience: of `error_rise`, microseconds. drift_patience: of
    `drift`, microseconds; None: predictions are not counted. rate_half_life: of the decayed counts of labels,
    microseconds. is_wall_clock: whether the fleet's clock is the wall clock; otherwise it is the greatest event time
    that any shard has reported. losses: of the fleet; None: the loss has never changed. tail_index: of its current
    loss.
    """

    policies: tuple[Policy, ...]
    min_rows: int
    label_delay: int
    patience: int
    is_wall_clock: bool
    drift_patience: int | None = None
    rate_half_life: int = 14 * 86_400 * SECOND
    losses: LossHistory | None = None
    tail_index: float = tail_index_of("absolute")

    @property
    def count_settings(self) -> CountSettings:
        """How labels are counted."""
        return CountSettings(self.patience, self.rate_half_life, self.tail_index)

    @classmethod
    def from_config(cls, config: Config, losses: LossHistory | None = None) -> JudgeSettings:
        """Return the settings of a configuration file."""
        return cls(
            policies=configured_policies(config.staleness, config.recipe.min_rows, config.fleet.label_delay),
            min_rows=config.recipe.min_rows,
            label_delay=int(config.fleet.label_delay.total_seconds() * SECOND),
            patience=int(config.staleness.error_rise.patience.total_seconds() * SECOND),
            is_wall_clock=config.fleet.clock == "wall",
            drift_patience=int(config.staleness.drift.patience.total_seconds() * SECOND),
            rate_half_life=int(config.staleness.max_age.total_seconds() * SECOND),
            losses=losses,
            tail_index=tail_index_of(config.fleet.loss),
        )


@dataclass(frozen=True)
class JudgeInput:
    """What has come since the last call.

    decided: rows of `promotions`. unfitted: rows of `models` without a model. health: its predictions are read only
    with `drift_patience`.
    """

    decided: Sequence[DecisionRecord]
    unfitted: Sequence[UnfittedAttempt]
    health: HealthRows


@dataclass(frozen=True)
class ShardState:
    """The judge's state of one shard.

    clock: the fleet's, microseconds. loss_name: name of the stored losses; empty: the loss that the fleet was made
    with.
    """

    groups: GroupStates
    encoded_champions: EncodedChampions
    encoded_pending: LazySection[PendingLabels]
    encoded_evidence: LazySection[ErrorEvidence]
    encoded_drift: LazySection[PredictionDrift]
    clock: int
    loss_name: str = ""

    @classmethod
    def empty(cls) -> ShardState:
        """Return the state of a shard without groups."""
        pending = LazySection(PendingLabels.from_bytes, PendingLabels.to_bytes, PendingLabels.empty())
        evidence = LazySection(ErrorEvidence.from_bytes, ErrorEvidence.to_bytes, ErrorEvidence.empty())
        drift = LazySection(PredictionDrift.from_bytes, PredictionDrift.to_bytes, PredictionDrift.empty())
        return cls(GroupStates.empty(), EncodedChampions.of(Champions.empty()), pending, evidence, drift, NEVER)

    @property
    def champions(self) -> Champions:
        """All champions of the shard, decoded."""
        return self.encoded_champions.champions

    @property
    def pending(self) -> PendingLabels:
        """Labels that are not mature yet, decoded on first use."""
        return self.encoded_pending.value

    @property
    def sections(self) -> tuple[bytes, ...]:
        """The encoded parts, except the clock.

        A sealed state returns the bytes that it keeps, without encoding them again.
        """
        encoded = (self.encoded_champions, self.encoded_pending, self.encoded_evidence, self.encoded_drift)
        return self.groups.to_bytes(), *(section.blob for section in encoded), self.loss_name.encode()

    def to_bytes(self) -> bytes:
        """Encode the clock and the sections, with the version of the format."""
        clock = self.clock.to_bytes(8, "little", signed=True)
        return CODEC.pack(state_codec.join_sections([clock, *self.sections]))

    @classmethod
    def clock_of(cls, blob: bytes) -> int:
        """Return the clock of an encoded state without decoding the rest; NEVER for empty bytes."""
        if not blob:
            return NEVER
        clock, *_ = state_codec.split_sections(CODEC.unpack(blob))
        return int.from_bytes(clock, "little", signed=True)

    def sealed(self) -> ShardState:
        """Return the state for keeping between batches: its groups keep their bytes and become read-only."""
        return replace(self, groups=self.groups.sealed())

    @classmethod
    def from_bytes(cls, blob: bytes) -> ShardState:
        """Decode the result of `to_bytes`. Raises Corrupt for other bytes.

        Champions are decoded when they are first read, and raise Corrupt only then.
        """
        clock, groups, champions, pending, evidence, drift, loss = state_codec.split_sections(CODEC.unpack(blob))
        return cls(
            GroupStates.from_bytes(groups).sealed(bytes(groups)),
            EncodedChampions(bytes(champions)),
            LazySection(PendingLabels.from_bytes, PendingLabels.to_bytes, blob=bytes(pending)),
            LazySection(ErrorEvidence.from_bytes, ErrorEvidence.to_bytes, blob=bytes(evidence)),
            LazySection(PredictionDrift.from_bytes, PredictionDrift.to_bytes, blob=bytes(drift)),
            int.from_bytes(clock, "little", signed=True),
            bytes(loss).decode(),
        )


def advance(shard: ShardState, inputs: JudgeInput, settings: JudgeSettings, now: int) -> ShardState:
    """Return the state updated with these inputs. now: wall clock of the batch, microseconds.

    Attempts are applied before health, so that the first labels of a new champion count for it and rows that arrive
    together with an attempt count as new. Unchanged parts are shared with the given state.
    """
    if settings.losses is not None:
        shard = in_current_loss(shard, settings.losses)
    clock = _advance_clock(shard.clock, inputs, settings, now)
    deltas = inputs.health.of_groups()
    attempted = {*(row.group_key for row in inputs.decided), *(row.group_key for row in inputs.unfitted)}
    mature, pending = shard.pending.with_labels(deltas, settings.label_delay).split(clock)
    is_changed = bool(attempted) or len(deltas) > 0 or len(mature) > 0
    groups = shard.groups.copy() if is_changed else shard.groups
    if is_changed:
        groups.positions_of(sorted({*deltas.group_key.tolist(), *attempted}))
    note_arrivals(groups, deltas)
    encoded = shard.encoded_champions
    new_champions: Mapping[int, DecisionRecord | None] = {}
    if attempted:
        decided = ((row.group_key, replace(row.promotion, payload=None)) for row in inputs.decided)
        champions = encoded.select(attempted).with_promotions(decided)
        encoded = encoded.with_replaced(champions) if inputs.decided else encoded
        apply_attempts(groups, champions, (*inputs.decided, *inputs.unfitted), settings.min_rows)
        new_champions = _update_champions(groups, champions, inputs.decided)
    evidence = shard.encoded_evidence
    if new_champions or len(mature):
        present = evidence.value.resized(len(groups))
        start_samples(groups, present, new_champions)
        counted = count_labels(groups, present, mature, settings.count_settings, encoded.predecessors_of)
        evidence = evidence.with_value(counted)
    waiting = shard.encoded_pending
    waiting = waiting if pending is shard.pending else waiting.with_value(pending)
    drift = _count_predictions(shard.encoded_drift, groups, new_champions, deltas, settings.drift_patience)
    return ShardState(groups, encoded, waiting, evidence, drift, clock, shard.loss_name)


def _count_predictions(
    drift: LazySection[PredictionDrift],
    groups: GroupStates,
    new_champions: Mapping[int, DecisionRecord | None],
    deltas: HealthRows,
    patience: int | None,
) -> LazySection[PredictionDrift]:
    """Return the drift of the predictions in these rows of health. Unlike labels, they count at once."""
    if patience is None or not (new_champions or deltas.has_predictions.any()):
        return drift
    present = drift.value.resized(len(groups))
    present.start(groups, new_champions)
    return drift.with_value(present.counted(groups, deltas, patience) if len(deltas) else present)


def _advance_clock(clock: int, inputs: JudgeInput, settings: JudgeSettings, now: int) -> int:
    """Return the fleet's clock, which never runs backwards. Groups without events age by the events of others."""
    if settings.is_wall_clock:
        return max(clock, now)
    decided = (row.clock for row in inputs.decided)
    unfitted = (row.clock for row in inputs.unfitted)
    newest = [int(inputs.health.last_event_time.max())] if len(inputs.health) else []
    return max([clock, *decided, *unfitted, *newest])


def _update_champions(
    groups: GroupStates, champions: Champions, decided: Sequence[DecisionRecord]
) -> dict[int, DecisionRecord | None]:
    """Store the current champion of each group. The recent error restarts with a new champion.

    Returns the positions of groups with a new champion, with the decision that measured it, if it is among `decided`.
    """
    measured = {row.promotion.model_id: row for row in sorted(decided, key=time_order) if np.isfinite(row.loss)}
    new_champions: dict[int, DecisionRecord | None] = {}
    revisions: dict[str, int] = {}
    for row in decided:
        revisions[row.group_key] = max(revisions.get(row.group_key, 0), row.promotion.revision)
    for at, (group_key, revision) in zip(groups.positions_of(revisions), revisions.items(), strict=True):
        promotions = champions.promotions.get(group_key, ())
        champion = select_champion(promotions)
        model_id = champion.model_id if champion else ""
        groups["epoch"][at] = max(int(groups["epoch"][at]), revision)
        groups["pinned"][at] = is_pinned(promotions)
        if model_id != groups["champion_id"][at]:
            groups["champion_id"][at] = model_id
            measurement = measured.get(model_id)
            new_champions[int(at)] = measurement
            groups["baseline"][at] = measurement.usual_loss if measurement else np.nan
            spend_evidence(groups, int(at))
            for name in ("champion_rows", "recent_weight", "recent_loss"):
                groups[name][at] = 0
    return new_champions


@dataclass(frozen=True)
class ShardReport:
    """The verdicts of a shard, and how many groups are due.

    rows: verdicts, VERDICT_COLUMNS. due: number of due groups, including those without a row. withheld: number of due
    groups that are not put forward, because a round cannot take so many from one shard. A withheld group has a row,
    `deferred`, only when it becomes due. errors: number of groups with a champion, and of those that are stale by
    `error_rise`. has_changed_errors: whether the number that are stale by `error_rise` differs from the previous
    report.
    """

    rows: Sequence[dict[str, object]]
    due: int
    withheld: int
    errors: RaisedErrors = field(default_factory=RaisedErrors)
    has_changed_errors: bool = False


@dataclass(frozen=True)
class DueLimits:
    """How many due groups a shard puts forward at most: by rank, by the time since they became due, and at random."""

    by_rank: int
    oldest: int
    random: int
    seed: str


def judge(shard: ShardState, settings: JudgeSettings, now: int) -> list[dict[str, object]]:
    """Return the verdicts to report: of every due group, and of groups whose decision or policy changed.

    now: wall clock, microseconds. Rows have VERDICT_COLUMNS; times are microseconds, NEVER where there is none. Marks
    in the state what was reported.
    """
    return list(_judged(shard, settings, now, None).rows)


def report(shard: ShardState, settings: JudgeSettings, now: int, limits: DueLimits) -> ShardReport:
    """Return the verdicts of `judge` with no more due groups than `limits`, and counts of all due groups."""
    return _judged(shard, settings, now, limits)


def _judged(shard: ShardState, settings: JudgeSettings, now: int, limits: DueLimits | None) -> ShardReport:
    groups = shard.groups
    if not len(groups):
        return ShardReport([], 0, 0)
    stale = StalenessResult.of(groups, settings.policies, shard.clock)
    decision = decide_staleness(groups, stale, now)
    policy = np.where(decision == Staleness.FRESH, "", stale.policy)
    changed = (decision != groups["decision"]) | (policy != groups["policy"])
    # A new group's first verdict `fresh`, or one right after an attempt, adds nothing to its promotion.
    is_reportable = changed & ~((groups["decision"] == "") & (decision == Staleness.FRESH))
    has_drifted = groups["drift"] >= LIMIT
    is_reportable |= has_drifted & ~groups["has_drifted"]
    due = decision == Staleness.FIT
    repeats = np.where(changed, 0, groups["repeats"])
    since = np.where(stale.is_stale & (groups["stale_since"] == NEVER), now, groups["stale_since"])
    since = np.where(stale.is_stale, since, NEVER)
    groups.update(repeats=repeats, stale_since=since, has_drifted=has_drifted)
    gain = ExpectedGain.of(groups, shard.clock)
    forward = due if limits is None else _select_forward(groups, stale, gain, due, limits)
    withheld = due & ~forward
    reported = np.flatnonzero(forward | (is_reportable & ~due) | (withheld & (repeats == 0)))
    shown_decision = np.where(withheld, Staleness.DEFERRED.value, decision)
    # A pinned group cannot be refitted: it would keep the brake on for ever.
    free = ~groups["pinned"]
    raised, before = (int(((names == ERROR_RISE) & free).sum()) for names in (policy, groups["policy"]))
    context = VerdictContext(shown_decision, gain, shard.clock, now)
    rows = make_verdicts(groups, settings.policies, stale, reported, context)
    add_predecessors(rows, shard.encoded_champions, groups)
    groups.update(repeats=np.where(due, 1, repeats), decision=decision, policy=policy)
    errors = RaisedErrors(int(((groups["champion_id"] != "") & free).sum()), raised)
    return ShardReport(rows, int(due.sum()), int(withheld.sum()), errors, raised != before)


def _select_forward(
    groups: GroupStates, stale: StalenessResult, gain: ExpectedGain, due: np.ndarray, limits: DueLimits
) -> np.ndarray:
    """Mark the due groups to put forward: the first of each queue, up to its limit."""
    places = np.flatnonzero(due)
    if len(places) <= limits.by_rank:
        return due
    keys = [groups.keys[i] for i in places]
    queues = (
        (limits.by_rank, [stale.policy[places] != FIRST_POLICY, -gain.per_second[places], -stale.urgency[places]]),
        (limits.oldest, [groups["stale_since"][places]]),
        (limits.random, [np.array([lottery_number(limits.seed, key) for key in keys])] if limits.random else []),
    )
    forward = np.zeros(len(groups), dtype=np.bool_)
    for length, order in queues:
        if length:
            forward[places[np.lexsort([keys, *reversed(order)])[:length]]] = True
    return forward
