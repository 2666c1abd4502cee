from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from batch.cost_prediction import COUNTED, GROUP_ROWS, WORK, Sample, next_sample_size, predict_costs
from batch.estimate import sampling_order
from spinney.core.planning.parts import PartPacing, next_part

SHARDS, OF_EACH = 10, 30


def test_a_sample_takes_one_shard_after_the_other_so_that_it_reads_what_a_batch_would() -> None:
    keys = [f'["g{at}"]' for at in range(SHARDS * OF_EACH)]
    rows = pa.table(
        {
            "shard": pa.array([at % SHARDS for at in range(len(keys))], pa.int32()),
            "group_key": keys,
            "epoch": pa.array([0] * len(keys), pa.int64()),
            "predicted_ms": pa.array([2.0, 4.0] * (len(keys) // 2)),
            "model_id": pa.array([None] * len(keys), pa.string()),
            "numbers": pa.array(['{"events":7}', '{"events":70}', "{}"] * (len(keys) // 3), pa.string()),
        }
    )
    plan, mean_ms = sampling_order(rows, window_rows=10)
    shards = plan["shard"].tolist()
    assert [len(set(shards[at : at + OF_EACH])) for at in range(0, len(shards), OF_EACH)] == [1] * SHARDS
    assert sorted(plan["group_key"]) == sorted(keys)
    work = dict(zip(plan["group_key"], plan[WORK], strict=True))
    assert [work[key] for key in keys[:3]] == [GROUP_ROWS + 7, GROUP_ROWS + 10, GROUP_ROWS], "within the window"
    assert plan["group_key"].head(OF_EACH).tolist() != sorted(plan["group_key"].head(OF_EACH)), "by lot within a shard"
    assert shards == sorted(shards), "adjacent shards: a task reads all that lie between its first and its last"
    assert mean_ms == 3.0


@pytest.mark.parametrize(
    ("fixed_s", "of_a_group_s", "sizes"),
    [
        (5.0, 0.0003, [60, 240, 1_920, 15_360]),  # reading costs most: until 15,360 groups add 4.6 s
        (0.5, 0.0003, [60, 480, 3_840]),  # 3,840 groups add 1.2 s to 0.5 s
        (0.2, 0.1, [60, 240]),  # slow fits: 240 groups of 0.1 s are four times as many as 60
        (20.0, 0.001, [60, 240]),  # 60 groups take more than a sample may: no larger one than needed
    ],
)
def test_samples_grow_until_their_groups_cost_as_much_as_reading(
    fixed_s: float, of_a_group_s: float, sizes: list[int]
) -> None:
    samples = [(60, fixed_s + 60 * of_a_group_s)]
    while size := next_sample_size(samples, 1_000_000):
        samples.append((size, fixed_s + size * of_a_group_s))
    assert [groups for groups, _ in samples] == sizes


def test_a_sample_is_never_larger_than_the_plan() -> None:
    assert next_sample_size([(60, 0.1)], 100) == 100
    assert next_sample_size([(60, 0.1), (100, 0.1)], 100) is None
    assert next_sample_size([(40, 0.1)], 40) is None


@dataclass
class Machine:
    """Fits groups on a clock of its own.

    A part costs `part_s`, each row between its first and its last shard `read_s`, and a group as much as 60 of its rows
    besides them. noise: standard deviation of the logarithm of a duration.
    """

    rows_per_shard: float
    part_s: float
    read_s: float
    row_s: float
    noise: float

    def __post_init__(self) -> None:
        self.random, self.now = np.random.default_rng(7), 0.0

    def fit(self, plan: pd.DataFrame) -> float:
        """Fit these groups and return the seconds."""
        span = int(plan["shard"].max()) - int(plan["shard"].min()) + 1
        seconds = self.part_s + span * self.rows_per_shard * self.read_s + plan[WORK].sum() * self.row_s
        seconds *= math.exp(self.random.normal(scale=self.noise))
        self.now += seconds
        return seconds

    def sample(self, plan: pd.DataFrame) -> Sample:
        return Sample(len(plan), float(plan[WORK].sum()), self.fit(plan), 50 * len(plan), 700 * len(plan), 0, 10**8, 0)


@pytest.mark.parametrize(
    ("groups", "rows"),
    [(10_000, "equal"), (50_000, "equal"), (200_000, "equal"), (50_000, "a group with 30 % of all rows")],
)
def test_what_is_predicted_is_within_a_factor_of_what_a_batch_takes_by_the_clock(groups: int, rows: str) -> None:
    """Ridge on two cores: 0.05 ms a group to read and 0.1 ms to fit, 1.2 s a part."""
    events = np.full(groups, 50)
    if rows != "equal":
        events[groups // 2] = 50 * groups * 3 // 7  # of which the window has 1,000
    shards = groups // 800
    table = pa.table(
        {
            "shard": pa.array(np.arange(groups) % shards, pa.int32()),
            "group_key": [f'["g{at}"]' for at in range(groups)],
            "epoch": pa.array(np.zeros(groups), pa.int64()),
            "predicted_ms": pa.nulls(groups, pa.float64()),
            "model_id": pa.nulls(groups, pa.string()),
            "numbers": [f'{{"events":{count}}}' for count in events.tolist()],
        }
    )
    plan, _ = sampling_order(table, window_rows=1_000)
    pace = PartPacing(60.0, 0.001, is_measured=False)
    machine = Machine(40_000, part_s=1.2, read_s=1e-6, row_s=0.9e-6, noise=0.05)
    predicted = predict_costs(machine.sample, plan, pace, cores=2)
    assert machine.now < 60.0, "samples are short"
    began, part, parts, running = machine.now, None, 0, pace
    while part := next_part(part, groups, 0, running):
        running = running.after(part.end - part.begin, machine.fit(plan.iloc[part.begin : part.end]))
        parts += 1
    taken = machine.now - began
    assert taken / 1.5 < predicted.seconds < taken * 1.5
    assert abs(predicted.parts - parts) <= 1
    assert predicted.table_bytes == pytest.approx(700 * groups, rel=0.01)


PART_S, PARENTS_S, GROUP_S, FILE, OF_GROUP = 10.0, 30.0, 0.01, 5_000, 100
"""Seconds of a part, of one with parents, and of a group. Bytes of a file without rows, and of a group's model."""


def sample(plan: pd.DataFrame) -> Sample:
    """The cost of some groups on a machine without noise."""
    groups = len(plan)
    part_s = PARENTS_S if plan["group_key"].str.startswith("{").any() else PART_S
    seconds, stored = part_s + groups * GROUP_S, FILE + groups * OF_GROUP
    return Sample(groups, float(plan[WORK].sum()), seconds, groups, stored, FILE, 10**8, 0)


def plan_of(keys: list[str], events: int = 10) -> pd.DataFrame:
    return pd.DataFrame({"group_key": keys, WORK: 1.0, COUNTED: events})


PARENTS = ["{}", *(f'{{"shop":"s{n}"}}' for n in range(3)), *(f'{{"shop":"s{n}","town":"t"}}' for n in range(4))]
GROUPS = [f'["g{n}"]' for n in range(100)]


@pytest.mark.parametrize(("pooling_rows", "parts"), [("estimated", [30, 30, 30, 10]), (20.0, [30, 10]), (None, [30])])
def test_each_level_of_parents_costs_a_part_if_levels_are_fitted_one_after_the_other(
    pooling_rows: float | str | None, parts: list[float]
) -> None:
    mixed = [*GROUPS[:50], *reversed(PARENTS), *GROUPS[50:]]
    pace = PartPacing(60.0, 0.001, is_measured=False)
    predicted = predict_costs(sample, plan_of(mixed), pace, cores=8, pooling_rows=pooling_rows)
    assert predicted.parts == len(parts)
    assert predicted.seconds == pytest.approx(sum(parts) + 108 * GROUP_S, abs=0.01)
    assert predicted.sample == 108


@pytest.mark.parametrize(
    ("groups", "cores", "events", "files"),
    [
        (60, 8, 10, 1),  # fewer than ten a core: one task
        (100, 8, 10, 8),
        (100, 1, 10, 1),
        (60, 8, 200_000, 6),  # 12 million events, of which a task takes two
    ],
)
def test_a_part_has_a_file_for_each_task_that_fits_it(groups: int, cores: int, events: int, files: int) -> None:
    keys = [f'["g{n}"]' for n in range(groups)]
    predicted = predict_costs(sample, plan_of(keys, events), PartPacing(60.0, 0.001, is_measured=False), cores)
    assert (predicted.parts, predicted.table_bytes) == (1, files * FILE + groups * OF_GROUP)


def test_parents_have_a_file_for_each_task_too_up_to_the_cores() -> None:
    predicted = predict_costs(sample, plan_of(PARENTS), PartPacing(60.0, 0.001, is_measured=False), 3, "estimated")
    assert (predicted.parts, predicted.table_bytes) == (3, (1 + 3 + 3) * FILE + 8 * OF_GROUP)
