"""Whether so many fits of a round went wrong that it should replace no champion.

When one group's challenger is worse, its data may have changed. When those of half a fleet are, the data, the recipe or
an upstream system is broken, and what looks like a good challenger is no safer than the others.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_ATTEMPTS = 20
"""Attempts below which a round is never halted: a few groups may fail together by chance."""

HALTED = "halted: "
"""Beginning of the reason of each decision that a halt has turned into `held`."""


@dataclass(frozen=True)
class AttemptTally:
    """Counts of groups by the result of their fit, in a round or a part of a batch.

    attempted: fitted and failed. worse: of the fitted, those shown to be worse than their champion and refused.
    """

    attempted: int = 0
    failed: int = 0
    worse: int = 0

    def __add__(self, other: AttemptTally) -> AttemptTally:
        return AttemptTally(self.attempted + other.attempted, self.failed + other.failed, self.worse + other.worse)

    def reason_to_halt(self, share: float) -> str | None:
        """Return why the round should replace no champion; None if it may replace them.

        share: of the attempts; the round is halted if more than this share failed or got worse.
        """
        if self.attempted < MIN_ATTEMPTS or self.failed + self.worse <= share * self.attempted:
            return None
        return (
            f"of {self.attempted:,} groups {self.failed:,} failed and {self.worse:,} got a model that is worse than "
            f"their champion, together more than {share * 100:g} % (gate.halt_share)"
        )
