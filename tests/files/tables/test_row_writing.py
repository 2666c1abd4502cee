from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from schemas.contract import Column, Contract
from spinney.core.records.recent_ids import IdHashes
from spinney.tables.row_writing import ARRIVED_AT, KIND, REPORT_DDL, RowWriting, TargetTable, WrittenRows

AT = datetime(2024, 5, 1, 23, 59, tzinfo=UTC)
BY_DAY = Contract(
    "events",
    "Rows by day.",
    (
        Column("shard", "int", ""),
        Column("event_id", "string", ""),
        Column("ingested_at", "timestamp", ""),
        Column("ingested_on", "date", ""),
        Column("batch_id", "bigint", ""),
    ),
    partitioned_by=("ingested_on",),
)
PLAIN = Contract("dead_letters", "Rows.", (Column("value", "binary", ""), Column("batch_id", "bigint", "")))


@pytest.fixture
def writing(tmp_path: Path) -> RowWriting:
    targets = {"event": TargetTable(tmp_path / "events", BY_DAY), "dead": TargetTable(tmp_path / "dead_letters", PLAIN)}
    return RowWriting(targets, 7)


def batch(*rows: tuple[str, str | None, bytes | None]) -> pa.RecordBatch:
    columns = {
        KIND: pa.array([kind for kind, _, _ in rows]),
        ARRIVED_AT: pa.array([AT] * len(rows), pa.timestamp("us", "UTC")),
        "shard": pa.array([3] * len(rows), pa.int32()),
        "event_id": pa.array([event for _, event, _ in rows], pa.string()),
        "value": pa.array([value for _, _, value in rows], pa.binary()),
    }
    return pa.record_batch(columns)


def report_of(writing: RowWriting, *batches: pa.RecordBatch) -> pa.Table:
    """Write the rows of each batch by KIND, in the order in which a kind comes first."""
    whole = [pa.Table.from_batches([rows]) for rows in batches]
    parts = (
        (kind, rows.filter(pc.equal(rows[KIND], kind)).drop_columns([KIND]))
        for rows in whole
        for kind in pc.unique(rows[KIND]).to_pylist()
    )
    return pa.Table.from_batches(writing.write(parts))


def test_rows_of_each_kind_are_in_files_of_their_table_with_what_the_batch_gives_them(
    writing: RowWriting, tmp_path: Path
) -> None:
    report = report_of(writing, batch(("event", "a", None), ("dead", None, b"?")), batch(("event", "b", None)))

    (events,) = (tmp_path / "events").glob("ingested_on=2024-05-01/*.parquet")
    assert pq.ParquetFile(events).read().to_pylist() == [
        {"shard": 3, "event_id": name, "ingested_at": AT, "batch_id": 7} for name in "ab"
    ]
    (dead,) = (tmp_path / "dead_letters").glob("*.parquet")
    assert pq.ParquetFile(dead).read().to_pylist() == [{"value": b"?", "batch_id": 7}]
    assert sorted(zip(report[KIND].to_pylist(), report["rows"].to_pylist(), strict=True)) == [
        ("dead", 1),
        ("event", 2),
    ]


def test_what_is_reported_commits_the_files_with_their_partition(writing: RowWriting, tmp_path: Path) -> None:
    report = report_of(writing, batch(("event", "a", None)))

    (action,) = WrittenRows.of(report, "event", writing.targets["event"]).add_actions()
    assert action.partition_values == {"ingested_on": date(2024, 5, 1).isoformat()}
    assert (tmp_path / "events" / action.path).stat().st_size == action.size
    assert WrittenRows.of(report, "dead", writing.targets["dead"]).add_actions() == []


def test_rows_of_a_kind_that_is_not_asked_for_are_passed_over(writing: RowWriting, tmp_path: Path) -> None:
    only = RowWriting({"dead": writing.targets["dead"]}, 7)

    report = report_of(only, batch(("event", "a", None), ("dead", None, b"?")))

    assert report[KIND].to_pylist() == ["dead"]
    assert not (tmp_path / "events").exists()


