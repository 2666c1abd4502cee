"""Which groups of a shard are stale, and what is known of them: the state behind every verdict.

`advance` takes in what happened since (promotions, failed fits, health) and leaves the shard it was given alone;
`judge` says what follows and marks in the shard what it said. The clock is a parameter, and the order in which the news
of one batch comes does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from schemas.vocabulary import Staleness
from spinney.core import state_codec
from spinney.core.champions.champion_selection import is_pinned, select_champion
from spinney.core.champions.shard_champions import Champions
from spinney.core.planning.budget import RANKS, draw
from spinney.core.staleness.attempt_outcomes import SECOND, Decided, Unfitted, in_time, take_attempts
from spinney.core.staleness.champion_histories import Histories
from spinney.core.staleness.group_state import NEVER, Groups
from spinney.core.staleness.lazy_section import Section
from spinney.core.staleness.pending_labels import Pending
from spinney.core.staleness.verdicts import UNKNOWN_COST_MS, VERDICT_COLUMNS, Said, Stale, decide, verdicts
from spinney.core.stored_formats import JUDGE_STATE

if TYPE_CHECKING:
    from spinney.core.config import Config
    from spinney.core.staleness.policies import Policy

__all__ = [
    "UNKNOWN_COST_MS", "VERDICT_COLUMNS",
    "Decided", "Most", "News", "Report", "Shard", "Terms", "Unfitted",
    "advance", "judge", "report",
]  # fmt: skip

CODEC = state_codec.StateCodec(JUDGE_STATE)


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
    histories: Histories
    waiting: Section[Pending]
    clock: int

    @classmethod
    def empty(cls) -> Shard:
        pending = Section(Pending.from_bytes, Pending.to_bytes, Pending.empty())
        return cls(Groups.empty(), Histories.of(Champions.empty()), pending, NEVER)

    @property
    def champions(self) -> Champions:
        return self.histories.champions

    @property
    def pending(self) -> Pending:
        return self.waiting.value

    @property
    def sections(self) -> tuple[bytes, bytes, bytes]:
        """The bytes of everything but the clock: the same objects as long as nothing changes."""
        return self.groups.to_bytes(), self.histories.blob, self.waiting.blob

    def to_bytes(self) -> bytes:
        clock = self.clock.to_bytes(8, "little", signed=True)
        return CODEC.pack(state_codec.join_sections([clock, *self.sections]))

    @classmethod
    def clock_of(cls, blob: bytes) -> int:
        """The clock in the bytes of a shard; NEVER in none."""
        if not blob:
            return NEVER
        clock, *_ = state_codec.split_sections(CODEC.unpack(blob))
        return int.from_bytes(clock, "little", signed=True)

    def sealed(self) -> Shard:
        """The same shard, to be kept between batches: what does not change is not encoded again.

        Its groups cannot be written into in place, since their bytes are remembered.
        """
        return replace(self, groups=self.groups.sealed())

    @classmethod
    def from_bytes(cls, blob: bytes) -> Shard:
        """Raises Corrupt when the blob is of another format, or broken; of champions, when they are asked for."""
        clock, groups, champions, pending = state_codec.split_sections(CODEC.unpack(blob))
        return cls(
            Groups.from_bytes(groups).sealed(bytes(groups)),
            Histories(bytes(champions)),
            Section(Pending.from_bytes, Pending.to_bytes, blob=bytes(pending)),
            int.from_bytes(clock, "little", signed=True),
        )


def advance(shard: Shard, news: News, terms: Terms, now: int) -> Shard:
    """The shard with the news taken in. now: wall clock of the batch, microseconds.

    Attempts come before health, so that the first labels of a new champion are counted as its own and the rows that
    came with the news of an attempt count as new. What nothing happened to is shared with the shard before.
    """
    clock = _ticked(shard.clock, news, terms, now)
    deltas = news.health[news.health["group_key"].notna()] if len(news.health) else news.health
    told = {*(row.group_key for row in news.decided), *(row.group_key for row in news.unfitted)}
    mature, pending = shard.pending.after(deltas, terms.label_delay).split(clock)
    changes = bool(told) or len(deltas) > 0 or len(mature) > 0
    groups = shard.groups.copy() if changes else shard.groups
    if changes:
        groups.rows_of(sorted({*deltas["group_key"], *told}))
    histories = shard.histories
    if told:
        decided = ((row.group_key, replace(row.promotion, payload=None)) for row in news.decided)
        champions = histories.some(told).with_promotions(decided)
        histories = histories.replaced(champions) if news.decided else histories
        take_attempts(groups, champions, (*news.decided, *news.unfitted), terms.min_rows)
        _take_champions(groups, champions, news.decided)
    _count(groups, mature, terms.memory)
    waiting = shard.waiting if pending is shard.pending else shard.waiting.with_value(pending)
    return Shard(groups, histories, waiting, clock)


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
        epochs[row.group_key] = max(epochs.get(row.group_key, 0), row.promotion.revision)
    for at, (group_key, epoch) in zip(groups.rows_of(epochs), epochs.items(), strict=True):
        history = champions.promotions.get(group_key, ())
        current = select_champion(history)
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
    if not len(mature):
        return
    at = groups.rows_of(mature["group_key"])
    labelled = mature["labelled"].to_numpy(np.int64)
    losses = mature["loss"].to_numpy(np.float64)
    np.add.at(groups["rows_since"], at, labelled)
    np.add.at(groups["labelled"], at, labelled)
    own = (mature["model_id"].fillna("").to_numpy(object) == groups["champion_id"][at]) & np.isfinite(losses)
    own &= groups["champion_id"][at] != ""
    at, labelled, losses = at[own], labelled[own], losses[own]
    for turn in _turns(at):
        # As if each of the rows had come alone with their mean loss: weights 1, 1 - 1/memory, (1 - 1/memory)² …
        rows, i = labelled[turn], at[turn]
        kept = (1 - 1 / memory) ** rows
        added = (1 - kept) * memory
        groups["champion_rows"][i] += rows
        groups["recent_weight"][i] = groups["recent_weight"][i] * kept + added
        groups["recent_loss"][i] = groups["recent_loss"][i] * kept + added * losses[turn] / rows


def _turns(at: np.ndarray) -> Iterator[np.ndarray]:
    """Split positions so that no group stands twice in one turn, and each group's own stay in their order."""
    order = np.argsort(at, kind="stable")
    first = np.flatnonzero(np.diff(at[order], prepend=-1))
    turn = np.empty(len(at), dtype=np.int64)
    turn[order] = np.arange(len(at)) - np.repeat(first, np.diff(first, append=len(at)))
    for n in range(int(turn.max(initial=-1)) + 1):
        yield np.flatnonzero(turn == n)


