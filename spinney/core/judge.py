"""Which groups of a shard are stale, and what is known of them: the state behind every verdict.

`advance` takes in what happened since (promotions, failed fits, health), `judge` says what follows. Both are pure: the
clock is a parameter, and the order in which news of one batch comes does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from schemas.vocabulary import Decision, ModelStatus, Staleness
from spinney.core import blobs
from spinney.core.champion import Promotion, champion, is_pinned
from spinney.core.champions import Champions
from spinney.core.errors import Corrupt
from spinney.core.groups import NEVER, Groups
from spinney.core.pending import Pending

if TYPE_CHECKING:
    from spinney.core.config import Config
    from spinney.core.staleness import Policy

FORMAT = b"\x01"
SECOND = 1_000_000
FIRST_RETRY = 300 * SECOND
LONGEST_RETRY = 86_400 * SECOND
UNKNOWN_COST_MS = 5.0
"""Predicted cost of a fit in a shard where none has been measured yet."""


@dataclass(frozen=True)
class Terms:
    """What the judge judges by.

    wall: the fleet's clock is the wall's; otherwise it is the greatest event time that any shard reported.
    memory: rows of recent error remembered.
    """

    policies: tuple[Policy, ...]
    min_rows: int
    label_delay: int
    memory: int
    wall: bool

    @classmethod
    def of(cls, config: Config, policies: tuple[Policy, ...]) -> Terms:
        return cls(
            policies=policies,
            min_rows=config.recipe.min_rows,
            label_delay=int(config.fleet.label_delay.total_seconds() * SECOND),
            memory=config.staleness.error_rise.rows,
            wall=config.fleet.clock == "wall",
        )


@dataclass(frozen=True)
class Decided:
    """One row of `promotions` as the judge reads it."""

    group_key: str
    promotion: Promotion
    by_machine: bool
    clock: int
    loss: float
    fit_ms: float


@dataclass(frozen=True)
class Unfitted:
    """One row of `models` whose attempt gave no model."""

    group_key: str
    status: str
    rows: int
    at: int
    clock: int


@dataclass(frozen=True)
class News:
    """What happened since the last tick. health: columns group_key, model_id, labelled, loss, last_event_time (us)."""

    decided: Sequence[Decided]
    unfitted: Sequence[Unfitted]
    health: pd.DataFrame


@dataclass(frozen=True)
class Shard:
    """All that the judge knows of one shard."""

    groups: Groups
    champions: Champions
    pending: Pending
    clock: int

    @classmethod
    def empty(cls) -> Shard:
        return cls(Groups.empty(), Champions.empty(), Pending.empty(), NEVER)

    def to_bytes(self) -> bytes:
        clock = self.clock.to_bytes(8, "little", signed=True)
        sections = [clock, self.groups.to_bytes(), self.champions.to_bytes(), self.pending.to_bytes()]
        return FORMAT + blobs.join(sections)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Shard:
        """Raises Corrupt when the blob is of another format."""
        if blob[:1] != FORMAT:
            msg = f"judge's state: expected format {FORMAT!r}, got {bytes(blob[:1])!r}; start from a new checkpoint"
            raise Corrupt(msg)
        clock, groups, champions, pending = blobs.split(memoryview(blob)[1:])
        return cls(
            Groups.from_bytes(groups),
            Champions.from_bytes(bytes(champions)),
            Pending.from_bytes(pending),
            int.from_bytes(clock, "little", signed=True),
        )


def advance(shard: Shard, news: News, terms: Terms, now: int) -> Shard:
    """The shard with the news taken in. now: wall clock of the batch, microseconds.

    Promotions come before health, so that the first labels of a new champion are counted as its own.
    """
    health = news.health
    ticks = [shard.clock]
    if terms.wall:
        ticks.append(now)
    else:
        ticks += [row.clock for row in (*news.decided, *news.unfitted)]
        ticks += [int(health["last_event_time"].max())] if len(health) else []
    clock = max(ticks)
    groups = shard.groups
    champions = _take_decisions(groups, shard.champions, news.decided, terms)
    _take_failures(groups, news.unfitted, terms)
    deltas = health[health["group_key"].notna()]
    groups.rows_of(deltas["group_key"])
    mature, pending = shard.pending.after(deltas, terms.label_delay).split(clock)
    _count(groups, mature, terms.memory)
    return replace(shard, champions=champions, pending=pending, clock=clock)


def _take_decisions(groups: Groups, champions: Champions, decided: Sequence[Decided], terms: Terms) -> Champions:
    champions = champions.after([(row.group_key, replace(row.promotion, payload=None)) for row in decided])
    losses = {row.promotion.model_id: row.loss for row in decided if np.isfinite(row.loss)}
    for row in sorted(decided, key=lambda row: (row.promotion.decided_at, row.promotion.order)):
        at = int(groups.rows_of([row.group_key])[0])
        groups["epoch"][at] = max(groups["epoch"][at], row.promotion.epoch)
        if row.by_machine:
            _note_attempt(groups, at, row.clock)
            _note_outcome(groups, at, row, terms)
    for key in dict.fromkeys(row.group_key for row in decided):
        at = int(groups.rows_of([key])[0])
        history = champions.histories.get(key, ())
        groups["pinned"][at] = is_pinned(history)
        current = champion(history)
        model_id = current.model_id if current else ""
        if model_id != groups["champion_id"][at]:
            groups["champion_id"][at] = model_id
            groups["baseline"][at] = losses.get(model_id, np.nan)
            for name in ("champion_rows", "recent_weight", "recent_loss"):
                groups[name][at] = 0
    return champions


def _note_attempt(groups: Groups, at: int, clock: int) -> None:
    groups["attempted_at"][at] = max(groups["attempted_at"][at], clock)
    groups["rows_since"][at] = 0
    groups["wait_rows"][at] = 0
    groups["stale_since"][at] = NEVER
    groups["repeats"][at] = 0
    # A repeat of the same verdict after an attempt is news again.
    groups["decision"][at] = ""


def _note_outcome(groups: Groups, at: int, row: Decided, terms: Terms) -> None:
    """A refusal waits for new rows, twice as many each time; a model that stands starts afresh."""
    if np.isfinite(row.fit_ms):
        groups["fit_ms"][at] = row.fit_ms
    groups["failures"][at] = 0
    groups["retry_at"][at] = NEVER
    if row.promotion.decision == Decision.REFUSED:
        groups["refusals"][at] += 1
        groups["wait_rows"][at] = max(1, terms.min_rows // 2) * 2 ** min(int(groups["refusals"][at]) - 1, 10)
    elif row.promotion.decision in (Decision.PROMOTED, Decision.UNPROVEN):
        groups["refusals"][at] = 0
    elif row.promotion.decision == Decision.KEPT:
        groups["wait_rows"][at] = 1


def _take_failures(groups: Groups, unfitted: Sequence[Unfitted], terms: Terms) -> None:
    """Too few rows waits for those missing; a failure waits for time, twice as long each time."""
    for row in sorted(unfitted, key=lambda row: row.at):
        at = int(groups.rows_of([row.group_key])[0])
        _note_attempt(groups, at, row.clock)
        if row.status == ModelStatus.TOO_FEW_ROWS:
            groups["labelled"][at] = max(int(groups["labelled"][at]), row.rows)
            groups["wait_rows"][at] = max(1, terms.min_rows - row.rows)
        else:
            groups["failures"][at] += 1
            wait = min(FIRST_RETRY * 2 ** min(int(groups["failures"][at]) - 1, 20), LONGEST_RETRY)
            groups["retry_at"][at] = row.at + wait


def _count(groups: Groups, mature: pd.DataFrame, memory: int) -> None:
    """Add labelled rows that have matured, oldest first: sums are exact, the recent error forgets by rows."""
    if not len(mature):
        return
    summed = mature.groupby(["group_key", "model_id", "last_event_time"], dropna=False, as_index=False).sum()
    summed = summed.sort_values(["last_event_time", "group_key", "model_id"], kind="stable")
    at = groups.rows_of(summed["group_key"])
    labelled = summed["labelled"].to_numpy(np.int64)
    np.add.at(groups["rows_since"], at, labelled)
    np.add.at(groups["labelled"], at, labelled)
    own = (summed["model_id"].fillna("").to_numpy(object) == groups["champion_id"][at]) & (labelled > 0)
    own &= groups["champion_id"][at] != ""
    for i, rows, loss in zip(at[own], labelled[own], summed["loss"].to_numpy(np.float64)[own], strict=True):
        kept = (1 - 1 / memory) ** rows
        added = (1 - kept) * memory
        groups["champion_rows"][i] += rows
        groups["recent_weight"][i] = groups["recent_weight"][i] * kept + added
        groups["recent_loss"][i] = groups["recent_loss"][i] * kept + added * loss / rows


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
    "age",
    "repeats",
)


def judge(shard: Shard, terms: Terms, now: int) -> list[dict[str, object]]:
    """The verdicts to report: every group that is due, and any whose decision or policy changed.

    Rows have VERDICT_COLUMNS; times are microseconds, NEVER where there is none. Marks in the shard what was reported.
    """
    groups = shard.groups
    if not len(groups):
        return []
    stale = _Stale.of(groups, terms.policies, shard.clock)
    decision = _decide(groups, stale.found, now)
    policy = np.where(decision == Staleness.FRESH, "", stale.policy)
    changed = (decision != groups["decision"]) | (policy != groups["policy"])
    # That a group is fresh at first sight, or right after an attempt, is what its promotion says already.
    no_news = (groups["decision"] == "") & (decision == Staleness.FRESH)
    due = decision == Staleness.FIT
    groups["stale_since"][stale.found & (groups["stale_since"] == NEVER)] = now
    groups["stale_since"][~stale.found] = NEVER
    known_costs = groups["fit_ms"][np.isfinite(groups["fit_ms"])]
    usual = float(known_costs.mean()) if len(known_costs) else UNKNOWN_COST_MS
    rows = [
        _verdict(shard, terms, stale, i, str(decision[i]), usual) for i in np.flatnonzero(due | (changed & ~no_news))
    ]
    groups["repeats"][due] += 1
    groups["repeats"][~due] = 0
    groups["decision"][:] = decision
    groups["policy"][:] = policy
    return rows


@dataclass(frozen=True)
class _Stale:
    """Which groups are stale, by which policy (the first that speaks), and how far beyond its limit."""

    found: np.ndarray
    policy: np.ndarray
    at: np.ndarray
    value: np.ndarray
    urgency: np.ndarray

    @classmethod
    def of(cls, groups: Groups, policies: tuple[Policy, ...], clock: int) -> _Stale:
        found = np.zeros(len(groups), dtype=np.bool_)
        policy = np.full(len(groups), "", dtype=object)
        at = np.full(len(groups), -1, dtype=np.int64)
        value = np.full(len(groups), np.nan)
        urgency = np.zeros(len(groups))
        for i, each in enumerate(policies):
            measure = each.measure(groups, clock)
            with np.errstate(invalid="ignore"):
                speaks = (measure >= each.limit) & ~found
            found |= speaks
            policy[speaks] = each.name
            at[speaks] = i
            value[speaks] = measure[speaks]
            urgency[speaks] = measure[speaks] / max(each.limit, 1e-12)
        return cls(found, policy, at, value, urgency)


def _decide(groups: Groups, stale: np.ndarray, now: int) -> np.ndarray:
    waits = (groups["rows_since"] < groups["wait_rows"]) & ~groups.are_parents
    waits |= now < groups["retry_at"]
    decision = np.full(len(groups), Staleness.FRESH.value, dtype=object)
    decision[stale] = Staleness.FIT.value
    decision[stale & waits] = Staleness.REFUSED.value
    decision[stale & groups["pinned"]] = Staleness.HELD.value
    return decision


def _verdict(shard: Shard, terms: Terms, stale: _Stale, i: int, decision: str, usual_ms: float) -> dict[str, object]:
    groups = shard.groups
    cost = float(groups["fit_ms"][i])
    numbers = {name: int(groups[name][i]) for name in ("rows_since", "champion_rows", "wait_rows", "refusals", "failures")}
    said = ""
    if stale.found[i]:
        policy = terms.policies[int(stale.at[i])]
        said = policy.words(float(stale.value[i]))
        numbers |= {"measure": round(float(stale.value[i]), 6), "limit": round(policy.limit, 6)}  # type: ignore[dict-item]
    return {
        "group_key": groups.keys[i],
        "policy": str(stale.policy[i]) or None,
        "decision": decision,
        "reason": said + _hindrance(groups, i, decision) or "no policy asks for a refit",
        "numbers": numbers,
        "model_id": str(groups["champion_id"][i]) or None,
        "epoch": int(groups["epoch"][i]),
        "stale_since": int(groups["stale_since"][i]),
        "clock": shard.clock,
        "predicted_ms": cost if np.isfinite(cost) else usual_ms,
        "urgency": float(stale.urgency[i]),
        "age": int(max(shard.clock - groups["attempted_at"][i], 0)) if groups["attempted_at"][i] != NEVER else -1,
        "repeats": int(groups["repeats"][i]),
    }


def _hindrance(groups: Groups, i: int, decision: str) -> str:
    if decision == Staleness.HELD:
        return "; pinned by a person"
    if decision != Staleness.REFUSED:
        return ""
    if groups["failures"][i]:
        return f"; {groups['failures'][i]} failed fits in a row, the next try waits"
    return f"; waits for {groups['wait_rows'][i]} new rows, has {groups['rows_since'][i]}"
