from __future__ import annotations

from pathlib import Path

import pytest
from handwritten_history import hour
from oracles import DEPT, A, B, C, Shops, made

from spinney.core import keys
from spinney.core.champions.shard_champions import Champions
from spinney.core.intervals.champion_intervals import Pool, pool_of
from spinney.storage.layout import FleetStore
from spinney.tables.lookup import InShards, NotAfter
from spinney.tables.readers import held_out_losses


def in_shard(champions: Champions, shard: int) -> Champions:
    return Champions({key: rows for key, rows in champions.promotions.items() if keys.shard_of(key, 2) == shard})


def expected(shops: Shops, as_of: str | None = None) -> dict[int, Pool]:
    champions = shops.fleet.champions(as_of)
    pools = {shard: pool_of(in_shard(champions, shard)) for shard in (0, 1)}
    return {shard: pool for shard, pool in pools.items() if pool}


@pytest.mark.parametrize("rows_at_once", [1, 1_000_000])
def test_the_pools_of_a_table_are_those_of_the_champions_of_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(held_out_losses, "ROWS_AT_ONCE", rows_at_once)
    shops = made(tmp_path)
    shops.round(30, A, B, DEPT)
    shops.round(50, A, C)
    store = FleetStore.of(shops.past.config)
    now = held_out_losses.read_pools(store, [0, 1], None)
    assert sum(map(len, now.values())) == 3
    assert now == expected(shops)
    then = held_out_losses.read_pools(store, [0, 1], NotAfter("decided_at", hour(40)))
    assert then == expected(shops, "stream-30") != now


def test_consecutive_shards_are_read_together_but_not_too_many() -> None:
    assert list(held_out_losses._runs([5, 1, 2, 3, 7], 2)) == [
        InShards(1, 2),
        InShards(3, 3),
        InShards(5, 5),
        InShards(7, 7),
    ]
    assert list(held_out_losses._runs([], 2)) == []