def test_a_task_without_rows_reports_nothing_in_the_declared_columns(writing: RowWriting) -> None:
    report = report_of(writing)

    assert report.num_rows == 0
    assert report.column_names == [each.split()[0] for each in REPORT_DDL.split(", ")]


WITH_IDS = Contract(
    "events",
    "Rows of records by day.",
    (
        *(Column(name, "string", "") for name in ("group_key", "event_id")),
        *(Column(name, "bigint", "") for name in ("kafka_partition", "kafka_offset")),
        Column("ingested_on", "date", ""),
    ),
    partitioned_by=("ingested_on",),
)


RECORD = ("event_id", "kafka_partition", "kafka_offset")


def records(*rows: tuple[str, int, int]) -> pa.RecordBatch:
    """rows: id, partition and offset."""
    ids, partitions, offsets = zip(*rows, strict=True)
    columns = {
        KIND: ["event"] * len(rows), "group_key": ['["a"]'] * len(rows), "event_id": ids,
        "kafka_partition": partitions, "kafka_offset": offsets,
    }  # fmt: skip
    at = pa.array([AT] * len(rows), pa.timestamp("us", "UTC"))
    return pa.record_batch({name: pa.array(values) for name, values in columns.items()} | {ARRIVED_AT: at})


def written_by_tasks(folder: Path, *tasks: pa.RecordBatch) -> WrittenRows:
    target = TargetTable(folder, WITH_IDS, has_ids=True)
    reports = [report_of(RowWriting({"event": target}, 7), rows) for rows in tasks]
    return WrittenRows.of(pa.concat_tables(reports), "event", target)


def test_the_ids_of_all_rows_are_reported(tmp_path: Path) -> None:
    written = written_by_tasks(tmp_path, records(("a", 0, 0), ("b", 0, 1)), records(("c", 1, 0)))
    expected = IdHashes.of(pa.array(['["a"]'] * 3), pa.array(["a", "b", "c"]))
    np.testing.assert_array_equal(written.ids.keys, expected.keys)
    np.testing.assert_array_equal(written.ids.checks, expected.checks)


def test_of_copies_in_the_files_of_two_tasks_the_first_record_stays(tmp_path: Path) -> None:
    tasks = records(("a", 1, 9), ("b", 1, 3), ("c", 1, 4)), records(("b", 0, 5), ("a", 1, 2)), records(("d", 2, 0))
    first = written_by_tasks(tmp_path, *tasks)
    found = first.without_copies(IdHashes.first_of_each)
    actions = found.add_actions()
    assert {action.partition_values["ingested_on"] for action in actions} == {"2024-05-01"}
    sizes = {path.relative_to(tmp_path).as_posix(): path.stat().st_size for path in tmp_path.rglob("*.parquet")}
    assert {action.path: action.size for action in actions} == sizes  # the file that had copies is gone
    assert {file.path for file in first.files[1:]} <= set(sizes)  # those without copies stay
    rows = pa.concat_tables(pq.ParquetFile(tmp_path / path).read(list(RECORD)) for path in sizes).to_pylist()
    assert sorted(tuple(row.values()) for row in rows) == [("a", 1, 2), ("b", 0, 5), ("c", 1, 4), ("d", 2, 0)]
    assert len(found.ids) == 4
    assert json.loads(actions[0].stats)["numRecords"] == 1


def test_where_all_are_copies_no_file_is_left(tmp_path: Path) -> None:
    written = written_by_tasks(tmp_path, records(("a", 0, 0)))
    assert written.without_copies(lambda ids: np.zeros(len(ids), bool)).add_actions() == []
    assert list(tmp_path.rglob("*.parquet")) == []


def test_copies_are_found_in_each_row_group_of_a_large_file(tmp_path: Path) -> None:
    many = 25_000
    tasks = records(*((f"e{n}", 0, n) for n in range(many)))
    found = written_by_tasks(tmp_path, tasks).without_copies(lambda ids: np.arange(len(ids)) % 1_000 != 7)
    (file,) = tmp_path.rglob("*.parquet")
    kept = [n for n in range(many) if n % 1_000 != 7]
    assert pq.ParquetFile(file).read(["kafka_offset"])["kafka_offset"].to_pylist() == kept
    assert len(found.ids) == len(kept)
