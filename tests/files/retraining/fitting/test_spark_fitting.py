"""Cutting a stream of sorted rows at the borders of groups."""

from __future__ import annotations

from itertools import groupby

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from spinney.retraining.fitting.parent_fitting import whole_groups

KEYS = st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=3), max_size=60)


@given(KEYS, st.lists(st.integers(0, 9), max_size=30), st.integers(1, 25))
def test_blocks_hold_whole_groups_and_all_rows_in_order(keys: list[str], sizes: list[int], block: int) -> None:
    keys = sorted(keys, key=str.encode)
    rows = pa.table({"group_key": pa.array(keys, pa.string()), "n": pa.array(range(len(keys)), pa.int64())})
    batches, at = [], 0
    for size in [*sizes, len(keys)]:
        batches += rows.slice(at, size).combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], rows.schema)]
        at += size
    blocks = list(whole_groups(batches, block))
    assert [n for each in blocks for n in each.column("n").to_pylist()] == list(range(len(keys)))
    of_block = [[key for key, _ in groupby(each.column("group_key").to_pylist())] for each in blocks]
    in_order = [key for names in of_block for key in names]
    assert len(in_order) == len(set(in_order)), "a group stands in two blocks"
    assert all(each.num_rows for each in blocks)


def test_a_block_is_given_out_once_it_is_full_and_not_at_the_end() -> None:
    seen = []

    def batches():
        for n in range(6):
            seen.append(n)
            yield pa.record_batch({"group_key": [f"g{n}"] * 2})

    first = next(whole_groups(batches(), 4))
    assert first.column("group_key").to_pylist() == ["g0", "g0"]
    assert seen == [0, 1]


def test_a_group_larger_than_a_block_stays_whole() -> None:
    batches = [pa.record_batch({"group_key": ["big"] * 3}) for _ in range(4)] + [pa.record_batch({"group_key": ["z"]})]
    assert [each.num_rows for each in whole_groups(batches, 5)] == [12, 1]
