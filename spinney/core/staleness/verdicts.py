"""Verdicts: which groups of a shard are stale, why, and what they wait for. One row per group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.vocabulary import ALSO, Staleness
from spinney.core.durations import format_duration
from spinney.core.staleness.attempt_outcomes import SECOND
from spinney.core.staleness.evidence.error_evidence import LIMIT
from spinney.core.staleness.expected_gain import ExpectedGain
from spinney.core.staleness.group_state import NEVER, GroupStates

if TYPE_CHECKING:
    from spinney.core.staleness.policies import Policy

WITHHELD_REASON = "; deferred: a round takes fewer groups than are due in its shard"

VERDICT_NUMBERS = ("rows_since", "champion_rows", "wait_rows", "refusals", "failures")
"""Columns of the state that a verdict carries as numbers."""

NO_LABELS = "no_labels"
"""The policy by which a group is reported and not refitted."""

MAX_AGE = "max_age"
"""The policy that ends the wait for new rows after a refusal."""

ERROR_RISE = "error_rise"
"""The policy whose reason compares the champion's losses."""

DRIFT = "drift"
"""The policy that may be recorded without making a group stale; also the column of the state that it measures."""

_DRIFTED = "; predictions have drifted: evidence {:.3g} (limit {:g})"

VERDICT_COLUMNS = (
    "group_key",
    "policy",
    "decision",
    "reason",
    "numbers",
    "model_id",
    "epoch",
    "stale_since",
    "clock",
    "predicted_ms",
    "urgency",
    "gain_per_second",
    "repeats",
)


@dataclass(frozen=True)
class PolicyResult:
    """The result of one policy, one value per group. value: its measure; applies: whether it reaches the limit."""

    name: str
    applies: np.ndarray
    value: np.ndarray
    limit: np.ndarray


@dataclass(frozen=True)
class StalenessResult:
    """The result of the policies, one value per group.

    policy, policy_index: the first policy that applies; empty and -1 where the group is not stale. value, limit: its
    measure and limit; NaN where not stale. urgency: value / limit; 0 where not stale. by_policy: results of the
    policies that apply to at least one group.
    """

    is_stale: np.ndarray
    policy: np.ndarray
    policy_index: np.ndarray
    value: np.ndarray
    limit: np.ndarray
    urgency: np.ndarray
    by_policy: tuple[PolicyResult, ...] = ()

    def applies(self, name: str) -> np.ndarray:
        """Return for each group whether the policy of this name applies, even if another policy gives the reason."""
        found = [rule.applies for rule in self.by_policy if rule.name == name]
        return found[0] if found else np.zeros(len(self.is_stale), dtype=np.bool_)

    @classmethod
    def of(cls, groups: GroupStates, policies: tuple[Policy, ...], clock: int) -> StalenessResult:
        """Apply the policies to all groups. clock: the fleet's, microseconds."""
        is_stale = np.zeros(len(groups), dtype=np.bool_)
        policy = np.full(len(groups), "", dtype=object)
        policy_index = np.full(len(groups), -1, dtype=np.int64)
        value = np.full(len(groups), np.nan)
        limit = np.full(len(groups), np.nan)
        urgency = np.zeros(len(groups))
        results = []
        for i, rule in enumerate(policies):
            measure, limits = rule.measure(groups, clock), rule.limits(groups)
            with np.errstate(invalid="ignore"):
                reached = measure >= limits
            if not reached.any():
                continue
            results.append(PolicyResult(rule.name, reached, measure, limits))
            applies = reached & ~is_stale
            is_stale |= applies
            policy[applies] = rule.name
            policy_index[applies] = i
            value[applies] = measure[applies]
            limit[applies] = limits[applies]
            urgency[applies] = measure[applies] / np.maximum(limits[applies], 1e-12)
        return cls(is_stale, policy, policy_index, value, limit, urgency, tuple(results))


