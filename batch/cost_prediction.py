"""Predict what a batch costs from samples that are fitted as in the batch.

Samples grow until the difference between the first and the last shows what groups and their rows cost. The rest is the
cost per part, whatever its size. What forms parts of its own is sampled by itself: groups, parents, and parents of each
number of columns if they are fitted one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np
import pandas as pd

from spinney.core.durations import format_seconds
from spinney.core.keys import is_parent, parent_values
from spinney.core.planning.parts import Part, PartPacing, next_part
from spinney.retraining.parent_fitting import parent_tasks
from spinney.retraining.round_plan import pooling_ends
from spinney.retraining.spark_fitting import BLOCK_ROWS, task_edges

WORK = "work"
"""Column of a plan: the rows that a group has in its window, and GROUP_ROWS. Its cost is about proportional to it."""

GROUP_ROWS = 60
"""A group without rows costs about as much as this many rows of a group (ridge, 8 features)."""

COUNTED = "counted_events"
"""Column of a plan: the stored events of a group, by which a part is cut into tasks."""

SMALL_SAMPLE_GROUPS = 60
"""Groups of the smaller sample."""

MAX_SAMPLE_SECONDS = 15.0
"""Longest time that a larger sample should take, predicted from the smaller ones."""

MAX_SAMPLE_GROUPS = 16_000
MAX_SAMPLE_GROWTH = 8
"""Largest ratio of the sizes of two successive samples."""

UNSAMPLED_SECONDS_PER_GROUP = 40e-6
"""What no sample includes: the plan is written and read, the round is recorded and delivered to MLflow. Measured with
200,000 groups."""


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a batch.

    groups: including parents. seconds: wall-clock time once Spark has started, in `parts` parts. memory_bytes: peak
    resident memory of all Python workers together. table_bytes: added to `models` and `promotions`. sample: groups that
    were fitted for the estimate; failed: those of them that failed. changes: what will be compared after a change of
    the recipe, one text each. refusal: why the batch does not run without `unproven`.
    """

    groups: int
    seconds: float
    parts: int
    memory_bytes: int
    table_bytes: int
    sample: int
    failed: int
    changes: tuple[str, ...] = ()
    refusal: str | None = None

    def __str__(self) -> str:
        parts = "1 part" if self.parts == 1 else f"{self.parts} parts"
        whole = (
            f"{self.groups:,} groups: about {format_seconds(self.seconds)} in {parts}, "
            f"{self.memory_bytes / 1e6:,.0f} MB of memory in Python workers, {self.table_bytes / 1e6:,.1f} MB more in "
            f"tables; by a sample of {self.sample:,}, of which {self.failed:,} failed"
        )
        refused = [f"it would be refused: {self.refusal}"] if self.refusal else []
        return "\n".join([whole, *self.changes, *refused])


@dataclass(frozen=True)
class Sample:
    """The cost of fitting some groups.

    work: sum of the groups' WORK. rows: number of rows used for fitting. bytes: size in tables, if one task writes
    them. file_bytes: size of a file of `models` without rows. peak_bytes: resident memory of one worker.
    """

    groups: int
    work: float
    seconds: float
    rows: int
    bytes: int
    file_bytes: int
    peak_bytes: int
    failed: int


Sampling = Callable[[pd.DataFrame], Sample]
"""Fits the groups of a plan and returns what that cost."""


def predict_costs(
    sample: Sampling, plan: pd.DataFrame, pace: PartPacing, cores: int, pooling_rows: float | str | None = None
) -> Estimate:
    """Return the estimate of a batch without its planning.

    plan: group_key, WORK and COUNTED, in the order in which groups are sampled. pace: the initial one. pooling_rows: of
    the recipe.
    """
    columns = pd.Series([len(parent_values(key)) if is_parent(key) else inf for key in plan["group_key"]], plan.index)
    ordered, parents = plan.loc[columns.sort_values(kind="stable").index], int((columns < inf).sum())
    apart = pooling_ends(ordered["group_key"].tolist(), pooling_rows)
    bounds = sorted({0, *apart, parents, len(plan)})
    warm = sample(ordered.iloc[bounds[-2] :].sort_index().head(SMALL_SAMPLE_GROUPS))
    kinds = [_Kind.of(sample, begin, ordered.iloc[begin:end].sort_index()) for begin, end in pairwise(bounds)]
    parts = _predict_parts(kinds[-1], len(plan), parents, pace, apart)
    warming = max(warm.seconds - kinds[-1].small_sample.seconds, 0.0)
    unsampled = UNSAMPLED_SECONDS_PER_GROUP * len(plan)
    return Estimate(
        groups=len(plan),
        seconds=warming + unsampled + sum(_part_seconds(kinds, part) for part in parts),
        parts=len(parts),
        memory_bytes=int(cores * max(kind.peak_bytes(cores) for kind in kinds)),
        table_bytes=int(sum(kind.part_bytes(part, cores) for kind in kinds for part in parts)),
        sample=sum(kind.large_sample.groups for kind in kinds),
        failed=sum(kind.large_sample.failed for kind in kinds),
    )


