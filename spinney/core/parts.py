"""A large round is written part by part: a run that is killed loses the part it was at, and no more.

What a part costs is known only when it is done, so each is cut by what the ones before it took.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spinney.core import durations

FIRST = 1_000
"""Groups of a first part whose cost nobody knows yet."""


@dataclass(frozen=True)
class Pace:
    """How many groups the next part takes.

    seconds: what a part should take on the wall clock. per_second: groups, by what was measured or predicted.
    known: whether some of them were ever fitted.
    """

    seconds: float
    per_second: float
    known: bool

    def size(self, left: int) -> int:
        """Groups of the next part, out of those left: at least one."""
        fitting = max(1, int(self.seconds * self.per_second))
        return min(left, fitting if self.known else min(fitting, FIRST))

    def after(self, groups: int, seconds: float) -> Pace:
        """The pace once a part of so many groups has taken so long."""
        return replace(self, per_second=groups / max(seconds, 1e-3), known=True)


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
        return text if not left else f"{text}, about {durations.in_words(left)} left"
