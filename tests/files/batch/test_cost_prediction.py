from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from batch.cost_prediction import UNSAMPLED_SECONDS_PER_GROUP, Estimate, predict_costs
from batch.estimate import sampling_order
from batch.part_timeline import PartSeconds, fit_beside_gate, total_seconds
from batch.sampled_costs import COUNTED, GROUP_ROWS, WORK, Capacity, Sample, held_rows, next_sample_size
from spinney.core.planning.batch_parts import PartPacing, next_part

SHARDS, OF_EACH = 10, 30
UNMEASURED = PartPacing(60.0, 0.001, is_measured=False)


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
        (0.5, 0.0003, [60, 480, 3_840, 16_000]),  # 3,840 groups add 1.2 s to 0.5 s, 16,000 add 4.8 s
        (0.3, 0.0003, [60, 480, 3_840, 16_000]),  # 3,840 groups take 4.6 times as long as 60, but add 1.2 s only
        (0.2, 0.02, [60, 480]),  # 480 groups take 7 times as long and add 8.4 s
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
    """Fits groups and decides about them on a clock of its own.

    A part costs `part_s`, each row between its first and its last shard `read_s`, and a group as much as 60 of its rows
    besides them. Its gate costs `gate_s` a group. noise: standard deviation of the logarithm of a duration.
    """

    rows_per_shard: float
    part_s: float
    read_s: float
    row_s: float
    gate_s: float
    noise: float

    def __post_init__(self) -> None:
        self.random, self.now = np.random.default_rng(7), 0.0

    def steps(self, plan: pd.DataFrame) -> tuple[float, float]:
        """The seconds of a fit of these groups and of their gate, each alone."""
        span = int(plan["shard"].max()) - int(plan["shard"].min()) + 1
        fit_s = self.part_s + span * self.rows_per_shard * self.read_s + plan[WORK].sum() * self.row_s
        noise = np.exp(self.random.normal(scale=self.noise, size=2))
        return fit_s * noise[0], len(plan) * self.gate_s * noise[1]

    def sample(self, plan: pd.DataFrame) -> Sample:
        fit_s, gate_s = self.steps(plan)
        self.now += fit_s + gate_s
        groups, work = len(plan), float(plan[WORK].sum())
        return Sample(groups, work, fit_s, gate_s, 50 * groups, 25 * groups, 700 * groups, 0, 10**8, 0, 0)

    def batch(self, plan: pd.DataFrame, pace: PartPacing, cores: int) -> tuple[float, int]:
        """Run the parts of a batch as `Rounds` does. Returns the seconds and the number of parts."""
        began, part, parts, gate_s = self.now, None, 0, 0.0
        while part := next_part(part, len(plan), 0, pace):
            fit_s, next_gate_s = self.steps(plan.iloc[part.begin : part.end])
            elapsed_s = shared_seconds(fit_s, gate_s, cores)
            self.now += elapsed_s
            pace = pace.after(part.end - part.begin, elapsed_s)
            gate_s, parts = next_gate_s, parts + 1
        self.now += gate_s
        return self.now - began, parts


def shared_seconds(fit_s: float, gate_s: float, cores: int, step_s: float = 0.01) -> float:
    """Seconds until both are done, tick by tick: a gate uses one core, a fit all that are left."""
    fit_core_s, elapsed_s = fit_s * cores, 0.0
    while fit_core_s > 0 or gate_s > 0:
        fit_core_s -= step_s * (cores - 1 if gate_s > 0 else cores)
        gate_s -= step_s
        elapsed_s += step_s
    return elapsed_s


@pytest.mark.parametrize(
    ("groups", "rows", "gate_s"),
    [
        (10_000, "equal", 0.00005),
        (50_000, "equal", 0.00005),
        (50_000, "equal", 0.0002),  # gates that take longer than the fits beside them
        (200_000, "equal", 0.00005),
        (50_000, "a group with 30 % of all rows", 0.00005),
    ],
)
def test_what_is_predicted_is_within_a_factor_of_what_a_batch_takes_by_the_clock(
    groups: int, rows: str, gate_s: float
) -> None:
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
    machine = Machine(40_000, part_s=1.2, read_s=1e-6, row_s=0.9e-6, gate_s=gate_s, noise=0.05)
    predicted = predict_costs(machine.sample, plan, UNMEASURED, Capacity(cores=2, slots=3))
    assert machine.now < 60.0, "samples are short"
    taken, parts = machine.batch(plan, UNMEASURED, cores=2)
    assert taken / 1.3 < predicted.seconds < taken * 1.3
    assert predicted.seconds_low < predicted.seconds < predicted.seconds_high
    assert abs(predicted.parts - parts) <= 1
    assert predicted.table_bytes == pytest.approx(700 * groups, rel=0.01)