@dataclass(frozen=True)
class Report:
    """What the judge says of a shard. rows: verdicts, VERDICT_COLUMNS.

    due: groups that are due, those without a row too. withheld: of them, those not put forward: a round cannot take so
    many of one shard. Of these only the ones that are due for the first time have a row, `deferred`.
    """

    rows: Sequence[dict[str, object]]
    due: int
    withheld: int


@dataclass(frozen=True)
class Most:
    """How many due groups of a shard are put forward at most: by rank, by how long they have been due, by lot."""

    by_rank: int
    oldest: int
    by_lot: int
    lot: str


def judge(shard: Shard, terms: Terms, now: int) -> list[dict[str, object]]:
    """The verdicts to report: every group that is due, and any whose decision or policy changed.

    Rows have VERDICT_COLUMNS; times are microseconds, NEVER where there is none. Marks in the shard what was reported.
    """
    return list(_judged(shard, terms, now, None).rows)


def report(shard: Shard, terms: Terms, now: int, most: Most) -> Report:
    """The same for a stream: of the due groups no more than `most`, and how many there are."""
    return _judged(shard, terms, now, most)


def _judged(shard: Shard, terms: Terms, now: int, most: Most | None) -> Report:
    groups = shard.groups
    if not len(groups):
        return Report([], 0, 0)
    stale = Stale.of(groups, terms.policies, shard.clock)
    decision = decide(groups, stale.found, now)
    policy = np.where(decision == Staleness.FRESH, "", stale.policy)
    changed = (decision != groups["decision"]) | (policy != groups["policy"])
    # That a group is fresh at first sight, or right after an attempt, is what its promotion says already.
    is_news = changed & ~((groups["decision"] == "") & (decision == Staleness.FRESH))
    due = decision == Staleness.FIT
    repeats = np.where(changed, 0, groups["repeats"])
    since = np.where(stale.found & (groups["stale_since"] == NEVER), now, groups["stale_since"])
    since = np.where(stale.found, since, NEVER)
    groups.mark(repeats=repeats, stale_since=since)
    forward = due if most is None else _forward(groups, stale, due, most)
    withheld = due & ~forward
    told = np.flatnonzero(forward | (is_news & ~due) | (withheld & (repeats == 0)))
    said = np.where(withheld, Staleness.DEFERRED.value, decision)
    rows = verdicts(groups, terms.policies, stale, told, Said(said, shard.clock, now))
    groups.mark(repeats=np.where(due, 1, repeats), decision=decision, policy=policy)
    return Report(rows, int(due.sum()), int(withheld.sum()))


def _forward(groups: Groups, stale: Stale, due: np.ndarray, most: Most) -> np.ndarray:
    """Which of the due groups a round could take, if it took `most` of each queue."""
    places = np.flatnonzero(due)
    if len(places) <= most.by_rank:
        return due
    ranks = np.array([RANKS[each] for each in stale.policy[places]])
    keys = [groups.keys[i] for i in places]
    queues = (
        (most.by_rank, [ranks, -stale.urgency[places]]),
        (most.oldest, [groups["stale_since"][places]]),
        (most.by_lot, [np.array([draw(most.lot, key) for key in keys])] if most.by_lot else []),
    )
    forward = np.zeros(len(groups), dtype=np.bool_)
    for length, order in queues:
        if length:
            forward[places[np.lexsort([keys, *reversed(order)])[:length]]] = True
    return forward