def decide_staleness(groups: GroupStates, result: StalenessResult, now: int) -> np.ndarray:
    """Return the decision for each group: fresh, fit, refused (it waits) or held (pinned, or by NO_LABELS).

    A group that is stale by MAX_AGE waits for one new row at most. now: wall clock, microseconds.
    """
    stale, policy = result.is_stale, result.policy
    wait_rows = np.where(result.applies(MAX_AGE), np.minimum(groups["wait_rows"], 1), groups["wait_rows"])
    # Parents have no rows of their own to wait for.
    lacks_rows = (groups["rows_since"] < wait_rows) & ~groups.are_parents
    is_early = now < groups["retry_at"]
    # After an attempt with too few rows either is enough: new rows, or time for the counted ones to be stored.
    had_too_few = (groups["wait_rows"] > 0) & (groups["retry_at"] != NEVER)
    waits = np.where(had_too_few, lacks_rows & is_early, lacks_rows | is_early)
    decision = np.full(len(groups), Staleness.FRESH.value, dtype=object)
    decision[stale] = Staleness.FIT.value
    decision[stale & waits] = Staleness.REFUSED.value
    decision[(stale & groups["pinned"]) | (policy == NO_LABELS)] = Staleness.HELD.value
    return decision


@dataclass(frozen=True)
class VerdictContext:
    """Inputs of verdicts. decision, gain: one per group. clock: the fleet's, now: wall clock; microseconds."""

    decision: np.ndarray
    gain: ExpectedGain
    clock: int
    now: int


