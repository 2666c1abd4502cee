from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from spinney.tables.clustered_files import sorted_file_writing
from spinney.tables.clustered_files.sorted_file_writing import FileWriter

ROWS = pa.table({"shard": pa.array([0, 0, 1], pa.int32()), "event_id": ["a", "b", "c"]})


class Full(Exception):  # noqa: N818 - a disk
    pass


def test_rows_are_in_one_file_that_says_how_many_they_are(tmp_path: Path) -> None:
    with FileWriter(tmp_path, "part", ROWS.schema) as writer:
        writer.write(ROWS)

    (written,) = writer.written
    assert (written.rows, written.stats["numRecords"], written.bytes) == (3, 3, written.path.stat().st_size)


def test_the_first_and_last_times_of_the_calendar_have_statistics_that_any_reader_knows(tmp_path: Path) -> None:
    times = [datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), None]
    days = [date(1, 1, 1), None, date(9999, 12, 31)]
    rows = pa.table({"at": pa.array(times, pa.timestamp("us", "UTC")), "day": pa.array(days, pa.date32())})
    with FileWriter(tmp_path, "part", rows.schema) as writer:
        writer.write(rows)

    (written,) = writer.written
    assert written.stats["minValues"] == {"at": "0001-01-01T00:00:00.000Z", "day": "0001-01-01"}
    assert written.stats["maxValues"] == {"at": "9999-12-31T23:59:59.999Z", "day": "9999-12-31"}


def test_a_date_that_python_has_not_has_no_statistics(tmp_path: Path) -> None:
    days = pa.array([-719_528, 0], pa.int32()).cast(pa.date32())  # 0000-01-01 and 1970-01-01
    with FileWriter(tmp_path, "part", pa.schema([("day", pa.date32())])) as writer:
        writer.write(pa.table({"day": days}))

    (written,) = writer.written
    assert (written.stats["minValues"], written.stats["nullCount"]) == ({}, {"day": 0})


def test_what_fails_between_two_rows_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_file_writing, "ROW_GROUP_ROWS", 1)
    monkeypatch.setattr(sorted_file_writing, "FILE_BYTES", 1)

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

    monkeypatch.setattr(sorted_file_writing._OpenFile, "close", fails)
    with pytest.raises(Full), FileWriter(tmp_path, "part", ROWS.schema) as writer:
        writer.write(ROWS)

    assert list(tmp_path.iterdir()) == []
