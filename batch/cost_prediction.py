"""Predict what a batch costs from samples that are fitted as in the batch.

A batch fits its groups in parts, one after the other. Samples grow until the difference between the first and the last
shows what a group and its rows cost. What a sample costs beyond its groups is taken as the fixed cost of one part.
Groups and parents are in different parts, so they are sampled separately. If parents are fitted in parts by the number
of their columns, each number is sampled too.

Time follows the order of a batch: the gate of a part runs beside the next fit. Memory follows the rows that a task
holds, in as many workers as tasks run at once. Both predictions have a low and a high figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf
from typing import NamedTuple

import pandas as pd

from batch.part_timeline import PartSeconds, fit_beside_gate, total_seconds
from batch.sampled_costs import FIRST, LAST, SMALL_SAMPLE_GROUPS, Capacity, Choose, SampledGroups, Sampling
from spinney.core.durations import format_seconds
from spinney.core.keys import is_parent, parent_values
from spinney.core.planning.batch_parts import Part, PartPacing, next_part
from spinney.retraining.round_plan import pooling_ends

UNSAMPLED_SECONDS_PER_GROUP = 40e-6
"""Seconds per group that no sample includes: the plan is written and read, the round is recorded and delivered to
MLflow. Measured with 200,000 groups.
"""

SECONDS_SPREAD, MEMORY_SPREAD = 1.3, 1.2
"""Factors by which a batch may differ from its dry run although the prediction is right, since other work on the
machine changes from minute to minute. Eleven pairs with 10,000 to 200,000 groups took 0.73 to 1.25 times the predicted
time, and 0.86 to 0.97 times the predicted memory.
"""


class Range(NamedTuple):
    """A likely figure between a low and a high one."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a batch.

    groups: including parents. seconds: wall-clock time once Spark has started, in `parts` parts. memory_bytes: peak
    resident memory of all Python workers together. table_bytes: added to `models` and `promotions`. sample: number of
    groups that were fitted for the estimate; failed: how many of these failed. changes: the comparisons after a change
    of the recipe, one text each. refusal: why the batch does not run without `unproven`; None if it runs. seconds_low:
    as if gates did not slow down the fits beside them; seconds_high: as if each fit waited for the gate before it.
    These figures, memory_low_bytes and memory_high_bytes include the differences between the samples and, after
    `widened`, the effect of other work on the machine.
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
    seconds_low: float = field(kw_only=True)
    seconds_high: float = field(kw_only=True)
    memory_low_bytes: int = field(kw_only=True)
    memory_high_bytes: int = field(kw_only=True)

    def plus(self, seconds: float) -> Estimate:
        """Return this estimate with `seconds` more."""
        low, likely, high = (seconds + of for of in (self.seconds_low, self.seconds, self.seconds_high))
        return replace(self, seconds_low=low, seconds=likely, seconds_high=high)

    def widened(self) -> Estimate:
        """Return this estimate with ranges that are wider by SECONDS_SPREAD and MEMORY_SPREAD."""
        return replace(
            self,
            seconds_low=self.seconds_low / SECONDS_SPREAD,
            seconds_high=self.seconds_high * SECONDS_SPREAD,
            memory_low_bytes=int(self.memory_low_bytes / MEMORY_SPREAD),
            memory_high_bytes=int(self.memory_high_bytes * MEMORY_SPREAD),
        )

    def __str__(self) -> str:
        parts = "1 part" if self.parts == 1 else f"{self.parts} parts"
        low, high = map(format_seconds, (self.seconds_low, self.seconds_high))
        memory = f"{self.memory_low_bytes / 1e6:,.0f} to {self.memory_high_bytes / 1e6:,.0f}"
        whole = (
            f"{self.groups:,} groups: about {format_seconds(self.seconds)} ({low} to {high}) in {parts}, "
            f"{self.memory_bytes / 1e6:,.0f} MB ({memory}) of memory in Python workers, "
            f"{self.table_bytes / 1e6:,.1f} MB more in tables; "
            f"by a sample of {self.sample:,}, of which {self.failed:,} failed"
        )
        refused = [f"it would be refused: {self.refusal}"] if self.refusal else []
        return "\n".join([whole, *self.changes, *refused])


