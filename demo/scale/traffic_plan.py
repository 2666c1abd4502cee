"""The group of each event of the stream, and which groups change. Pure; the same seed gives the same events.

After a lead-in of uniform traffic, 1 % of the groups change. 2,000 events a second are 2.4 a minute for each of 50,000
groups: too few to detect a change within minutes. So the changed groups get more events from then on, enough to be
judged within a third of the stream if the rate allows it. The same number of unchanged groups get as many events, so
that the two differ in the change only, not in traffic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from demo.scale.synthetic_fleet import ROWS_PER_GROUP, Numbers

DEFAULT_GROUPS, DEFAULT_SECONDS, DEFAULT_SEED = 50_000, 120, 0
"""Defaults of `spinney demo --scale`."""

ALLOWED_SECONDS = range(10, 3_601)
"""Range of `--seconds`."""

EVENTS_PER_SECOND = 2_000
"""Events a second."""

SLICES_PER_SECOND = 5
CHANGED_SHARE = 0.01
EVIDENCE_SHARE = 0.3
"""Within this share of the stream after the change each busy group gets ROWS_PER_GROUP events."""

BUSY_SHARE = 0.5
"""Maximum share of all events for the busy groups."""


@dataclass(frozen=True)
class TrafficPlan:
    """The events of a stream. seconds: of the whole stream, lead-in included."""

    groups: int
    seconds: int
    seed: int

    @property
    def lead_in_seconds(self) -> int:
        """Seconds before the change."""
        return max(1, self.seconds // 8)

    @property
    def events(self) -> int:
        """Events of the whole stream."""
        return EVENTS_PER_SECOND * self.seconds

    @property
    def events_before(self) -> int:
        """Events of the lead-in, all of which come before the change."""
        return EVENTS_PER_SECOND * self.lead_in_seconds

    @cached_property
    def busy(self) -> Numbers:
        """Numbers of the changed groups, then of as many unchanged ones."""
        return np.random.default_rng([self.seed, 3]).permutation(self.groups)[: self.busy_groups]

    @property
    def busy_groups(self) -> int:
        """Number of busy groups."""
        return 2 * max(1, round(self.groups * CHANGED_SHARE))

    @property
    def changed(self) -> Numbers:
        """Numbers of the groups that change."""
        return self.busy[: len(self.busy) // 2]

    @property
    def unchanged(self) -> Numbers:
        """Numbers of the unchanged groups that have as many events as the changed ones."""
        return self.busy[len(self.busy) // 2 :]

    @property
    def busy_rate(self) -> float:
        """Events a second of all busy groups together, after the change."""
        rate_per_group = ROWS_PER_GROUP / (EVIDENCE_SHARE * (self.seconds - self.lead_in_seconds))
        return min(EVENTS_PER_SECOND * BUSY_SHARE, rate_per_group * self.busy_groups)

    @property
    def evidence_seconds(self) -> float:
        """Seconds after the change until every busy group has had ROWS_PER_GROUP events."""
        return ROWS_PER_GROUP * self.busy_groups / self.busy_rate

    @property
    def rate_of_a_busy_group(self) -> float:
        """Events a second, after the change."""
        return self.busy_rate / self.busy_groups

    @property
    def rate_of_another_group(self) -> float:
        """Events a second of each group that is not busy, after the change."""
        return (EVENTS_PER_SECOND - self.busy_rate) / (self.groups - self.busy_groups)

    @property
    def problem(self) -> str | None:
        """Return why these sizes cannot show what the report states, with a remedy; None if they can."""
        condition = self.unmet_condition
        if condition is None:
            return None
        allowed = [one for one in ALLOWED_SECONDS if TrafficPlan(self.groups, one, self.seed).unmet_condition is None]
        remedy = (
            f"--seconds from {allowed[0]:,} to {allowed[-1]:,}, or another --groups" if allowed else "more --groups"
        )
        return f"--scale with {self.groups:,} groups for {self.seconds:,} s: {condition}. Choose {remedy}"

    @property
    def unmet_condition(self) -> str | None:
        """The first condition that these sizes do not meet, as text; None if they meet all."""
        busy, other, left = self.rate_of_a_busy_group, self.rate_of_another_group, self.seconds - self.lead_in_seconds
        if busy <= other:
            return (
                "expected more events a second for a group that changes than for the others; "
                f"found {busy:.3g} and {other:.3g}"
            )
        if self.evidence_seconds >= left:
            return (
                f"expected {ROWS_PER_GROUP} events of each group that changes within the {left:,} s after the change; "
                f"found that they take {self.evidence_seconds:.3g} s"
            )
        return None

    @cached_property
    def group(self) -> Numbers:
        """Number of the group of each event, in the order of sending."""
        return np.concatenate(list(self._slices()))

    def _slices(self) -> Iterator[Numbers]:
        random = np.random.default_rng([self.seed, 4])
        others = np.setdiff1d(np.arange(self.groups), self.busy)
        busy_order = random.permutation(self.busy)
        size, given = EVENTS_PER_SECOND // SLICES_PER_SECOND, 0
        for number in range(self.seconds * SLICES_PER_SECOND):
            since = number + 1 - self.lead_in_seconds * SLICES_PER_SECOND
            if since <= 0:
                yield random.integers(0, self.groups, size)
                continue
            due = int(since * self.busy_rate / SLICES_PER_SECOND)
            busy = busy_order[np.arange(given, due) % len(busy_order)]
            given = due
            yield random.permutation(np.concatenate([busy, random.choice(others, size - len(busy))]))
