"""What the judge would know of groups now, had it watched from the beginning: from what is stored, all at once.

The stream's judge takes in what happens as it happens. Whoever asks without a running stream has the tables: every
attempt and every delta of health, in no order. Label arrival times are not stored, so a row counts as new if it matured
after the last attempt: an event that was mature at the attempt counts as one that the attempt had, although its label
came later. The judge that watched counts such late labels as new rows and, where an attempt had
found too few, towards a first model; here they count for neither, so a group may be stale to that judge and not here.
What matures while a weekly round runs counts here and not there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.vocabulary import ModelStatus
from spinney.core.staleness.group_state import NEVER, Groups
from spinney.core.staleness.judge import News, Shard, Terms, advance


def hindsight(news: News, terms: Terms, clock: int, now: int) -> Shard:
    """A shard of which all that was ever stored is news at once.

    clock: the fleet's, now: the wall's; microseconds.
    """
    shard = advance(replace(Shard.empty(), clock=clock), news, terms, now)
    health = news.health[news.health["group_key"].notna()]
    mature_at = health["last_event_time"].to_numpy(np.int64) + terms.label_delay
    ripe = mature_at <= shard.clock
    at = shard.groups.rows_of(health["group_key"])[ripe]
    counted = _Counted(at, mature_at[ripe], health["labelled"].to_numpy(np.int64)[ripe])
    counted.since_attempts(shard.groups)
    counted.beside_reports(shard.groups, news)
    return shard


@dataclass(frozen=True)
class _Counted:
    """Mature labelled rows: of which group (its place), when they matured, how many."""

    at: npt.NDArray[np.int64]
    mature_at: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    def since_attempts(self, groups: Groups) -> None:
        """Rows count for the next attempt that were not mature at the last one."""
        attempted = groups["attempted_at"][self.at]
        after = (attempted == NEVER) | (self.mature_at > attempted)
        groups["rows_since"][:] = 0
        np.add.at(groups["rows_since"], self.at[after], self.rows[after])

    def beside_reports(self, groups: Groups, news: News) -> None:
        """An attempt that found too few rows said how many it found: they may be more than were ever labelled here."""
        groups["labelled"][:] = 0
        np.add.at(groups["labelled"], self.at, self.rows)
        few = [row for row in news.unfitted if row.status == ModelStatus.TOO_FEW_ROWS]
        if not few:
            return
        order = np.lexsort((self.mature_at, self.at))
        at, mature_at = self.at[order], self.mature_at[order]
        sums = np.concatenate([[0], np.cumsum(self.rows[order])])
        places = groups.rows_of([row.group_key for row in few])
        begins, ends = (np.searchsorted(at, places, side) for side in ("left", "right"))
        for place, begin, end, row in zip(places, begins, ends, few, strict=True):
            later = begin + np.searchsorted(mature_at[begin:end], row.clock, "right")
            known = row.rows + int(sums[end] - sums[later])
            groups["labelled"][place] = max(int(groups["labelled"][place]), known)
