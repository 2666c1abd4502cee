from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.records.recent_ids import IdHashes
from spinney.storage.label_index import runs as run_files
from spinney.storage.label_index.arrived_rows import Arrived, Sought
from spinney.storage.label_index.merge_policy import FAN_IN, runs_to_merge, runs_to_merge_at_last
from spinney.storage.label_index.recent_rows import RecentRows
from spinney.storage.label_index.runs import Run, merge_runs, write_run

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.float64()),
        ("probabilities", pa.map_(pa.string(), pa.float64())),
    ]
)


def arrived(numbers: list[int], at_us: int = 0) -> Arrived:
    """Rows that can be told by their number: every seventh has no text, every third no probabilities."""
    ids = IdHashes.of(pa.array(["g"] * len(numbers), pa.string()), pa.array([f"e{n}" for n in numbers], pa.string()))
    columns = {
        "text": [None if n % 7 == 0 else f"text {n % 4}" for n in numbers],
        "number": [float(n) for n in numbers],
        "probabilities": [None if n % 3 == 0 else [("a", n / 8), ("b", 1.0)] for n in numbers],
    }
    return Arrived(ids, np.full(len(numbers), at_us, np.int64), pa.table(columns, schema=SCHEMA))


def sought(numbers: list[int], at_us: int = 0, within_us: int = 10**9) -> Sought:
    rows = arrived(numbers, at_us)
    return Sought(rows.ids, rows.at_us, within_us)


def look_up(rows: RecentRows, numbers: list[int]) -> list[tuple[int, dict]]:
    found = rows.find(sought(numbers), SCHEMA.names)
    values = found.arrived.rows.to_pylist()
    return sorted(((numbers[at], row) for at, row in zip(found.wanted.tolist(), values, strict=True)), key=str)


def expected(numbers: list[int]) -> list[tuple[int, dict]]:
    return sorted(zip(numbers, arrived(numbers).rows.to_pylist(), strict=True), key=str)


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "RANGE_ROWS", 16)


def test_a_run_of_several_ranges_has_all_rows_in_the_order_of_their_hashes(tmp_path: Path, small_ranges: None) -> None:
    run = write_run(tmp_path / "run.arrow", arrived(list(range(100))), SCHEMA)
    keys = np.concatenate([part.ids.keys for part in run.ranges])
    assert len(run.ranges) > 4
    assert (np.diff(keys.astype(object)) > 0).all()
    assert len(Run.open(run.file)) == 100


def test_ranges_are_not_smaller_for_the_texts_that_all_of_them_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_files, "RANGE_BYTES", 2**16)
    schema = pa.schema([("text", pa.string())])
    runs = []
    for name, first in (("a", 0), ("b", 400)):
        rows = arrived(list(range(first, first + 400)))
        texts = pa.table([[f"{n:01000}" for n in range(first, first + 400)]], schema=schema)
        runs.append(write_run(tmp_path / name, Arrived(rows.ids, rows.at_us, texts), schema))
    merged = merge_runs(tmp_path / "merged", runs)
    assert [len(run.ranges) for run in (*runs, merged)] == [1, 1, 1]
    assert len(merged) == 800


def test_merged_runs_have_the_rows_of_each_with_their_texts(tmp_path: Path, small_ranges: None) -> None:
    parts = [list(range(60)), [200, 207, 0], [7, 14], list(range(60, 130))]
    runs = [write_run(tmp_path / f"{n}.arrow", arrived(part, n), SCHEMA) for n, part in enumerate(parts)]
    merged = merge_runs(tmp_path / "merged.arrow", runs)
    assert len(merged.ranges) > 4
    rows = RecentRows(tmp_path, "rows", SCHEMA, 10, {0: [merged]})
    wanted = [*range(130), 200, 207, 500]
    assert look_up(rows, wanted) == expected([number for part in parts for number in part])
    found = rows.find(sought([0, 7]), [])
    assert sorted(zip(found.wanted.tolist(), found.arrived.at_us.tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 2),
    ]


@pytest.mark.parametrize("batch_rows", [1, 7])
def test_many_batches_are_in_few_files_and_every_row_is_found_once(tmp_path: Path, batch_rows: int) -> None:
    rows = RecentRows(tmp_path, "rows", SCHEMA, 100)
    numbers = list(range(90 * batch_rows))
    for batch in range(90):
        rows.add(arrived(numbers[batch * batch_rows : (batch + 1) * batch_rows], at_us=batch))
    assert len(list(rows.runs())) <= 3 * 6
    assert look_up(rows, numbers) == expected(numbers)
    rows.add(arrived([10_000], at_us=100))  # the next slot
    assert [len(runs) for runs in rows.slots.values()] == [1, 1]
    assert look_up(rows, numbers) == expected(numbers)
    rows.forget(before_us=100)
    assert look_up(rows, [*numbers, 10_000]) == expected([10_000])


@pytest.mark.parametrize(("at_us", "within_us", "times"), [(50, 0, [50]), (50, 7, [43, 50, 57]), (96, 8, [92, 99])])
def test_rows_are_found_that_arrived_within_a_time_of_those_sought(
    tmp_path: Path, at_us: int, within_us: int, times: list[int]
) -> None:
    rows = RecentRows(tmp_path, "rows", SCHEMA, 10)
    for at in range(1, 100, 7):
        rows.add(arrived([5, at], at))
    found = rows.find(sought([4, 5], at_us, within_us), [])
    assert sorted(found.arrived.at_us.tolist()) == times
    assert set(found.wanted.tolist()) == {1}


def test_nothing_is_found_where_nothing_is() -> None:
    found = RecentRows(Path(), "rows", SCHEMA, 10).find(sought([1, 2]), ["text"])
    assert (len(found.arrived), found.arrived.rows.schema) == (0, pa.schema([SCHEMA.field("text")]))


@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=300))
def test_a_slot_has_few_runs_and_no_row_is_written_often(sizes: list[int]) -> None:
    runs: list[list[int]] = []
    written: Counter[int] = Counter()
    for number in range(len(sizes)):
        runs.append([number])
        written[number] += 1
        if count := runs_to_merge([sum(sizes[n] for n in run) for run in runs]):
            merged = [n for run in runs[-count:] for n in run]
            written.update(merged)
            runs[-count:] = [merged]
    tiers = 1 + int(np.log(sum(sizes)) / np.log(FAN_IN))
    assert len(runs) <= (FAN_IN - 1) * (tiers + 1)
    assert max(written.values()) <= 1 + 2 * tiers


@pytest.mark.parametrize(
    ("sizes", "merged"),
    [([5], 0), ([100, 30], 2), ([100, 20], 0), ([100, 30, 9], 3), ([100, 1, 1, 1], 0), ([100, 1, 1, 1, 1], 4)],
)
def test_at_the_end_of_a_slot_its_runs_become_one_unless_few_rows_are_late(sizes: list[int], merged: int) -> None:
    assert runs_to_merge_at_last(sizes) == merged
