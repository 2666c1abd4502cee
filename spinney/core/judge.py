"""Which groups of a shard are stale, and what is known of them: the state behind every verdict.

`advance` takes in what happened since (promotions, failed fits, health) and leaves the shard it was given alone;
`judge` says what follows and marks in the shard what it said. The clock is a parameter, and the order in which the news
of one batch comes does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from schemas.vocabulary import Staleness
from spinney.core import blobs
from spinney.core.attempts import SECOND, Decided, Unfitted, in_time, take_attempts
from spinney.core.champion import champion, is_pinned
from spinney.core.champions import Champions
from spinney.core.groups import NEVER, Groups
from spinney.core.pending import Pending

if TYPE_CHECKING:
    from spinney.core.config import Config
    from spinney.core.staleness import Policy

__all__ = ["VERDICT_COLUMNS", "Decided", "News", "Shard", "Terms", "Unfitted", "advance", "judge"]

FORMAT = b"\x01"
UNKNOWN_COST_MS = 5.0
"""Predicted cost of a fit in a shard where none has been measured yet."""


@dataclass(frozen=True)
class Terms:
    """What the judge judges by.

    label_delay: microseconds. memory: rows of recent error remembered.
    wall: the fleet's clock is the wall's; otherwise it is the greatest event time that any shard reported.
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
        """Raises Corrupt when the blob is of another format, or broken."""
        clock, groups, champions, pending = blobs.split(blobs.unformatted(blob, FORMAT, "the judge"))
        return cls(
            Groups.from_bytes(groups),
            Champions.from_bytes(champions),
            Pending.from_bytes(pending),
            int.from_bytes(clock, "little", signed=True),
        )


def advance(shard: Shard, news: News, terms: Terms, now: int) -> Shard:
    """The shard with the news taken in. now: wall clock of the batch, microseconds.

    Attempts come before health, so that the first labels of a new champion are counted as its own and the rows that
    came with the news of an attempt count as new.
    """
    clock = _ticked(shard.clock, news, terms, now)
    deltas = news.health[news.health["group_key"].notna()]
    groups = shard.groups.copy()
    told = {*(row.group_key for row in news.decided), *(row.group_key for row in news.unfitted)}
    groups.rows_of(sorted({*deltas["group_key"], *told}))
    champions = shard.champions.after((row.group_key, replace(row.promotion, payload=None)) for row in news.decided)
    take_attempts(groups, champions, (*news.decided, *news.unfitted), terms.min_rows)
    _take_champions(groups, champions, news.decided)
    mature, pending = shard.pending.after(deltas, terms.label_delay).split(clock)
    _count(groups, mature, terms.memory)
    return Shard(groups, champions, pending, clock)


def _ticked(clock: int, news: News, terms: Terms, now: int) -> int:
    """The fleet's clock. It never runs backwards, and runs for quiet groups by what the others report."""
    if terms.wall:
        return max(clock, now)
    decided = (row.clock for row in news.decided)
    unfitted = (row.clock for row in news.unfitted)
    newest = [int(news.health["last_event_time"].max())] if len(news.health) else []
    return max([clock, *decided, *unfitted, *newest])


def _take_champions(groups: Groups, champions: Champions, decided: Sequence[Decided]) -> None:
    """Who answers now. A new champion's error is counted from nothing; sums of another model say nothing about it."""
    losses = {row.promotion.model_id: row.loss for row in sorted(decided, key=in_time) if np.isfinite(row.loss)}
    epochs: dict[str, int] = {}
    for row in decided:
        epochs[row.group_key] = max(epochs.get(row.group_key, 0), row.promotion.epoch)
    for at, (group_key, epoch) in zip(groups.rows_of(epochs), epochs.items(), strict=True):
        history = champions.histories.get(group_key, ())
        current = champion(history)
        model_id = current.model_id if current else ""
        groups["epoch"][at] = max(int(groups["epoch"][at]), epoch)
        groups["pinned"][at] = is_pinned(history)
        if model_id != groups["champion_id"][at]:
            groups["champion_id"][at] = model_id
            groups["baseline"][at] = losses.get(model_id, np.nan)
            for name in ("champion_rows", "recent_weight", "recent_loss"):
                groups[name][at] = 0


