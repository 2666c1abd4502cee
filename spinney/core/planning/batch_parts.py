"""Divide a large round into parts. Each is stored once it is done, so that a killed run loses at most one part.

The cost of a part is known only once it is done, so each part is sized by the elapsed time of the ones before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spinney.core import durations

FIRST_PART_GROUPS = 1_000
"""Groups of the first part if no fit was ever measured."""

MAX_GROWTH = 4
"""Largest ratio of the sizes of two successive parts, and of the first part to FIRST_PART_GROUPS."""


@dataclass(frozen=True)
class PartPacing:
    """Chooses the number of groups of the next part.

    target_s: target wall-clock seconds per part, excluding fixed overhead. seconds_per_group: measured or predicted.
    is_measured: whether any fit was ever measured. fixed_s: overhead of a part, seconds. groups, elapsed_s: size and
    duration of the part before, in seconds; 0 for the first part.
    """

    target_s: float
    seconds_per_group: float
    is_measured: bool
    fixed_s: float = 0.0
    groups: int = 0
    elapsed_s: float = 0.0

    def next_size(self, remaining: int) -> int:
        """Return the number of groups of the next part, from 1 to the number remaining."""
        limit = MAX_GROWTH * (self.groups or FIRST_PART_GROUPS) if self.is_measured else FIRST_PART_GROUPS
        return min(remaining, max(1, min(limit, int(self.target_s / max(self.seconds_per_group, 1e-6)))))

    def after(self, groups: int, elapsed_s: float) -> PartPacing:
        """Return the pacing updated with a finished part.

        The fixed overhead is estimated from two parts of different size. Without it, a part with a minute of overhead
        would make the next ones smaller and smaller.
        """
        fixed_s = self.fixed_s
        if self.groups and abs(groups - self.groups) * 4 >= groups:
            slope = (elapsed_s - self.elapsed_s) / (groups - self.groups)
            fixed_s = elapsed_s - groups * min(max(slope, 0.1 * elapsed_s / groups), elapsed_s / groups)
        fixed_s = min(max(fixed_s, 0.0), 0.9 * elapsed_s)
        return replace(
            self,
            seconds_per_group=(elapsed_s - fixed_s) / groups,
            is_measured=True,
            fixed_s=fixed_s,
            groups=groups,
            elapsed_s=elapsed_s,
        )

    def seconds_for(self, groups: int) -> float | None:
        """Return the predicted seconds for this many groups, overhead included; None before anything was measured."""
        if not self.is_measured:
            return None
        if not groups:
            return 0.0
        return groups * self.seconds_per_group + self.fixed_s * math.ceil(groups / self.next_size(groups))


@dataclass(frozen=True)
class Part:
    """Groups `begin` up to `end` (exclusive) of a plan, in its order. number counts parts from 0."""

    number: int
    begin: int
    end: int


def next_part(
    before: Part | None, total: int, parents: int, pacing: PartPacing | None, *, apart: Sequence[int] = ()
) -> Part | None:
    """Return the part that follows `before`, or None when the plan is done.

    before: None for the first part. total: groups and parents of the plan, of which the first `parents` are parents.
    Parents form parts of their own, unless one part takes everything: the rows of a parent are the rows of all its
    groups. apart: positions in the plan, ascending, at which a part always ends: the groups after such a position are
    pooled with models of groups before it. pacing: None if one part takes everything.
    """
    number, begin = (0, 0) if before is None else (before.number + 1, before.end)
    if begin >= total and before is not None:
        return None
    remaining = total - begin
    size = remaining if pacing is None else pacing.next_size(remaining)
    ends = [*apart, *([parents] if size < total else [])]
    end = min([begin + size, *(end for end in ends if begin < end)])
    return Part(number, begin, end)


@dataclass(frozen=True)
class Progress:
    """The progress of a round, in groups. failed: of those done. seconds_left: None while it cannot be predicted."""

    done: int
    failed: int
    total: int
    seconds_left: float | None

    def __str__(self) -> str:
        text = f"{self.done:,} of {self.total:,} groups done, {self.failed:,} failed"
        left = self.seconds_left
        return text if not left else f"{text}, about {durations.format_seconds(left)} left"
