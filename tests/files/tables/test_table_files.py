"""Which files of a table can hold rows of given groups, and that no other is opened."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction

from spinney.core.keys import encode, shard_of
from spinney.tables import delta
from spinney.tables.table_files import Bounds, GroupIndex, files_of_groups, read_groups

SHARDS = 8
SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("group_key", pa.string()),
        ("event_id", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("x", pa.float64()),
        ("ingested_on", pa.date32()),
    ]
)
START = datetime(2024, 5, 1, tzinfo=UTC)
DAY = date(2024, 5, 1)


def rows_of(keys: list[str], each: int, day: date = DAY) -> pa.Table:
    """So many rows of each key, sorted by shard, key and time."""
    order = sorted(keys, key=lambda key: (shard_of(key, SHARDS), key))
    rows = [
        (shard_of(key, SHARDS), key, f"e{at}", START + timedelta(minutes=at, microseconds=1), float(at), day)
        for key in order
        for at in range(each)
    ]
    return pa.table(list(zip(*rows, strict=True)), schema=SCHEMA)


class Table:
    """A table written file by file; stats: what the log says of a file."""

    def __init__(self, place: Path) -> None:
        self.place = place
        DeltaTable.create(str(place), Schema.from_arrow(SCHEMA), partition_by=["ingested_on"])

    def add(self, rows: pa.Table, name: str, stats: dict | None = None, row_group: int = 100) -> str:
        day = rows["ingested_on"][0].as_py()
        path = f"ingested_on={day}/{name}.parquet"
        (self.place / path).parent.mkdir(exist_ok=True)
        pq.write_table(rows.drop_columns(["ingested_on"]), self.place / path, row_group_size=row_group)
        if stats is None:
            least, greatest = {}, {}
            for column in ("shard", "group_key", "event_time"):
                ends = pc.min_max(rows[column]).as_py()
                least[column], greatest[column] = (_cut(ends[end]) for end in ("min", "max"))
            counts = dict.fromkeys(least, 0)
            stats = {"numRecords": len(rows), "minValues": least, "maxValues": greatest, "nullCount": counts}
        size, now = (self.place / path).stat().st_size, int(time.time() * 1000)
        action = AddAction(path, size, {"ingested_on": str(day)}, now, True, json.dumps(stats))
        DeltaTable(str(self.place)).create_write_transaction(
            [action], "append", Schema.from_arrow(SCHEMA), ["ingested_on"]
        )
        return path

    @property
    def now(self) -> DeltaTable:
        return DeltaTable(str(self.place))


def _cut(value: object) -> object:
    """A time as Spark's Delta writes it into the log: whole milliseconds, the rest cut off."""
    return f"{value:%Y-%m-%dT%H:%M:%S.}{value.microsecond // 1000:03}Z" if isinstance(value, datetime) else value


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "events")


@pytest.fixture
def keys() -> list[str]:
    return [encode([f"s{at:03}", "north"]) for at in range(200)]


def sorted_rows(rows: pa.Table) -> list[dict]:
    return sorted(rows.to_pylist(), key=lambda row: (row["group_key"], row["event_id"], row["ingested_on"]))


def test_only_files_that_can_hold_a_wanted_group_are_named_and_opened(table, keys) -> None:
    """Every other file is gone from the disk before the groups are read."""
    whole, held = rows_of(keys, 10), {}
    for shard in range(SHARDS):
        rows = whole.filter(pc.equal(whole["shard"], shard))
        for part in (rows.slice(0, 130), rows.slice(130)):
            path = table.add(part, f"part-{len(held)}")
            held[path] = set(part["group_key"].to_pylist())
    wanted = random.Random(7).sample(keys, 3)
    named = set(files_of_groups(table.now, wanted, SHARDS))
    assert named == {path for path, there in held.items() if there & set(wanted)}
    for path in set(held) - named:
        (table.place / path).unlink()
    found = read_groups(table.now, None, wanted, SHARDS)
    assert sorted_rows(found) == sorted_rows(whole.filter(pc.is_in(whole["group_key"], pa.array(wanted))))
    assert found.schema.names == SCHEMA.names


def test_only_row_groups_that_can_hold_a_wanted_group_are_read(table, keys) -> None:
    """The bytes of all others are overwritten before the group is read."""
    whole = rows_of(keys, 10)
    file = table.place / table.add(whole, "part-0", row_group=50)
    key = keys[117]
    footer, spoilt = pq.ParquetFile(file).metadata, 0
    with open(file, "r+b") as stream:
        for at in range(footer.num_row_groups):
            if key not in whole.slice(at * 50, 50)["group_key"].to_pylist():
                part = footer.row_group(at)
                if len(set(whole.slice(at * 50, 50)["shard"].to_pylist())) > 1:
                    continue
                for column in range(part.num_columns):
                    chunk = part.column(column)
                    stream.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
                    stream.write(b"\xff" * chunk.total_compressed_size)
                spoilt += 1
    assert spoilt > 25
    found = read_groups(table.now, ["event_id", "x"], [key], SHARDS)
    assert found.sort_by("x").to_pylist() == [{"event_id": f"e{at}", "x": float(at)} for at in range(10)]


