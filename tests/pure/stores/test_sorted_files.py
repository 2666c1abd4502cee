from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from spinney.stores import sorted_files
from spinney.stores.sorted_files import FileWriter

ROWS = pa.table({"shard": pa.array([0, 0, 1], pa.int32()), "event_id": ["a", "b", "c"]})


class Full(Exception):  # noqa: N818 - a disk
    pass


def test_rows_are_in_one_file_that_says_how_many_they_are(tmp_path: Path) -> None:
    with FileWriter(tmp_path, "part", ROWS.schema) as writer:
        writer.write(ROWS)

    (written,) = writer.written
    assert (written.rows, written.stats["numRecords"], written.bytes) == (3, 3, written.path.stat().st_size)


def test_what_fails_between_two_rows_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_files, "ROW_GROUP_ROWS", 1)
    monkeypatch.setattr(sorted_files, "FILE_BYTES", 1)

    def written_until_it_fails() -> None:
        with FileWriter(tmp_path, "part", ROWS.schema) as writer:
            for _ in range(3):
                writer.write(ROWS)
            assert list(tmp_path.iterdir()), "some of it was on the disk"
            raise Full

    with pytest.raises(Full):
        written_until_it_fails()

    assert list(tmp_path.iterdir()) == []


def test_what_fails_at_the_end_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise Full

    monkeypatch.setattr(sorted_files._OpenFile, "close", fails)
    with pytest.raises(Full), FileWriter(tmp_path, "part", ROWS.schema) as writer:
        writer.write(ROWS)

    assert list(tmp_path.iterdir()) == []