def predict_costs(
    sample: Sampling, plan: pd.DataFrame, pace: PartPacing, capacity: Capacity, pooling_rows: float | str | None = None
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
    kinds = [SampledGroups.of(sample, begin, ordered.iloc[begin:end].sort_index()) for begin, end in pairwise(bounds)]
    # Groups are pooled with the models that their parents have just got, so no fit begins before the gate has ended.
    contention = 1 / capacity.cores if pooling_rows is None else 1.0
    parts = _predict_parts(kinds, len(plan), parents, pace, apart, contention)
    warming = max(warm.seconds - kinds[-1].small_sample.seconds, 0.0)
    batch = _Batch(kinds, parts, capacity, contention)
    return batch.estimate(len(plan)).plus(warming + UNSAMPLED_SECONDS_PER_GROUP * len(plan))


def _predict_parts(
    kinds: Sequence[SampledGroups], total: int, parents: int, pace: PartPacing, apart: Sequence[int], contention: float
) -> list[Part]:
    """Return the parts of a batch that starts at this pace and adapts it after each part of groups."""
    found: list[Part] = []
    gate_s = 0.0
    while part := next_part(found[-1] if found else None, total, parents, pace, apart=apart):
        found.append(part)
        takes = _part_seconds(kinds, part, FIRST)
        if part.begin >= parents:
            pace = pace.after(part.end - part.begin, fit_beside_gate(takes.fit_s, gate_s, contention))
        gate_s = takes.gate_s
    return found


def _part_seconds(kinds: Sequence[SampledGroups], part: Part, choose: Choose) -> PartSeconds:
    """Return the seconds of a part. If it has several kinds of groups, the cost per part is counted once."""
    there = [kind for kind in kinds if kind.groups_in(part)]
    fit_s, gate_s = (
        max(kind.per_part(step, choose) for kind in there) + sum(kind.of_groups(step, part, choose) for kind in there)
        for step in ("fit_s", "gate_s")
    )
    return PartSeconds(fit_s, gate_s)


@dataclass(frozen=True)
class _Batch:
    """A batch in its predicted parts. contention: the likely value of the argument of `fit_beside_gate`."""

    kinds: Sequence[SampledGroups]
    parts: Sequence[Part]
    capacity: Capacity
    contention: float

    def estimate(self, groups: int) -> Estimate:
        """Return the estimate of the parts. groups: of all."""
        seconds, memory = self._seconds_range(), self._memory_range()
        cores = self.capacity.cores
        return Estimate(
            groups=groups,
            seconds=seconds.likely,
            parts=len(self.parts),
            memory_bytes=int(memory.likely),
            table_bytes=int(sum(kind.part_bytes(part, cores) for kind in self.kinds for part in self.parts)),
            sample=sum(kind.large_sample.groups for kind in self.kinds),
            failed=sum(kind.large_sample.failed for kind in self.kinds),
            seconds_low=seconds.low,
            seconds_high=seconds.high,
            memory_low_bytes=int(memory.low),
            memory_high_bytes=int(memory.high),
        )

    def _seconds_range(self) -> Range:
        """Return the range of seconds of all parts.

        The low figure assumes that gates do not slow down the fits beside them.
        """
        slopes, least = (FIRST, min, max), 0.0 if self.contention < 1.0 else 1.0
        low, high = ([self._seconds(contention, slope) for slope in slopes] for contention in (least, 1.0))
        return Range(min(low), self._seconds(self.contention, FIRST), max(high))

    def _seconds(self, contention: float, choose: Choose) -> float:
        return total_seconds((_part_seconds(self.kinds, part, choose) for part in self.parts), contention)

    def _memory_range(self) -> Range:
        """Return the range of the peak resident memory, in bytes, of all workers that fit a part at the same time.

        Reading takes the most memory in large tasks, the fit of a block in small ones. So the two largest samples show
        best how memory grows with the rows of a task.
        """
        ends = [self._memory_bytes(slope) for slope in (min, max)]
        return Range(min(ends), self._memory_bytes(LAST), max(ends))

    def _memory_bytes(self, choose: Choose) -> float:
        return max(kind.memory_bytes(part, self.capacity, choose) for kind in self.kinds for part in self.parts)
