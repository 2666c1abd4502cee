"""The costs of groups of one kind, measured by fitting samples of them as a batch does.

The cost of a sample has three parts: a cost per part of a batch, whatever its size; a cost per unit of work; and memory
for the rows that a task holds. Samples of different sizes show each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import pandas as pd

from spinney.core.keys import is_parent
from spinney.core.planning.batch_parts import Part
from spinney.retraining.fitting.first_rows_per_group import HELD_ROWS
from spinney.retraining.fitting.parent_fitting import parent_tasks
from spinney.retraining.fitting.spark_fitting import BLOCK_ROWS, TASK_EVENTS, task_edges

WORK = "work"
"""Column of a plan: the number of rows that a group has in its window, plus GROUP_ROWS. The cost of a group is about
proportional to it.
"""

GROUP_ROWS = 60
"""Number of rows that cost about as much as a group without rows (ridge, 8 features)."""

COUNTED = "counted_events"
"""Column of a plan: the stored events of a group, by which a part is cut into tasks."""

SMALL_SAMPLE_GROUPS = 60
"""Number of groups in the smallest sample."""

MAX_SAMPLE_SECONDS = 15.0
"""Longest time that a larger sample should take, predicted from the smaller ones."""

MAX_SAMPLE_GROUPS = 16_000
MAX_SAMPLE_GROWTH = 8
"""Largest ratio of the sizes of two successive samples."""
MIN_SECONDS_RATIO, MIN_SECONDS_DIFFERENCE = 4, 5.0
"""A sample is the last one if its seconds exceed those of the first sample by at least this ratio and this difference.
"""

Choose = Callable[[Sequence[float]], float]
"""Chooses one of the costs per unit: those from each smaller sample to the largest, the smallest sample first."""

FIRST: Choose = itemgetter(0)
LAST: Choose = itemgetter(-1)


@dataclass(frozen=True)
class Capacity:
    """The resources that fit a batch.

    cores: number of cores that tasks are cut for. slots: number of tasks that run at once, each in its own worker.
    """

    cores: int
    slots: int


@dataclass(frozen=True)
class Sample:
    """The cost of fitting some groups.

    work: sum of the groups' WORK. fit_s, gate_s: seconds of each step, one after the other. rows: number of rows used
    for fitting. task_rows: rows held at once by the task that holds the most (`held_rows`). bytes: size in tables, if
    one task writes the rows. file_bytes: size of a file of `models` without rows. worker_peak: peak resident bytes of
    the worker that took the most. child_peak: the same for the worker processes that fit, including memory that is
    shared with their parent.
    """

    groups: int
    work: float
    fit_s: float
    gate_s: float
    rows: int
    task_rows: int
    bytes: int
    file_bytes: int
    worker_peak: int
    child_peak: int
    failed: int

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the fit and the gate."""
        return self.fit_s + self.gate_s


Sampling = Callable[[pd.DataFrame], Sample]
"""Fits the groups of a plan and returns the cost."""


def held_rows(events: np.ndarray, cores: int) -> int:
    """Return the largest number of rows that a task of these groups holds at once.

    A task reads the rows of all its groups before it fits them, and drops rows that are outside every window while it
    reads. events: number of events of each group, in the order of shards.
    """
    edges = task_edges(events, cores)
    return min(int(np.add.reduceat(events, edges[:-1]).max()), HELD_ROWS)