def half_as_long_a_gate(plan: pd.DataFrame) -> Sample:
    """10 ms a group to fit, 5 ms to decide, nothing for a part."""
    groups = len(plan)
    return Sample(groups, float(groups), 0.01 * groups, 0.005 * groups, 10 * groups, 5 * groups, 0, 0, 10**8, 0, 0)


def two_parts(pooling_rows: float | None, cores: int) -> tuple[float, float, float]:
    """Low, likely and high seconds of 200 groups in two parts: their fits take 1 s each alone, their gates 0.5 s."""
    plan, pace = plan_of([f'["g{n}"]' for n in range(200)]), PartPacing(1.005, 0.01, is_measured=True)
    found = predict_costs(half_as_long_a_gate, plan, pace, Capacity(cores, cores), pooling_rows)
    assert found.parts == 2
    unsampled_s = 200 * UNSAMPLED_SECONDS_PER_GROUP
    return found.seconds_low - unsampled_s, found.seconds - unsampled_s, found.seconds_high - unsampled_s


def test_a_gate_runs_beside_the_next_fit_and_takes_its_share_of_the_cores() -> None:
    low, likely, high = two_parts(None, cores=4)
    assert low == pytest.approx(1 + 1 + 0.5)
    assert likely == pytest.approx(1 + (1 + 0.5 / 4) + 0.5), "the first gate has a core of four for 0.5 s"
    assert high == pytest.approx((1 + 0.5) + (1 + 0.5))


@pytest.mark.parametrize(("pooling_rows", "cores"), [(20.0, 4), (None, 1)])
def test_gates_save_no_time_on_one_core_or_where_groups_wait_for_their_parents(
    pooling_rows: float | None, cores: int
) -> None:
    assert two_parts(pooling_rows, cores) == pytest.approx((3.0, 3.0, 3.0))


def test_a_part_takes_at_least_as_long_as_the_gate_beside_it() -> None:
    parts = [PartSeconds(1.0, 5.0), PartSeconds(2.0, 0.5), PartSeconds(4.0, 3.0)]
    assert total_seconds(parts, contention=0.5) == 1.0 + 5.0 + (4.0 + 0.25) + 3.0
    assert total_seconds([], contention=0.5) == 0.0


@pytest.mark.parametrize(("fit_s", "gate_s", "cores"), [(4.0, 1.0, 2), (4.0, 3.0, 2), (1.0, 5.0, 2), (3.0, 2.0, 8)])
def test_a_fit_beside_a_gate_takes_what_a_clock_of_shared_cores_says(fit_s: float, gate_s: float, cores: int) -> None:
    by_clock = shared_seconds(fit_s, gate_s, cores, step_s=0.001)
    assert fit_beside_gate(fit_s, gate_s, 1 / cores) == pytest.approx(by_clock, abs=0.005)


WORKER_BYTES, ROW_BYTES, MB = 200_000_000, 400, 1_000_000


def rows_held(plan: pd.DataFrame) -> Sample:
    """A worker of 200 MB, and 400 bytes of each row that a task holds. Samples have two tasks. 0.3 ms a group."""
    groups, held = len(plan), held_rows(plan[COUNTED].to_numpy(), cores=2)
    peak = WORKER_BYTES + ROW_BYTES * held
    return Sample(groups, float(groups), 0.5 + 0.0003 * groups, 0.0, 50 * groups, held, 0, 0, peak, 0, 0)


def test_memory_is_that_of_the_rows_of_the_largest_tasks_that_run_at_once() -> None:
    """200,000 groups × 50 rows in parts of 4,000, 16,000, 64,000 and 116,000 groups.

    Part 3 has 3.2 million rows in two tasks: 2 × (200 MB + 1.6 million × 400 bytes) = 1,680 MB. Part 4 has 5.8 million
    rows, three tasks' worth, so four tasks of 1.45 million, of which three run at once: 3 × (200 + 580) = 2,340 MB.
    """
    plan = plan_of([f'["g{n}"]' for n in range(200_000)], 50)
    pace = PartPacing(60.0, 0.0001, is_measured=True)
    found = predict_costs(rows_held, plan, pace, Capacity(cores=2, slots=3))
    assert found.parts == 4
    assert found.memory_bytes / MB == pytest.approx(2_340, rel=0.001)
    assert found.memory_low_bytes == pytest.approx(found.memory_high_bytes, rel=0.001), "the samples agree"
    on_a_cluster = predict_costs(rows_held, plan, pace, Capacity(cores=2, slots=2))
    assert on_a_cluster.memory_bytes / MB == pytest.approx(1_680, rel=0.001)


def test_memory_of_a_group_with_most_rows_is_bounded_by_what_a_task_holds() -> None:
    assert held_rows(np.array([50, 9_000_000, 50]), cores=1) == 2_000_000
    assert held_rows(np.full(100, 50), cores=2) == 51 * 50, "tasks of 51 and 49 groups"


