"""Which groups of a shard are stale, and what is said of them: in words, as numbers, one row a group."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from schemas.vocabulary import Staleness
from spinney.core.durations import format_duration
from spinney.core.staleness.attempt_outcomes import SECOND
from spinney.core.staleness.group_state import NEVER, Groups

if TYPE_CHECKING:
    from spinney.core.staleness.policies import Policy

UNKNOWN_COST_MS = 5.0
"""Predicted cost of a fit in a shard where none has been measured yet."""

WITHHELD = "; deferred: a round takes fewer groups than are due in its shard"

NUMBERS = ("rows_since", "champion_rows", "wait_rows", "refusals", "failures")
"""What is known of a group and stands in its verdict as a number."""

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
    "repeats",
)


@dataclass(frozen=True)
class Stale:
    """Which groups are stale, by which policy (the first that speaks), and how far beyond its limit."""

    found: np.ndarray
    policy: np.ndarray
    at: np.ndarray
    value: np.ndarray
    limit: np.ndarray
    urgency: np.ndarray

    @classmethod
    def of(cls, groups: Groups, policies: tuple[Policy, ...], clock: int) -> Stale:
        found = np.zeros(len(groups), dtype=np.bool_)
        policy = np.full(len(groups), "", dtype=object)
        at = np.full(len(groups), -1, dtype=np.int64)
        value = np.full(len(groups), np.nan)
        limit = np.full(len(groups), np.nan)
        urgency = np.zeros(len(groups))
        for i, each in enumerate(policies):
            measure, limits = each.measure(groups, clock), each.limits(groups)
            with np.errstate(invalid="ignore"):
                speaks = (measure >= limits) & ~found
            if not speaks.any():
                continue
            found |= speaks
            policy[speaks] = each.name
            at[speaks] = i
            value[speaks] = measure[speaks]
            limit[speaks] = limits[speaks]
            urgency[speaks] = measure[speaks] / np.maximum(limits[speaks], 1e-12)
        return cls(found, policy, at, value, limit, urgency)


def decide(groups: Groups, stale: np.ndarray, now: int) -> np.ndarray:
    # Parents have no rows of their own to wait for: their children's count for the children.
    lacks = (groups["rows_since"] < groups["wait_rows"]) & ~groups.are_parents
    is_early = now < groups["retry_at"]
    # After too few rows either is enough: new ones, or time in which those that were counted are stored.
    found_few = (groups["wait_rows"] > 0) & (groups["retry_at"] != NEVER)
    waits = np.where(found_few, lacks & is_early, lacks | is_early)
    decision = np.full(len(groups), Staleness.FRESH.value, dtype=object)
    decision[stale] = Staleness.FIT.value
    decision[stale & waits] = Staleness.REFUSED.value
    decision[stale & groups["pinned"]] = Staleness.HELD.value
    return decision


@dataclass(frozen=True)
class Said:
    """What is said of each group. clock: the fleet's, now: the wall's; microseconds."""

    decision: np.ndarray
    clock: int
    now: int


def verdicts(
    groups: Groups, policies: tuple[Policy, ...], stale: Stale, told: np.ndarray, said: Said
) -> list[dict[str, object]]:
    """One row for each of these places, VERDICT_COLUMNS."""
    if not len(told):
        return []
    costs = groups["fit_ms"]
    known = costs[np.isfinite(costs)]
    usual = float(known.mean()) if len(known) else UNKNOWN_COST_MS
    decisions = said.decision[told].tolist()
    words = zip(stale.at[told].tolist(), stale.value[told].tolist(), stale.limit[told].tolist(), strict=True)
    columns = {
        "group_key": [groups.keys[i] for i in told.tolist()],
        "policy": [each or None for each in stale.policy[told].tolist()],
        "decision": decisions,
        "reason": [policies[at].words(*each) if at >= 0 else "no policy asks for a refit" for at, *each in words],
        "numbers": _numbers(groups, told, stale),
        "model_id": [each or None for each in groups["champion_id"][told].tolist()],
        "epoch": groups["epoch"][told].tolist(),
        "stale_since": groups["stale_since"][told].tolist(),
        "clock": [said.clock] * len(told),
        "predicted_ms": np.where(np.isfinite(costs), costs, usual)[told].tolist(),
        "urgency": stale.urgency[told].tolist(),
        "repeats": groups["repeats"][told].tolist(),
    }
    for n, decision in enumerate(decisions):
        if decision not in (Staleness.FIT, Staleness.FRESH):
            columns["reason"][n] += _hindrance(groups, int(told[n]), decision, said.now)
    return [dict(zip(VERDICT_COLUMNS, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _numbers(groups: Groups, told: np.ndarray, stale: Stale) -> list[dict[str, float]]:
    """What stands in each verdict as numbers: NUMBERS, and, of a stale group, its measure and its limit."""
    known = zip(*(groups[name][told].tolist() for name in NUMBERS), strict=True)
    rows: list[dict[str, float]] = [dict(zip(NUMBERS, row, strict=True)) for row in known]
    for row in rows:
        if row["wait_rows"]:  # it counts attempts that found too few rows: no fit has failed
            row["failures"] = 0
    measured = (np.round(values[told], 6).tolist() for values in (stale.value, stale.limit))
    for row, found, measure, limit in zip(rows, stale.found[told].tolist(), *measured, strict=True):
        if found:
            row["measure"], row["limit"] = measure, limit
    return rows


def _hindrance(groups: Groups, i: int, decision: str, now: int) -> str:
    if decision == Staleness.HELD:
        return "; pinned by a person"
    if decision == Staleness.DEFERRED:
        return WITHHELD
    retry_in = int(groups["retry_at"][i]) - now
    wait = format_duration(timedelta(seconds=round(max(retry_in, 0) / SECOND)))
    if retry_in > 0 and not groups["wait_rows"][i]:
        return f"; failed fits in a row: {groups['failures'][i]}, the next try waits {wait}"
    rows = f"; waits for new rows: {groups['rows_since'][i]} of {groups['wait_rows'][i]} came"
    return f"{rows}, or {wait} for rows that are counted and not stored yet" if retry_in > 0 else rows
