"""Files sorted by group while a table grows: the same rows, in an order in which few files hold what is asked for."""

from __future__ import annotations

import json
import random
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from schemas import tables
from spinney.core.errors import StoreError
from spinney.core.keys import encode, shard_of
from spinney.operations import clustering
from spinney.operations.clustering import UNGUARDED, CommitGuard, cluster, due_merges
from spinney.storage.layout import FleetStore
from spinney.tables import delta, table_files
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.clustered_files import external_sort, file_rewriting, sorted_file_writing
from spinney.tables.clustered_files.merge_selection import MergeRule

SHARDS = 4
MIB = 1024**2
START = datetime(2024, 5, 1, tzinfo=UTC)
KEYS = [encode([f"s{at:03}", at % 7]) for at in range(300)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a few thousand rows make spills, several files and many row groups."""
    monkeypatch.setattr(external_sort, "CHUNK_BYTES", 100_000)
    monkeypatch.setattr(external_sort, "SPILL_BATCH_BYTES", 5_000)
    monkeypatch.setattr(sorted_file_writing, "ROW_GROUP_ROWS", 100)
    monkeypatch.setattr(sorted_file_writing, "FILE_BYTES", 4_000)
    monkeypatch.setattr(file_rewriting._SourceReader, "BATCH_BYTES", 10_000)


class Events:
    """The table `events` of a fleet of 300 shops; a third of the rows are of one of them."""

    def __init__(self, config: Any) -> None:
        delta.create_tables(FleetStore.of(config))
        self.config, self.chance, self.number = config, random.Random(5), 0
        self.place = FleetStore.of(config).directory(tables.EVENTS)
        self.schema = arrow_schema(self.place.contract)

    def append(self, rows: int, day: int = 0) -> None:
        made = []
        for _ in range(rows):
            self.number += 1
            key = KEYS[0] if self.number % 3 == 0 else self.chance.choice(KEYS)
            at = START + timedelta(
                days=day, seconds=self.chance.randint(0, 500), microseconds=self.chance.randint(0, 9)
            )
            made.append(
                {
                    "shard": shard_of(key, SHARDS), "group_key": key, "event_id": f"e{self.number}", "event_time": at,
                    "price": self.chance.choice([None, 1.5, 2.5]), "brand": self.chance.choice([None, "é", "b"]),
                    "ingested_at": at, "ingested_on": date(2024, 5, 1) + timedelta(days=day), "batch_id": self.number,
                    "topic": "sales", "kafka_partition": 0, "kafka_offset": self.number,
                }
            )  # fmt: skip
        whole = [{name: row.get(name) for name in self.schema.names} for row in made]
        write_deltalake(self.place.uri, pa.Table.from_pylist(whole, schema=self.schema), mode="append")

    @property
    def table(self) -> DeltaTable:
        return DeltaTable(self.place.uri)

    def rows(self, version: int | None = None) -> list[dict[str, Any]]:
        found = delta.open_dataset(DeltaTable(self.place.uri, version=version)).to_table().to_pylist()
        return sorted(found, key=lambda row: int(row["event_id"][1:]))

    def on_disk(self) -> set[str]:
        base = Path(self.place.uri)
        return {str(each.relative_to(base)) for each in base.rglob("*.parquet")}


@pytest.fixture
def events(configured) -> Events:
    return Events(configured())


def order(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("shard", "group_key", "event_time", "event_id"))


def test_clustered_files_hold_the_same_rows_in_order_and_the_old_version_stays(events, small) -> None:
    for day, rows in ((0, 900), (1, 700), (0, 800), (1, 5)):
        events.append(rows, day)
    before, version = events.rows(), events.table.version()
    cluster(events.table, "events", is_requested=True)
    assert events.rows() == before
    assert events.rows(version) == before
    by_day: dict[Any, list[table_files.TableFile]] = {}
    for file in sorted(table_files.list_files(events.table), key=lambda each: each.path):
        assert file.is_clustered
        by_day.setdefault(file.partition["ingested_on"], []).append(file)
    for day, files in by_day.items():
        assert len(files) > 3
        read = [row for file in files for row in pq.ParquetFile(Path(events.place.uri, file.path)).read().to_pylist()]
        of_day = [row for row in before if row["ingested_on"] == day]
        assert [order(row) for row in read] == sorted(order(row) for row in of_day)
        assert [file.rows for file in files] == [
            pq.read_metadata(Path(events.place.uri, file.path)).num_rows for file in files
        ]


def test_no_action_of_the_commit_changes_data_so_streams_pass_over_it(events, small) -> None:
    events.append(300)
    cluster(events.table, "events", is_requested=True)
    log = Path(events.place.uri, "_delta_log", f"{events.table.version():020}.json")
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    changes = [each[kind]["dataChange"] for each in actions for kind in ("add", "remove") if kind in each]
    assert len(changes) > 1
    assert not any(changes)


def test_of_scattered_groups_few_files_and_row_groups_are_read(events, small) -> None:
    """Files that are not named are removed before the groups are read."""
    for _ in range(8):
        events.append(1000)
    before = events.rows()
    wanted = events.chance.sample(KEYS[1:], 4)
    assert len(table_files.files_of_groups(events.table, wanted, SHARDS)) == 8
    cluster(events.table, "events", is_requested=True)
    every = table_files.list_files(events.table)
    named = table_files.files_of_groups(events.table, wanted, SHARDS)
    assert len(every) > 20
    assert len(named) <= 10
    footers = [pq.read_metadata(Path(events.place.uri, path)) for path in named]
    index = table_files.GroupIndex(wanted, SHARDS)
    groups = sum(len(table_files.matching_row_groups(footer, index)) for footer in footers)
    assert groups <= 2 * len(wanted) + SHARDS
    for path in events.on_disk() - set(named):
        Path(events.place.uri, path).unlink()
    found = table_files.read_groups(events.table, None, wanted, SHARDS)
    rows = sorted(found.to_pylist(), key=lambda row: int(row["event_id"][1:]))
    assert rows == [row for row in before if row["group_key"] in wanted]


def test_filters_on_the_log_s_statistics_lose_no_row(events, small) -> None:
    """Times have microseconds; the log has whole milliseconds."""
    events.append(1200)
    before = events.rows()
    cluster(events.table, "events", is_requested=True)
    for at in {max(row["event_time"] for row in before), min(row["event_time"] for row in before)}:
        same = sorted(row["event_id"] for row in before if row["event_time"] == at)
        dataset = delta.open_dataset(events.table)
        by_arrow = dataset.to_table(["event_id"], filter=ds.field("event_time") == pa.scalar(at))[
            "event_id"
        ].to_pylist()
        assert sorted(by_arrow) == same
        query = f"select event_id from t where event_time = timestamp '{at:%Y-%m-%d %H:%M:%S.%f}Z'"
        by_sql = pa.table(QueryBuilder().register("t", events.table).execute(query).read_all())["event_id"].to_pylist()
        assert sorted(by_sql) == same


def test_statistics_of_clustered_files_lose_no_row_to_deltalake_s_own_dataset_either(events, small) -> None:
    """It takes a column without statistics for all nulls."""
    events.append(600)
    before = events.rows()
    cluster(events.table, "events", is_requested=True)
    dataset = events.table.to_pyarrow_dataset()
    for name in ("group_key", "event_id", "price", "brand", "topic", "kafka_offset", "batch_id", "ingested_at"):
        value = next(row[name] for row in before if row[name] is not None)
        found = dataset.to_table(["event_id"], filter=ds.field(name) == pa.scalar(value))["event_id"].to_pylist()
        assert sorted(found) == sorted(row["event_id"] for row in before if row[name] == value), name


@pytest.mark.parametrize(
    ("values", "kind", "logged"),
    [
        (["b", "a"], pa.string(), ("a", "b")),
        (["x" * 2000], pa.string(), ("x" * 1024, "x" * 1024 + "\U0010ffff")),
        ([2.0, float("nan"), -1.0], pa.float64(), (-1.0, 2.0)),
        ([float("inf"), 1.0], pa.float64(), None),
        ([float("nan")], pa.float64(), None),
        ([None], pa.int64(), None),
        (
            [datetime(2024, 5, 1, 0, 0, 0, 1500, UTC)],
            pa.timestamp("us", "UTC"),
            ("2024-05-01T00:00:00.001Z", "2024-05-01T00:00:00.002Z"),
        ),
        ([date(2024, 5, 1)], pa.date32(), ("2024-05-01", "2024-05-01")),
        ([True, False], pa.bool_(), (False, True)),
    ],
)
def test_statistics_are_never_narrower_than_the_values(tmp_path, values, kind, logged) -> None:
    rows = pa.table({"x": pa.array(values, kind)})
    with sorted_file_writing.FileWriter(tmp_path, "file", rows.schema) as writer:
        writer.write(rows)
    [written] = writer.written
    report = json.loads(json.dumps(written.stats, allow_nan=False))
    assert (report["minValues"], report["maxValues"]) == (
        ({}, {}) if logged is None else ({"x": logged[0]}, {"x": logged[1]})
    )
    assert report["nullCount"] == {"x": values.count(None)}


def test_only_new_files_are_rewritten_and_a_table_with_nothing_to_do_is_not_touched(events, monkeypatch) -> None:
    monkeypatch.setattr(clustering, "GROWING", MergeRule(unsorted_files=20, unsorted_bytes=MIB, tier=8))
    events.append(2000)
    cluster(events.table, "events", is_requested=True)
    first = {each.path for each in table_files.list_files(events.table)}
    version = events.table.version()
    assert cluster(events.table, "events", is_requested=True) == []
    for _ in range(19):
        events.append(2)
    assert cluster(events.table, "events") == []  # not enough to pay
    assert events.table.version() == version + 19
    events.append(2)
    before = events.rows()
    [done] = cluster(events.table, "events")
    assert (len(done.old), done.rows) == (20, 40)
    assert first < {each.path for each in table_files.list_files(events.table)}
    assert events.rows() == before


def test_of_a_day_that_is_over_every_file_is_clustered(events) -> None:
    for day in (0, 0, 1, 1):
        events.append(20, day)
    [done] = cluster(events.table, "events")
    assert done.partition == {"ingested_on": "2024-05-01"}
    assert due_merges(events.table, is_requested=False) == []


def test_outcomes_are_clustered_too(configured) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    place = FleetStore.of(config).directory(tables.OUTCOMES)
    schema = arrow_schema(place.contract)
    for part in range(3):
        rows = [
            {
                "shard": shard_of(key, SHARDS),
                "group_key": key,
                "event_id": f"e{part}",
                "observed_at": START,
                "label": 1.0,
            }
            for key in reversed(KEYS)
        ]
        whole = [{name: row.get(name) for name in schema.names} for row in rows]
        write_deltalake(place.uri, pa.Table.from_pylist(whole, schema=schema), mode="append")
    [done] = cluster(DeltaTable(place.uri), "outcomes", is_requested=True)
    read = pq.ParquetFile(Path(place.uri, table_files.list_files(DeltaTable(place.uri))[0].path)).read().to_pylist()
    names = ("shard", "group_key", "event_id")
    expected = sorted((shard_of(key, SHARDS), key, f"e{part}") for key in KEYS for part in range(3))
    assert [tuple(row[name] for name in names) for row in read] == expected
    assert done.rows == 900


def test_the_query_s_lock_is_held_for_the_commit_alone_and_what_it_wrote_meanwhile_is_kept(events, small) -> None:
    events.append(2000)
    lock, held = threading.Lock(), []

    def look() -> bool:
        held.append(lock.locked())
        if len(held) == 2:
            with lock:
                events.append(7)
        return False

    class Writing:
        def __enter__(self) -> None:
            lock.acquire()
            self.version = events.table.version()

        def __exit__(self, *_: object) -> None:
            assert events.table.version() == self.version + 1
            lock.release()

    table = events.table
    cluster(table, "events", CommitGuard(Writing(), look), is_requested=True)
    assert len(held) > 10
    assert not any(held)
    assert len(events.rows()) == 2007
    assert [each.rows for each in table_files.list_files(events.table) if not each.is_clustered] == [7]


def test_a_checkpoint_of_the_log_that_falls_due_with_a_merge_is_made_without_the_lock(configured, monkeypatch) -> None:
    monkeypatch.setitem(delta.TABLE_PROPERTIES, "delta.checkpointInterval", "2")
    events = Events(configured())
    events.append(10)
    made = Path(events.place.uri, "_delta_log", f"{2:020}.checkpoint.parquet")

    class Writing:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            assert not made.exists()

    assert len(cluster(events.table, "events", CommitGuard(Writing(), lambda: False), is_requested=True)) == 1
    assert events.table.version() == 2
    assert made.exists()
    assert len(events.rows()) == 10


def test_an_interrupted_merge_and_one_that_a_crash_cut_off_leave_nothing_behind(events, small) -> None:
    events.append(2000)
    before, files, version = events.rows(), events.on_disk(), events.table.version()
    left = Path(events.place.uri, file_rewriting.WORK, "half.parquet")
    left.parent.mkdir()
    left.write_bytes(b"half a file")
    looks = iter([False, False, True])
    with pytest.raises(file_rewriting.RewriteInterrupted):
        cluster(events.table, "events", CommitGuard(UNGUARDED.lock, lambda: next(looks)), is_requested=True)
    assert (events.rows(), events.on_disk(), events.table.version()) == (before, files, version)
    assert not left.parent.exists()


def test_a_merge_one_of_whose_files_is_gone_when_it_is_committed_is_left_out(events, small) -> None:
    events.append(500)
    table, looked = events.table, []

    def look() -> bool:
        if not looked:
            looked.append(events.table.delete("batch_id <= 100"))
        return False

    assert cluster(table, "events", CommitGuard(UNGUARDED.lock, look), is_requested=True) == []
    assert len(events.rows()) == 400
    cluster(events.table, "events", is_requested=True)
    assert len(events.rows()) == 400


def test_rows_that_got_lost_on_the_way_are_an_error_and_change_nothing(events, small, monkeypatch) -> None:
    events.append(500)
    before, version = events.rows(), events.table.version()
    whole = external_sort.merge_sorted

    def lossy(*words: Any) -> Any:
        parts = whole(*words)
        next(parts)
        return parts

    monkeypatch.setattr(external_sort, "merge_sorted", lossy)
    with pytest.raises(StoreError, match="500 rows of 1 files became"):
        cluster(events.table, "events", is_requested=True)
    assert (events.rows(), events.table.version()) == (before, version)


def test_a_file_that_is_named_as_sorted_and_is_not_is_an_error(events, small) -> None:
    events.append(300)
    base = Path(events.place.uri)
    [path] = events.on_disk()
    log = base / "_delta_log" / f"{1:020}.json"
    other = str(Path(path).parent / f"{table_files.CLUSTERED}abc-00000.parquet")
    (base / path).rename(base / other)
    log.write_text(log.read_text().replace(path, other))
    events.append(3)
    with pytest.raises(StoreError, match="expected rows sorted by shard, group_key, event_time, event_id"):
        cluster(events.table, "events", is_requested=True)
    assert clustering.run_name(other) == "abc"