def make_verdicts(
    groups: GroupStates,
    policies: tuple[Policy, ...],
    stale: StalenessResult,
    reported: np.ndarray,
    context: VerdictContext,
) -> list[dict[str, object]]:
    """Return one row with VERDICT_COLUMNS for each of the groups at the positions `reported`."""
    if not len(reported):
        return []
    decisions = context.decision[reported].tolist()
    measures = zip(
        stale.policy_index[reported].tolist(),
        stale.value[reported].tolist(),
        stale.limit[reported].tolist(),
        strict=True,
    )
    columns = {
        "group_key": [groups.keys[i] for i in reported.tolist()],
        "policy": [value or None for value in stale.policy[reported].tolist()],
        "decision": decisions,
        "reason": [
            policies[at].describe(*measured) if at >= 0 else "no policy asks for a refit" for at, *measured in measures
        ],
        "numbers": _numbers(groups, reported, stale, context.gain),
        "model_id": [model_id or None for model_id in groups["champion_id"][reported].tolist()],
        "epoch": groups["epoch"][reported].tolist(),
        "stale_since": groups["stale_since"][reported].tolist(),
        "clock": [context.clock] * len(reported),
        "predicted_ms": context.gain.predicted_ms[reported].tolist(),
        "urgency": stale.urgency[reported].tolist(),
        "gain_per_second": context.gain.per_second[reported].tolist(),
        "repeats": groups["repeats"][reported].tolist(),
    }
    endings = _reason_endings(groups, stale, reported, columns["numbers"], context)
    columns["reason"] = [reason + ending for reason, ending in zip(columns["reason"], endings, strict=True)]
    return [dict(zip(VERDICT_COLUMNS, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _reason_endings(
    groups: GroupStates,
    stale: StalenessResult,
    reported: np.ndarray,
    numbers: list[dict[str, Any]],
    context: VerdictContext,
) -> Iterator[str]:
    """The ends of the reasons: the comparison of the champion's losses, what the group waits for, drift."""
    described = zip(stale.policy[reported].tolist(), context.decision[reported].tolist(), numbers, strict=True)
    for i, (policy, decision, known) in zip(reported.tolist(), described, strict=True):
        ending = _compare_errors(known) if policy == ERROR_RISE else ""
        if decision not in (Staleness.FIT, Staleness.FRESH):
            ending += _reason_to_wait(groups, i, decision, context.now)
        if policy != DRIFT and known.get(DRIFT, 0.0) >= LIMIT:
            ending += _DRIFTED.format(known[DRIFT], LIMIT)
        yield ending


def _numbers(
    groups: GroupStates, reported: np.ndarray, stale: StalenessResult, gain: ExpectedGain
) -> list[dict[str, Any]]:
    """The numbers of each verdict: VERDICT_NUMBERS; for stale groups the measure, its limit and the expected gain.

    ALSO: measure and limit by the name of each further policy that applies.
    """
    known = zip(*(groups[name][reported].tolist() for name in VERDICT_NUMBERS), strict=True)
    rows: list[dict[str, Any]] = [dict(zip(VERDICT_NUMBERS, row, strict=True)) for row in known]
    for row in rows:
        if row["wait_rows"]:  # then it counts attempts with too few rows, not failed fits
            row["failures"] = 0
    of_stale = {
        "measure": np.round(stale.value[reported], 6).tolist(),
        "limit": np.round(stale.limit[reported], 6).tolist(),
        "expected_gain": _six_digits(gain.loss_per_day[reported]),
        "event_rate": _six_digits(gain.event_rate[reported]),
    }
    for n in np.flatnonzero(stale.is_stale[reported]).tolist():
        rows[n] |= {name: values[n] for name, values in of_stale.items()}
    for rule in stale.by_policy:
        is_further = rule.applies[reported] & (stale.policy[reported] != rule.name)
        for n in np.flatnonzero(is_further).tolist():
            value, limit = _six_digits(np.array([rule.value[reported[n]], rule.limit[reported[n]]]))
            rows[n].setdefault(ALSO, {})[rule.name] = {"measure": value, "limit": limit}
    return [row | errors for row, errors in zip(rows, _error_numbers(groups, reported), strict=True)]


def _error_numbers(groups: GroupStates, reported: np.ndarray) -> list[dict[str, float]]:
    """Evidence that each champion's error has risen and its predictions have drifted; its recent and held-out mean
    loss.

    Unknown numbers are left out; all of them for a group without a champion.
    """
    weight = groups["recent_weight"][reported]
    recent = groups["recent_loss"][reported] / np.where(weight > 0, weight, np.nan)
    columns = {
        "evidence": np.where(groups["champion_id"][reported] != "", groups["evidence"][reported], np.nan),
        DRIFT: groups[DRIFT][reported],
        "recent_loss": recent,
        "reference_loss": groups["baseline"][reported],
    }
    rows = zip(*(_six_digits(column) for column in columns.values()), strict=True)
    return [{name: n for name, n in zip(columns, row, strict=True) if np.isfinite(n)} for row in rows]


def _compare_errors(numbers: dict[str, float]) -> str:
    """Return the comparison of the recent loss with the loss on held-out rows, as the end of a reason."""
    recent, reference = numbers.get("recent_loss"), numbers.get("reference_loss", 0.0)
    if recent is None or reference <= 0:
        return ""
    return f"; recent losses are {recent / reference:.3g} times those of the held-out rows"


def _six_digits(values: np.ndarray) -> list[float]:
    """Rounded to six significant digits, since losses may be of any size."""
    return [float(f"{value:.6g}") for value in values.tolist()]


def _reason_to_wait(groups: GroupStates, i: int, decision: str, now: int) -> str:
    if decision == Staleness.HELD:
        return "; pinned by a person" if groups["pinned"][i] else "; not refitted without them"
    if decision == Staleness.DEFERRED:
        return WITHHELD_REASON
    retry_in = int(groups["retry_at"][i]) - now
    wait = format_duration(timedelta(seconds=round(max(retry_in, 0) / SECOND)))
    if retry_in > 0 and not groups["wait_rows"][i]:
        return f"; failed fits in a row: {groups['failures'][i]}, the next try waits {wait}"
    rows = f"; waits for new rows: {groups['rows_since'][i]} of {groups['wait_rows'][i]} came"
    return f"{rows}, or {wait} for rows that are counted and not stored yet" if retry_in > 0 else rows