def _predict_parts(groups: _Kind, total: int, parents: int, pace: PartPacing, apart: Sequence[int]) -> list[Part]:
    """Return the parts of a batch that starts at this pace and adapts it after each part of groups."""
    found: list[Part] = []
    while part := next_part(found[-1] if found else None, total, parents, pace, apart=apart):
        found.append(part)
        if part.begin >= parents:
            pace = pace.after(part.end - part.begin, groups.part_seconds(part))
    return found


def _part_seconds(kinds: Sequence[_Kind], part: Part) -> float:
    """Return the seconds of a part. One with all kinds has the cost per part once."""
    there = [kind for kind in kinds if kind.groups_in(part)]
    return max(kind.per_part("seconds") for kind in there) + sum(kind.of_groups("seconds", part) for kind in there)


@dataclass(frozen=True)
class _Kind:
    """Groups that form parts of their own, and the measured costs of a smaller and a larger sample of them.

    begin: place of the first in the order of the batch. work: of all. events: of each. are_parents: or groups.
    """

    begin: int
    work: float
    events: np.ndarray
    are_parents: bool
    small_sample: Sample
    large_sample: Sample

    @classmethod
    def of(cls, sample: Sampling, begin: int, plan: pd.DataFrame) -> _Kind:
        small = sample(plan.head(SMALL_SAMPLE_GROUPS))
        samples = [small]
        while size := next_sample_size([(found.groups, found.seconds) for found in samples], len(plan)):
            samples.append(sample(plan.head(size)))
        are_parents = is_parent(plan["group_key"].iloc[0])
        return cls(begin, float(plan[WORK].sum()), plan[COUNTED].to_numpy(), are_parents, small, samples[-1])

    def groups_in(self, part: Part) -> int:
        """Return how many groups of this kind are in a part."""
        return max(min(part.end, self.begin + len(self.events)) - max(part.begin, self.begin), 0)

    def part_seconds(self, part: Part) -> float:
        """Return the seconds of a part of this kind alone."""
        return self.per_part("seconds") + self.of_groups("seconds", part)

    def part_bytes(self, part: Part, cores: int) -> float:
        """Return the bytes in tables of the groups of this kind in a part. Each task writes a file."""
        if not self.groups_in(part):
            return 0.0
        other_files = (self._tasks_in(part, cores) - 1) * self.large_sample.file_bytes
        return self.per_part("bytes") + other_files + self.of_groups("bytes", part)

    def _tasks_in(self, part: Part, cores: int) -> int:
        if self.are_parents:
            return parent_tasks(self.groups_in(part), cores)
        first = max(part.begin - self.begin, 0)
        return len(task_edges(self.events[first : part.end - self.begin], cores)) - 1

    def of_groups(self, measure: str, part: Part) -> float:
        """Return the cost of the groups of this kind in a part, without the cost of the part itself."""
        return self._per_work(measure) * self.work * self.groups_in(part) / len(self.events)

    def per_part(self, measure: str) -> float:
        """Return the cost per part, whatever its size."""
        return float(getattr(self.large_sample, measure) - self._per_work(measure) * self.large_sample.work)

    def _per_work(self, measure: str) -> float:
        """Return the cost per unit of work, at most that of the larger sample divided by its work."""
        large, small = self.large_sample, self.small_sample
        slope = (getattr(large, measure) - getattr(small, measure)) / max(large.work - small.work, 1.0)
        return float(min(max(slope, 0.0), getattr(large, measure) / max(large.work, 1.0)))

    def peak_bytes(self, cores: int) -> float:
        """Return the resident bytes of a worker with a full block of rows."""
        more = (self.large_sample.peak_bytes - self.small_sample.peak_bytes) / max(
            self.large_sample.rows - self.small_sample.rows, 1
        )
        in_all = len(self.events) * self.large_sample.rows / max(self.large_sample.groups, 1)
        block = min(BLOCK_ROWS * cores, in_all)
        return self.large_sample.peak_bytes + max(more * (block - self.large_sample.rows), 0.0)


def next_sample_size(samples: Sequence[tuple[int, float]], available: int) -> int | None:
    """Return how many groups to sample next, or None if the samples show the cost per group.

    samples: groups and seconds of each, smallest first. available: groups of the plan. Reading costs seconds whatever
    the number of groups. Until a sample takes twice as long as the first, it shows that cost and its noise rather than
    the groups: a million groups were once predicted to take eleven times as long as they did.
    """
    (first_groups, first_seconds), (groups, seconds) = samples[0], samples[-1]
    if groups >= available or groups < first_groups:
        return None
    if len(samples) == 1:
        # At least four times as many: a smaller difference would be lost in noise.
        affordable = max(4 * groups, int(groups * MAX_SAMPLE_SECONDS / max(seconds, 0.1)))
        return min(affordable, MAX_SAMPLE_GROWTH * groups, MAX_SAMPLE_GROUPS, available)
    if seconds >= 2 * first_seconds:
        return None
    slope = max((seconds - first_seconds) / (groups - first_groups), 1e-6)
    affordable = groups + int(max(MAX_SAMPLE_SECONDS - seconds, 0.0) / slope)
    size = min(affordable, MAX_SAMPLE_GROWTH * groups, MAX_SAMPLE_GROUPS, available)
    return size if size >= 2 * groups else None