def test_a_condition_on_time_or_partition_leaves_files_out_without_opening_them(table, keys) -> None:
    early = table.add(rows_of(keys[:3], 5), "early")
    late = table.add(rows_of(keys[:3], 5, DAY + timedelta(days=1)), "late")
    assert files_of_groups(table.now, keys[:1], SHARDS, ds.field("ingested_on") > DAY) == [late]
    # The greatest event_time is 1 µs after minute 4; the log says minute 4.
    end = START + timedelta(minutes=4)
    assert set(files_of_groups(table.now, keys[:1], SHARDS, ds.field("event_time") > end)) == {early, late}
    assert files_of_groups(table.now, keys[:1], SHARDS, ds.field("event_time") > end + timedelta(seconds=1)) == []
    found = read_groups(table.now, ["event_id", "ingested_on"], keys[:1], SHARDS, ds.field("event_time") > end)
    assert sorted(row["ingested_on"] for row in found.to_pylist()) == [DAY, DAY + timedelta(days=1)]
    assert set(found["event_id"].to_pylist()) == {"e4"}


def test_a_file_without_statistics_is_wanted_whatever_is_asked(table, keys) -> None:
    paths = [
        table.add(rows_of(keys[:2], 3), "none", stats={"numRecords": 6}),
        table.add(rows_of(keys[:2], 3), "half", stats={"numRecords": 6, "minValues": {"shard": 0}, "maxValues": {}}),
        table.add(rows_of(keys[:2], 3), "nothing", stats={}),
    ]
    assert sorted(files_of_groups(table.now, [keys[0]], SHARDS)) == sorted(paths)
    assert len(read_groups(table.now, None, [keys[0]], SHARDS)) == 9


LONG = encode(["x" * 40 + "m"])
ASTRAL = encode(["\U0001f600" * 20 + "m"])


@pytest.mark.parametrize("key", [LONG, ASTRAL])
@pytest.mark.parametrize("tie", ["", "\x7f", "\ufffd", "\U0010ffff"])
@pytest.mark.parametrize("by", ["code points", "UTF-16"])
def test_a_greatest_key_that_the_log_cut_off_still_covers_the_key(table, key, tie, by) -> None:
    """Spark's Delta keeps 32 characters of a text and may append a greater one; other writers only cut."""
    cut = key[:32] if by == "code points" else key.encode("utf-16-le")[:64].decode("utf-16-le", errors="ignore")
    shard = shard_of(key, SHARDS)
    row = {"shard": shard, "group_key": cut}
    stats = {"numRecords": 2, "minValues": row, "maxValues": {**row, "group_key": cut + tie}}
    path = table.add(rows_of([key], 2), "part-0", stats=stats)
    assert files_of_groups(table.now, [key], SHARDS) == [path]
    below = next(each for at in range(100) if shard_of(each := encode([f"a{at}"]), SHARDS) == shard)
    assert files_of_groups(table.now, [below], SHARDS) == []
    assert len(read_groups(table.now, None, [key], SHARDS)) == 2


def test_overlap_with_bounds_is_what_trying_every_key_gives() -> None:
    chance = random.Random(3)
    every = [encode([chance.choice("abcdefgh") * chance.randint(1, 3)]) for _ in range(60)]
    for _ in range(500):
        wanted = chance.sample(every, chance.randint(0, 6))
        shards, ends = sorted(chance.choices(range(SHARDS), k=2)), sorted(chance.choices(every, k=2))
        bounds = Bounds(*(None if chance.random() < 0.1 else each for each in (*shards, *ends)))
        tried = any(
            (bounds.first_shard is None or shard_of(key, SHARDS) >= bounds.first_shard)
            and (bounds.last_shard is None or shard_of(key, SHARDS) <= bounds.last_shard)
            and (bounds.first_key is None or key >= bounds.first_key)
            and (bounds.last_key is None or key <= bounds.last_key)
            for key in wanted
        )
        assert GroupIndex(wanted, SHARDS).overlaps(bounds) == tried


def test_of_no_groups_and_of_groups_that_are_not_there_nothing_is_read(table, keys) -> None:
    table.add(rows_of(keys[:5], 2), "part-0")
    for wanted in ([], [encode(["zz", "zz"])]):
        assert read_groups(table.now, ["group_key"], wanted, SHARDS).to_pylist() == []


def test_a_filter_by_a_column_without_statistics_finds_its_rows(table, keys) -> None:
    """Spark's Delta has none of a column behind the 32nd; deltalake's own dataset loses such rows."""
    table.add(rows_of(keys[:3], 5), "part-0")
    dataset = delta.open_dataset(table.now)
    for condition, rows in (
        (ds.field("x") > 3, 3),
        (ds.field("event_id") == "e1", 3),
        (ds.field("event_id").isin(["e1", "e2"]), 6),
        (~(ds.field("x") < 0.5), 12),
    ):
        assert dataset.to_table(filter=condition).num_rows == rows
