"""A large round is written part by part: a run that is killed loses the part it was at, and no more.

What a part costs is known only when it is done, so each is cut by what the ones before it took.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from spinney.core import durations

FIRST = 1_000
"""Groups of a first part whose cost nobody knows yet."""

GROWTH = 4
"""A part has at most so many times the groups of the one before; the first at most so many times FIRST."""


@dataclass(frozen=True)
class Pace:
    """How many groups the next part takes.

    seconds: target wall-clock seconds per part, excluding fixed overhead. each: seconds per group, by what was measured
    or predicted; known: whether some of them were ever fitted. fixed: overhead of a part, seconds. groups, took: of the
    part before; none: 0.
    """

    seconds: float
    each: float
    known: bool
    fixed: float = 0.0
    groups: int = 0
    took: float = 0.0

    def size(self, left: int) -> int:
        """Groups of the next part, out of those left: at least one."""
        most = GROWTH * (self.groups or FIRST) if self.known else FIRST
        return min(left, max(1, min(most, int(self.seconds / max(self.each, 1e-6)))))

    def after(self, groups: int, took: float) -> Pace:
        """The pace once a part of so many groups has taken so many seconds.

        Two parts of different size tell what grows with a group from what does not: a part that costs a minute before
        it begins would otherwise be cut smaller and smaller.
        """
        fixed = self.fixed
        if self.groups and abs(groups - self.groups) * 4 >= groups:
            slope = (took - self.took) / (groups - self.groups)
            fixed = took - groups * min(max(slope, 0.1 * took / groups), took / groups)
        fixed = min(max(fixed, 0.0), 0.9 * took)
        return replace(self, each=(took - fixed) / groups, known=True, fixed=fixed, groups=groups, took=took)

    def seconds_for(self, groups: int) -> float | None:
        """What so many groups will take; None while nobody knows."""
        if not self.known:
            return None
        return groups * self.each + self.fixed * math.ceil(groups / self.size(groups)) if groups else 0.0


@dataclass(frozen=True)
class Part:
    """Groups `begin` to `end` of a plan, in its order; number: from 0 on."""

    number: int
    begin: int
    end: int


def next_part(before: Part | None, total: int, parents: int, pace: Pace | None) -> Part | None:
    """The part that comes after another; None when the plan is done.

    total: groups and parents of the plan, of which the first `parents` are parents. They are a part of their own
    unless one part takes all: their rows are those of every child. Without a pace one part takes all.
    """
    number, begin = (0, 0) if before is None else (before.number + 1, before.end)
    if begin >= total and before is not None:
        return None
    left = total - begin
    size = left if pace is None else pace.size(left)
    if begin < parents and size < total:
        size = min(size, parents - begin)
    return Part(number, begin, begin + size)


@dataclass(frozen=True)
class Progress:
    """How far a round is. failed: of those done; seconds_left: None while nothing tells."""

    done: int
    failed: int
    total: int
    seconds_left: float | None

    def __str__(self) -> str:
        text = f"{self.done:,} of {self.total:,} groups done, {self.failed:,} failed"
        left = self.seconds_left
        return text if not left else f"{text}, about {durations.format_seconds(left)} left"
