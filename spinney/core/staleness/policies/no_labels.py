"""Policy `no_labels`: a group gets no more labels although it still gets events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spinney.core.durations import format_duration
from spinney.core.staleness.group_state import NEVER
from spinney.core.staleness.label_rates import usual_intervals
from spinney.core.staleness.verdicts import NO_LABELS

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import GroupStates

USUAL_INTERVALS = 10
"""A group with few labels is reported only after this many of its usual intervals between labels, if that is longer."""


@dataclass(frozen=True)
class NoLabels:
    """Reported, and not refitted, once events without labels have come for longer than `after`.

    The measure is the event time from a group's last labelled event to its newest one whose label should have come, so
    a group without events is not reported. Nor is a group that never had a label: it may be one that gets none. If this
    policy applies, the others are not asked: without new labels a refit would see old rows only, and could not be
    compared.

    after: event time. label_delay: of the fleet. half_life: of the decayed counts of labels in the state, from which
    the usual interval is computed.
    """

    after: timedelta
    label_delay: timedelta = timedelta(0)
    half_life: timedelta = timedelta(days=14)
    name: str = NO_LABELS

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """Return the longest time that each group's events may be without labels, microseconds."""
        recent = usual_intervals(groups, self.half_life // timedelta(microseconds=1))
        lifetime = (groups["labelled_at"] - groups["labelled_from"]) / np.maximum(groups["labelled"] - 1, 1)
        interval = np.where(np.isnan(recent), lifetime, recent)
        longest: npt.NDArray[np.float64] = np.maximum(self.after.total_seconds() * 1e6, USUAL_INTERVALS * interval)
        return longest

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """Return how long each group has had events but no labels, event time in microseconds; NaN without a model or
        any label.
        """
        del clock
        is_known = (groups["champion_id"] != "") & (groups["labelled_at"] != NEVER) & ~groups.are_parents
        silence = groups["event_at"] - groups["labelled_at"] - self.label_delay.total_seconds() * 1e6
        return np.where(is_known, silence, np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        silence, longest = (format_duration(timedelta(seconds=round(span / 1e6))) for span in (value, limit))
        return f"no label came for the events of the last {silence} (limit {longest})"