def _count(groups: Groups, mature: pd.DataFrame, memory: int) -> None:
    """Add labelled rows that have matured, oldest first: sums are exact, the recent error forgets by rows."""
    at = groups.rows_of(mature["group_key"])
    labelled = mature["labelled"].to_numpy(np.int64)
    losses = mature["loss"].to_numpy(np.float64)
    np.add.at(groups["rows_since"], at, labelled)
    np.add.at(groups["labelled"], at, labelled)
    own = (mature["model_id"].fillna("").to_numpy(object) == groups["champion_id"][at]) & np.isfinite(losses)
    own &= groups["champion_id"][at] != ""
    for i, rows, loss in zip(at[own], labelled[own], losses[own], strict=True):
        # As if each of the rows had come alone with their mean loss: weights 1, 1 - 1/memory, (1 - 1/memory)² …
        kept = (1 - 1 / memory) ** rows
        added = (1 - kept) * memory
        groups["champion_rows"][i] += rows
        groups["recent_weight"][i] = groups["recent_weight"][i] * kept + added
        groups["recent_loss"][i] = groups["recent_loss"][i] * kept + added * loss / rows


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
    groups["repeats"][changed] = 0
    # That a group is fresh at first sight, or right after an attempt, is what its promotion says already.
    no_news = (groups["decision"] == "") & (decision == Staleness.FRESH)
    due = decision == Staleness.FIT
    groups["stale_since"][stale.found & (groups["stale_since"] == NEVER)] = now
    groups["stale_since"][~stale.found] = NEVER
    known_costs = groups["fit_ms"][np.isfinite(groups["fit_ms"])]
    usual = float(known_costs.mean()) if len(known_costs) else UNKNOWN_COST_MS
    told = np.flatnonzero(due | (changed & ~no_news)).tolist()
    rows = [_verdict(shard, terms, stale, i, _Said(str(decision[i]), now, usual)) for i in told]
    groups["repeats"][due] += 1
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
    # Parents have no rows of their own to wait for: their children's count for the children.
    waits = (groups["rows_since"] < groups["wait_rows"]) & ~groups.are_parents
    waits |= now < groups["retry_at"]
    decision = np.full(len(groups), Staleness.FRESH.value, dtype=object)
    decision[stale] = Staleness.FIT.value
    decision[stale & waits] = Staleness.REFUSED.value
    decision[stale & groups["pinned"]] = Staleness.HELD.value
    return decision


@dataclass(frozen=True)
class _Said:
    """What a verdict says, when (wall clock), and what a fit usually costs in this shard."""

    decision: str
    now: int
    usual_ms: float


def _verdict(shard: Shard, terms: Terms, stale: _Stale, i: int, said: _Said) -> dict[str, object]:
    groups = shard.groups
    cost = float(groups["fit_ms"][i])
    numbers: dict[str, float] = {name: int(groups[name][i]) for name in NUMBERS}
    reason = "no policy asks for a refit"
    if stale.found[i]:
        policy, value = terms.policies[int(stale.at[i])], float(stale.value[i])
        numbers |= {"measure": round(value, 6), "limit": round(policy.limit, 6)}
        reason = policy.words(value) + _hindrance(groups, i, said)
    return {
        "group_key": groups.keys[i],
        "policy": str(stale.policy[i]) or None,
        "decision": said.decision,
        "reason": reason,
        "numbers": numbers,
        "model_id": str(groups["champion_id"][i]) or None,
        "epoch": int(groups["epoch"][i]),
        "stale_since": int(groups["stale_since"][i]),
        "clock": shard.clock,
        "predicted_ms": cost if np.isfinite(cost) else said.usual_ms,
        "urgency": float(stale.urgency[i]),
        "repeats": int(groups["repeats"][i]),
    }


def _hindrance(groups: Groups, i: int, said: _Said) -> str:
    if said.decision == Staleness.HELD:
        return "; pinned by a person"
    if said.decision != Staleness.REFUSED:
        return ""
    retry_in = int(groups["retry_at"][i]) - said.now
    if retry_in > 0:
        return f"; failed fits in a row: {groups['failures'][i]}, the next try waits {retry_in / SECOND:.0f} s"
    return f"; waits for new rows: {groups['rows_since'][i]} of {groups['wait_rows'][i]} came"
