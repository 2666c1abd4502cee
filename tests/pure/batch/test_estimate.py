from __future__ import annotations

import pyarrow as pa
import pytest

from batch.estimate import next_sample_size, sampling_order

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
            "numbers": pa.array(["{}"] * len(keys), pa.string()),
        }
    )
    plan, mean_ms = sampling_order(rows)
    shards = plan["shard"].tolist()
    assert [len(set(shards[at : at + OF_EACH])) for at in range(0, len(shards), OF_EACH)] == [1] * SHARDS
    assert sorted(plan["group_key"]) == sorted(keys)
    assert plan["group_key"].head(OF_EACH).tolist() != sorted(plan["group_key"].head(OF_EACH)), "by lot within a shard"
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
