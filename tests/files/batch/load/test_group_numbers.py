"""Groups of a load by columns: the keys and shards that `spinney.core.keys` says, whatever the text."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from batch.load.group_numbers import INVALID, GroupNumbers
from spinney.core import keys

TEXTS = st.one_of(st.none(), st.text(st.characters(exclude_categories=("Cs",)), max_size=4), st.just("x" * 513))
ROWS = st.lists(st.tuples(TEXTS, st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)), st.booleans()), max_size=20)


def is_key(value: object) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= 512 and not any(ord(each) < 32 or ord(each) == 127 for each in value)
    return value is not None


@given(ROWS, st.integers(1, 3), st.integers(1, 100))
def test_every_row_has_the_key_and_shard_of_its_columns(rows: list[tuple], width: int, shards: int) -> None:
    kinds = [pa.string(), pa.int32(), pa.bool_()][:width]
    groups = GroupNumbers(kinds, shards)
    columns = [pa.array([row[at] for row in rows], kind) for at, kind in enumerate(kinds)]
    for _ in range(2):  # the second time every key is known
        found = groups.numbers(columns)
        of, shard, values = (
            groups.keys().to_pylist(),
            groups.shards().tolist(),
            [c.to_pylist() for c in groups.columns()],
        )
        for row, number in zip(rows, found.tolist(), strict=True):
            if not all(is_key(value) for value in row[:width]):
                assert number == INVALID
                continue
            assert of[number] == keys.encode(row[:width])
            assert shard[number] == keys.shard_of(of[number], shards)
            assert tuple(each[number] for each in values) == row[:width]
    ranked = [at for _, at in sorted(zip(groups.ranks().tolist(), range(len(groups)), strict=True))]
    in_order = [(shard[at], of[at].encode()) for at in ranked] if rows else []
    assert in_order == sorted(in_order)


def test_many_columns_with_many_values_each_keep_their_rows_apart() -> None:
    count = 8_000  # five columns of it have more combinations than 64 bits can number
    rows = [tuple(f"{n * step % count}" for step in (1, 7, 11, 13, 17)) for n in range(count)]
    groups = GroupNumbers([pa.string()] * 5, 8)
    found = groups.numbers([pa.array(column) for column in zip(*rows, strict=True)])
    assert found.tolist() == list(range(count))
    assert list(zip(*(column.to_pylist() for column in groups.columns()), strict=True)) == rows
