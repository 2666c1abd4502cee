from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from schemas import tables
from spinney.core.timestamps import from_microseconds
from spinney.storage.layout import Directory
from spinney.tables.stream_reading import TableOffset, has_unread_files, oldest_unread


def offset(version: int, files: int = 0, *, is_snapshot: bool = False) -> TableOffset:
    return TableOffset("t", version, files, is_snapshot)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A table whose versions 0 and 1 have appended a file each; version 2 has merged them."""
    for n in range(2):
        write_deltalake(tmp_path, pa.table({"n": [n]}), mode="append")
    DeltaTable(tmp_path).optimize.compact()
    return Directory(tables.OUTCOMES, "outcomes", str(tmp_path), {})


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (None, True),
        (offset(0), True),
        (offset(0, 1), True),
        (offset(1), True),
        (offset(1, 1), False),
        (offset(2), False),
        (offset(3), False),
        (offset(2, 1, is_snapshot=True), True),
    ],
)
def test_a_stream_has_unread_files_where_a_later_commit_has_appended_some(
    directory: Directory, end: TableOffset | None, expected: bool
) -> None:
    assert has_unread_files(directory, end) == expected


def test_a_table_without_files_has_none_that_are_unread(tmp_path: Path) -> None:
    DeltaTable.create(tmp_path, pa.schema([("n", pa.int64())]))
    assert not has_unread_files(Directory(tables.OUTCOMES, "outcomes", str(tmp_path), {}), None)


@pytest.mark.parametrize(
    ("end", "unread"),
    [
        (offset(0), 0),
        (offset(0, 1), 1),
        (offset(1), 1),
        (offset(1, 1), None),
        (offset(2), None),
        (offset(3), None),
        (offset(1, 1, is_snapshot=True), 1),  # of two files of the table at version 1
        (offset(1, 2, is_snapshot=True), None),
        (offset(0, 1, is_snapshot=True), 1),
    ],
)
def test_the_oldest_commit_that_a_stream_has_not_read_dates_what_it_may_need(
    directory: Directory, end: TableOffset, unread: int | None
) -> None:
    """Version 2 merges files and appends none."""
    times = {entry["version"]: entry["timestamp"] for entry in DeltaTable(directory.uri).history()}
    expected = None if unread is None else from_microseconds(times[unread] * 1000)
    assert oldest_unread(directory, end, newest=2) == expected


def test_commits_that_are_no_longer_in_the_log_are_passed_over(directory: Directory) -> None:
    (Path(directory.uri) / "_delta_log" / f"{0:020}.json").unlink()
    assert oldest_unread(directory, offset(0), newest=2) == oldest_unread(directory, offset(1), newest=2)