@dataclass(frozen=True)
class SampledGroups:
    """Groups or parents that form parts of their own, with the measured costs of samples of them, the smallest sample
    first.

    begin: position of the first group in the order of the batch. work: sum of WORK over all groups. events: number of
    events of each group. are_parents: whether these are parents.
    """

    begin: int
    work: float
    events: np.ndarray
    are_parents: bool
    samples: Sequence[Sample]

    @classmethod
    def of(cls, sample: Sampling, begin: int, plan: pd.DataFrame) -> SampledGroups:
        """Sample the groups of a plan. begin: position of its first group in the order of the batch."""
        samples = [sample(plan.head(SMALL_SAMPLE_GROUPS))]
        while size := next_sample_size([(found.groups, found.seconds) for found in samples], len(plan)):
            samples.append(sample(plan.head(size)))
        are_parents = is_parent(plan["group_key"].iloc[0])
        return cls(begin, float(plan[WORK].sum()), plan[COUNTED].to_numpy(), are_parents, samples)

    @property
    def small_sample(self) -> Sample:
        """The first sample."""
        return self.samples[0]

    @property
    def large_sample(self) -> Sample:
        """The last sample."""
        return self.samples[-1]

    def groups_in(self, part: Part) -> int:
        """Return how many groups of this kind are in a part."""
        return max(min(part.end, self.begin + len(self.events)) - max(part.begin, self.begin), 0)

    def part_bytes(self, part: Part, cores: int) -> float:
        """Return the size in tables, in bytes, of the groups of this kind in a part. Each task writes a file."""
        if not self.groups_in(part):
            return 0.0
        other_files = (self._tasks_in(part, cores) - 1) * self.large_sample.file_bytes
        return self.per_part("bytes") + other_files + self.of_groups("bytes", part)

    def _events_in(self, part: Part) -> np.ndarray:
        return self.events[max(part.begin - self.begin, 0) : max(part.end - self.begin, 0)]

    def _tasks_in(self, part: Part, cores: int) -> int:
        if self.are_parents:
            return parent_tasks(self.groups_in(part), cores)
        return len(task_edges(self._events_in(part), cores)) - 1

    def of_groups(self, measure: str, part: Part, choose: Choose = FIRST) -> float:
        """Return the cost of the groups of this kind in a part, without the cost of the part itself.

        measure: the kind of cost, an attribute of Sample such as ``"seconds"``. choose: see Choose.
        """
        return self._per_work(measure, choose) * self.work * self.groups_in(part) / len(self.events)

    def per_part(self, measure: str, choose: Choose = FIRST) -> float:
        """Return the cost per part, whatever its size. measure, choose: as for `of_groups`."""
        return float(getattr(self.large_sample, measure) - self._per_work(measure, choose) * self.large_sample.work)

    def _per_work(self, measure: str, choose: Choose) -> float:
        """Return the cost per unit of work, at most that of the larger sample divided by its work."""
        large = self.large_sample
        most = getattr(large, measure) / max(large.work, 1.0)
        return min(choose(self._slopes(measure, "work")), float(most))

    def _slopes(self, measure: str, by: str) -> list[float]:
        """Return by how much a measure grows per unit of another one, from each smaller sample to the largest; [0] if
        there is only one sample.
        """
        most, units = (getattr(self.large_sample, name) for name in (measure, by))
        pairs = [(getattr(small, measure), getattr(small, by)) for small in self.samples[:-1]]
        return [max((most - less) / max(units - fewer, 1), 0.0) for less, fewer in pairs] or [0.0]

    def memory_bytes(self, part: Part, capacity: Capacity, choose: Choose) -> float:
        """Return the peak resident memory, in bytes, of the workers of a part.

        Memory that workers share is counted for each of them. This makes up for the worker processes that fit for them,
        which are not counted unless such a process is larger than its worker. Measured with three workers: 2,331 MB by
        this count, 2,391 MB for all six processes by their proportional shares.
        """
        if not self.groups_in(part):
            return 0.0
        large = self.large_sample
        more_rows = self._task_rows(part, capacity.cores) - large.task_rows
        grown = large.worker_peak + choose(self._slopes("worker_peak", "task_rows")) * more_rows
        worker = max(grown, min(large.worker_peak, self.small_sample.worker_peak))
        fitting = max(large.child_peak - large.worker_peak, 0)
        return self._workers(part, capacity) * (worker + fitting)

    def _task_rows(self, part: Part, cores: int) -> int:
        """Return the largest number of rows that a task of this part holds at once."""
        if not self.are_parents:
            return held_rows(self._events_in(part), cores)
        rows = self.groups_in(part) * self.large_sample.rows / self.large_sample.groups
        return parent_block_rows(rows, self._tasks_in(part, cores))

    def _workers(self, part: Part, capacity: Capacity) -> int:
        """Return how many tasks of this part run at once. For parents, separate tasks read the rows."""
        if not self.are_parents:
            return min(self._tasks_in(part, capacity.cores), capacity.slots)
        return min(max(capacity.cores, -(-int(self.events.max()) // TASK_EVENTS)), capacity.slots)


def parent_block_rows(rows: float, tasks: int) -> int:
    """Return the largest number of rows of parents that one of these tasks holds at once: a block.

    rows: of all parents.
    """
    return min(int(rows / tasks), BLOCK_ROWS)


def next_sample_size(samples: Sequence[tuple[int, float]], available: int) -> int | None:
    """Return how many groups to sample next, or None if the samples show the cost per group.

    samples: groups and seconds of each, smallest first. available: groups of the plan. Reading takes seconds whatever
    the number of groups. A sample shows the cost of groups only if it takes four times as long as the first one and 5 s
    longer. Otherwise it mostly shows the fixed cost, its noise and first uses: once a million groups were predicted to
    take eleven times as long as they did, and 200,000 groups twice as long, from a sample of 3,840 groups that took 3
    s.
    """
    (first_groups, first_seconds), (groups, seconds) = samples[0], samples[-1]
    if groups >= available or groups < first_groups:
        return None
    if len(samples) == 1:
        # At least four times as many: a smaller difference would be lost in noise.
        affordable = max(4 * groups, int(groups * MAX_SAMPLE_SECONDS / max(seconds, 0.1)))
        return min(affordable, MAX_SAMPLE_GROWTH * groups, MAX_SAMPLE_GROUPS, available)
    if seconds >= max(MIN_SECONDS_RATIO * first_seconds, first_seconds + MIN_SECONDS_DIFFERENCE):
        return None
    slope = max((seconds - first_seconds) / (groups - first_groups), 1e-6)
    affordable = groups + int(max(MAX_SAMPLE_SECONDS - seconds, 0.0) / slope)
    size = min(affordable, MAX_SAMPLE_GROWTH * groups, MAX_SAMPLE_GROUPS, available)
    return size if size >= 2 * groups else None
