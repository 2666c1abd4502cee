from __future__ import annotations

import pyarrow as pa

from batch.estimate import sampling_order

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
