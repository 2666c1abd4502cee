"""Staleness policies of baselines. A fleet cannot configure them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spinney.core.backtest.history import MICROSECOND
from spinney.core.durations import format_duration
from spinney.core.features.encoding import Floats
from spinney.core.staleness.group_state import NEVER

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import GroupStates


@dataclass(frozen=True)
class Periodic:
    """Stale once a period has ended since the last attempt.

    every: length of a period, microseconds. The periods of groups begin at different times, by a hash of the key, so
    that refits are spread evenly and each group is refitted every `every` on average, however long the replay's steps
    are. name: what is recorded as the reason.
    """

    every: float
    name: str = "max_age"

    def limits(self, groups: GroupStates) -> Floats:
        """Return one period for each group."""
        return np.ones(len(groups))

    def measure(self, groups: GroupStates, clock: int) -> Floats:
        """Return the periods that have ended since each group's last attempt; NaN without a model or an attempt."""
        has_age = (groups["champion_id"] != "") & (groups["attempted_at"] != NEVER)
        phase = groups.key_shares
        ended = np.floor(clock / self.every - phase) - np.floor(groups["attempted_at"] / self.every - phase)
        return np.where(has_age, ended, np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        del limit
        period = format_duration(round(self.every) * MICROSECOND)
        return f"{value:.0f} periods of {period} have ended since the last attempt"


@dataclass(frozen=True)
class SinceAttempt:
    """Stale once the last attempt was `every` ago, whether new rows have come or not.

    every: microseconds. name: as in `Periodic`.
    """

    every: float
    name: str = "max_age"

    def limits(self, groups: GroupStates) -> Floats:
        """Return the longest time since an attempt, microseconds, the same for each group."""
        return np.full(len(groups), self.every)

    def measure(self, groups: GroupStates, clock: int) -> Floats:
        """Return the time since each group's last attempt, microseconds; NaN without a model or an attempt."""
        has_age = (groups["champion_id"] != "") & (groups["attempted_at"] != NEVER)
        return np.where(has_age, (clock - groups["attempted_at"]).astype(np.float64), np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        age, longest = (format_duration(round(span) * MICROSECOND) for span in (value, limit))
        return f"{age} since the last attempt (limit {longest})"


@dataclass(frozen=True)
class FixedFactor:
    """Stale once the recent mean loss is `factor` times the mean loss on the champion's held-out rows.

    It ignores how noisy a group is. rows: labelled rows that the champion needs first. name: as in `Periodic`.
    """

    factor: float
    rows: int
    name: str = "error_rise"

    def limits(self, groups: GroupStates) -> Floats:
        """Return the factor for each group."""
        return np.full(len(groups), self.factor)

    def measure(self, groups: GroupStates, clock: int) -> Floats:
        """Return each champion's recent mean loss in multiples of that on its held-out rows; NaN for too few rows."""
        del clock
        enough: npt.NDArray[np.bool_] = (groups["champion_rows"] >= self.rows) & (groups["baseline"] > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            recent = groups["recent_loss"] / groups["recent_weight"]
            return np.where(enough & (groups["recent_weight"] > 0), recent / groups["baseline"], np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        return f"recent error is {value:.2f} times that of the held-out rows (limit {limit:g})"