def test_small_parts_take_less_memory_than_a_sample_of_all_groups() -> None:
    """1,000 groups are sampled at once. The largest part has 100, its largest task 51 groups × 50 rows × 400 bytes."""
    plan = plan_of([f'["g{n}"]' for n in range(1_000)], 50)
    pace = PartPacing(0.0301, 0.0003, is_measured=True, fixed_s=0.5)
    found = predict_costs(rows_held, plan, pace, Capacity(cores=2, slots=3))
    assert found.sample == 1_000
    assert found.memory_bytes == pytest.approx(2 * (WORKER_BYTES + 51 * 50 * ROW_BYTES), rel=1e-6)


def differing(plan: pd.DataFrame) -> Sample:
    """Samples that do not agree: groups cost more, and rows less memory, in the larger ones."""
    groups, held = len(plan), held_rows(plan[COUNTED].to_numpy(), cores=2)
    fit_s, peak = 0.3 + 2e-4 * groups + 2e-8 * groups**2, WORKER_BYTES + 20_000 * math.sqrt(held)
    return Sample(groups, float(groups), fit_s, 0.0, 50 * groups, held, 0, 0, int(peak), 0, 0)


def test_samples_that_differ_make_a_range() -> None:
    plan = plan_of([f'["g{n}"]' for n in range(100_000)], 50)
    found = predict_costs(differing, plan, UNMEASURED, Capacity(cores=2, slots=3))
    assert found.seconds_low <= found.seconds < found.seconds_high
    assert found.memory_low_bytes == found.memory_bytes < found.memory_high_bytes


def test_a_range_is_wider_by_what_batches_differ_from_their_dry_runs() -> None:
    ends = {"seconds_low": 130.0, "seconds_high": 200.0, "memory_low_bytes": 120, "memory_high_bytes": 200}
    found = Estimate(10, 150.0, 1, 150, 0, 10, 0, **ends).widened()
    assert (found.seconds_low, found.seconds, found.seconds_high) == pytest.approx((100.0, 150.0, 260.0))
    assert (found.memory_low_bytes, found.memory_bytes, found.memory_high_bytes) == (100, 150, 240)


def test_a_process_that_fits_counts_if_it_takes_more_than_its_worker() -> None:
    def sample(plan: pd.DataFrame) -> Sample:
        groups = len(plan)
        return Sample(groups, float(groups), 1.0, 0.0, groups, groups, 0, 0, WORKER_BYTES, 700 * MB, 0)

    found = predict_costs(sample, plan_of(GROUPS), UNMEASURED, Capacity(2, 3))
    assert found.memory_bytes == 2 * 700 * MB


PART_S, PARENTS_S, GROUP_S, FILE, OF_GROUP = 10.0, 30.0, 0.01, 5_000, 100
"""Seconds of a part, of one with parents, and of a group. Bytes of a file without rows, and of a group's model."""


def sample(plan: pd.DataFrame) -> Sample:
    """The cost of some groups on a machine without noise."""
    groups = len(plan)
    part_s = PARENTS_S if plan["group_key"].str.startswith("{").any() else PART_S
    seconds, stored = part_s + groups * GROUP_S, FILE + groups * OF_GROUP
    return Sample(groups, float(plan[WORK].sum()), seconds, 0.0, groups, groups, stored, FILE, 10**8, 0, 0)


def plan_of(keys: list[str], events: int = 10) -> pd.DataFrame:
    return pd.DataFrame({"group_key": keys, WORK: 1.0, COUNTED: events})


PARENTS = ["{}", *(f'{{"shop":"s{n}"}}' for n in range(3)), *(f'{{"shop":"s{n}","town":"t"}}' for n in range(4))]
GROUPS = [f'["g{n}"]' for n in range(100)]


@pytest.mark.parametrize(("pooling_rows", "parts"), [("estimated", [30, 30, 30, 10]), (20.0, [30, 10]), (None, [30])])
def test_each_level_of_parents_costs_a_part_if_levels_are_fitted_one_after_the_other(
    pooling_rows: float | str | None, parts: list[float]
) -> None:
    mixed = [*GROUPS[:50], *reversed(PARENTS), *GROUPS[50:]]
    predicted = predict_costs(sample, plan_of(mixed), UNMEASURED, Capacity(8, 9), pooling_rows=pooling_rows)
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
    predicted = predict_costs(sample, plan_of(keys, events), UNMEASURED, Capacity(cores, cores))
    assert (predicted.parts, predicted.table_bytes) == (1, files * FILE + groups * OF_GROUP)


def test_parents_have_a_file_for_each_task_too_up_to_the_cores() -> None:
    predicted = predict_costs(sample, plan_of(PARENTS), UNMEASURED, Capacity(3, 3), "estimated")
    assert (predicted.parts, predicted.table_bytes) == (3, (1 + 3 + 3) * FILE + 8 * OF_GROUP)
