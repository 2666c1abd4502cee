from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pytest

from spinney.core import keys
from spinney.core.champions.held_out_loss_codec import pack
from spinney.core.champions.promotion import Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.intervals.champion_intervals import (
    FleetIntervals,
    IntervalRule,
    Pool,
    ShardIntervals,
    pool_of,
    pools_of,
)
from spinney.core.intervals.conformal import calibrate

RULE = IntervalRule(0.8, "absolute")
A, B, C, GLOBAL = '["a"]', '["b"]', '["c"]', "{}"
LOSSES = {A: [1.0, 2.0, 3.0], B: [2.0, 4.0, 1.0], C: [5.0], GLOBAL: [100.0] * 9}


def promotion(key: str, at: int = 1, **changes) -> Promotion:
    return Promotion(0, f"{key}-{at}", "promoted", at, at, heldout_losses=pack(LOSSES[key]), **changes)


def shard_of(key: str) -> int:
    return keys.shard_of(key, 4)


def test_half_widths_are_those_of_the_residuals_and_none_is_of_a_model_without() -> None:
    residuals = np.array([[1.0, 2.0, 3.0, *[np.nan] * 5], [2.0, 4.0, 1.0, *[np.nan] * 5], [np.nan] * 8])
    expected = calibrate(residuals[:2], 0.8).half_widths(residuals)
    pool = [pack(LOSSES[A]), pack(LOSSES[B])]
    np.testing.assert_array_equal(ShardIntervals(RULE, pool).of_losses([*pool, None]), expected)


def test_squared_losses_are_residuals_squared() -> None:
    packed = [pack([value**2 for value in LOSSES[key]]) for key in (A, B)]
    squared = ShardIntervals(IntervalRule(0.8, "squared"), packed).of_losses(packed)
    plain = [pack(LOSSES[key]) for key in (A, B)]
    np.testing.assert_allclose(squared, ShardIntervals(RULE, plain).of_losses(plain), rtol=1e-6)


def test_losses_that_name_theirs_give_the_same_intervals_beside_others() -> None:
    plain = [pack(LOSSES[key]) for key in (A, B, C)]
    squares = [value**2 for value in LOSSES[B]]
    mixed = [pack(LOSSES[A]), pack(squares, "squared"), pack(LOSSES[C], "absolute")]
    expected = ShardIntervals(RULE, plain).of_losses(plain)
    np.testing.assert_array_equal(ShardIntervals(RULE, mixed).of_losses(mixed), expected)
    of_squared_fleet = [pack([value**2 for value in LOSSES[A]]), *mixed[1:]]
    found = ShardIntervals(IntervalRule(0.8, "squared"), of_squared_fleet).of_losses(of_squared_fleet)
    np.testing.assert_array_equal(found, expected)


def test_the_pools_of_rows_have_the_names_of_their_losses() -> None:
    rows = pa.table({"group_key": [A, B], "heldout_losses": [[1.0], [4.0]], "loss_name": [None, "squared"]})
    pools = pools_of(rows, 4)
    assert (*pools[shard_of(A)], *pools[shard_of(B)]) == (pack([1.0]), pack([4.0], "squared"))


def test_the_prequential_losses_of_a_row_count_before_the_held_out_ones_which_earlier_versions_stored_alone() -> None:
    columns = {"heldout_losses": [[1.0], [4.0]], "prequential_losses": [None, [9.0, 16.0]]}
    rows = pa.table({"group_key": [A, B], **columns, "loss_name": [None, "squared"]})
    pools = pools_of(rows, 4)
    assert (*pools[shard_of(A)], *pools[shard_of(B)]) == (pack([1.0]), pack([9.0, 16.0], "squared"))
    both = [Promotion.from_row({"model_id": "m", **row}) for row in rows.to_pylist()]
    assert [row.heldout_losses for row in both] == [pack([1.0]), pack([9.0, 16.0], "squared")]


def test_a_pool_is_of_the_champions_of_groups_in_the_order_of_their_keys() -> None:
    rows = [
        (B, promotion(B)),
        (GLOBAL, promotion(GLOBAL)),
        (A, promotion(A)),
        (A, Promotion(0, "old", "promoted", 0, 0)),
    ]
    champions = Champions.empty().with_promotions([*rows, (C, Promotion(0, "c", "withdrawn", 1, 1))])
    assert pool_of(champions) == [pack(LOSSES[A]), pack(LOSSES[B])]


def test_the_pools_of_a_table_are_those_of_its_shards() -> None:
    names = sorted([A, B, C, GLOBAL])
    rows = pa.table({"group_key": names, "heldout_losses": pa.array([LOSSES[key] for key in names])})
    found = pools_of(rows, 4)
    for shard in range(4):
        mine = [(key, promotion(key)) for key in (A, B, C) if shard_of(key) == shard]
        assert found.get(shard, []) == pool_of(Champions.empty().with_promotions(mine))


def test_a_fleet_answers_by_the_shard_of_the_group_whoever_answers_and_reads_each_shard_once() -> None:
    pools: dict[int, Pool] = {shard: [pack([shard + 1.0] * 9)] for shard in range(4)}
    read: list[int] = []

    def read_pools(shards: Collection[int]) -> dict[int, Pool]:
        read.extend(shards)
        return {shard: pools[shard] for shard in shards}

    fleet = FleetIntervals(RULE, 4, read_pools)
    asked, answering = [A, B, C, A], [promotion(A), None, promotion(GLOBAL), promotion(GLOBAL)]
    for _ in range(2):
        widths = fleet.half_widths(asked, answering)
        for key, row, width in zip(asked, answering, widths, strict=True):
            expected = ShardIntervals(RULE, pools[shard_of(key)]).of_losses([row and row.heldout_losses])
            np.testing.assert_array_equal(width, expected[0])
    assert sorted(read) == sorted({shard_of(key) for key in asked})


def test_without_any_champion_nothing_is_bounded() -> None:
    assert np.isnan(FleetIntervals(RULE, 4, lambda _: {}).half_widths([C], [promotion(C)])).all()


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ((), IntervalRule(0.9, "absolute")),
        ((("[kafka]\n", "[intervals]\ncoverage = 0.5\n[kafka]\n"),), IntervalRule(0.5, "absolute")),
        ((("[kafka]\n", "[intervals]\ncoverage = 0\n[kafka]\n"),), None),
    ],
)
def test_the_rule_is_that_of_the_configuration(configured, more, rule: IntervalRule | None) -> None:
    assert IntervalRule.of(configured(*more).fleet, configured(*more).intervals.coverage) == rule
