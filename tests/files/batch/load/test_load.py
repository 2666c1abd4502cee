"""`load` of Parquet and Delta: what is stored, against pandas; and without Spark."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from handwritten_history import fleet_toml

from batch.load import LoadProgress, deduplication, load, parquet_writer, spool
from schemas import tables
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.errors import ContractError
from spinney.storage.layout import FleetStore
from spinney.tables import delta

START = pd.Timestamp("2024-05-01", tz="UTC")
SHOPS = ["a", "b", 'q"uote', "back\\slash", "ü", "日本", "é" * 100, "z"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse(fleet_toml(tmp_path / "root", kafka='outcomes = "sold"'), "fleet.toml", {})


def history(rows: int, seed: int = 0) -> pd.DataFrame:
    """Every third id stands twice, in its own group and in another; many times are equal."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"shop": random.choice(SHOPS, rows), "dept": random.integers(-3, 3, rows).astype("int32")})
    frame["sale"] = [f"s{n}" for n in random.integers(0, rows, rows)]
    frame["at"] = START + pd.to_timedelta(random.integers(0, 50, rows), unit="h")
    frame["price"] = np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows))
    frame["sold"] = np.where(random.random(rows) < 0.3, np.nan, random.normal(size=rows))
    frame["prediction"] = np.where(random.random(rows) < 0.5, np.nan, random.normal(size=rows))
    return frame


def parquet(frame: pd.DataFrame, place: Path) -> str:
    frame.to_parquet(place, coerce_timestamps="us", index=False, row_group_size=700)
    return str(place)


def distinct(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each id in a group the row with the earliest time, of several the first in the file."""
    first = frame.sort_values("at", kind="stable").drop_duplicates(["shop", "dept", "sale"])
    key = [keys.encode([row.shop, row.dept]) for row in first.itertuples()]
    first = first.assign(group_key=key, shard=[keys.shard_of(each, 64) for each in key])
    return first.sort_values(["shard", "group_key", "at", "sale"]).reset_index(drop=True)


def stored(config: Config, base: Any) -> pd.DataFrame:
    """As the files have it, in their order."""
    table = delta.open_table(FleetStore.of(config).directory(base))
    assert table is not None
    found = [pq.read_table(uri.removeprefix("file://")) for uri in table.file_uris()]
    whole = pa.concat_tables(sorted(found, key=lambda part: part["shard"][0].as_py())) if found else None
    return pd.DataFrame() if whole is None else whole.to_pandas()


@pytest.fixture(params=["in memory", "by ranges of shards"])
def spilling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "in memory":
        monkeypatch.setattr(spool, "MEMORY_BYTES", 20_000)
        monkeypatch.setattr(spool, "RANGE_BYTES", 10_000)
        monkeypatch.setattr(parquet_writer, "FILE_ROWS", 300)
        monkeypatch.setattr(deduplication, "STORED_ROWS_PER_STEP", 100)


def test_each_event_its_label_and_its_old_answer_are_stored_once_and_sorted(
    config: Config, tmp_path: Path, spilling: None
) -> None:
    frame = history(3_000)
    source = parquet(frame, tmp_path / "history.parquet")
    shown: list[LoadProgress] = []
    wanted, labelled = distinct(frame), distinct(frame[frame["sold"].notna()])
    answered = wanted[wanted["prediction"].notna()]
    added = load(config, source, show=shown.append).added
    assert added == {
        "events": len(wanted), "incumbent": len(answered), "dead_letters": 0, "outcomes": len(labelled),
    }  # fmt: skip
    assert len(wanted) < len(frame)

    events = stored(config, tables.EVENTS)
    names = {"shop": "shop", "dept": "dept", "sale": "event_id", "at": "event_time", "price": "price"}
    names |= {"shard": "shard", "group_key": "group_key"}
    pd.testing.assert_frame_equal(
        events[list(names.values())], wanted[list(names)].rename(columns=names), check_dtype=False
    )
    assert set(events["topic"]) == {f"load:{source}"}
    assert frame["price"].iloc[events["kafka_offset"]].tolist() == pytest.approx(events["price"].tolist(), nan_ok=True)

    outcomes = stored(config, tables.OUTCOMES)
    assert outcomes["event_id"].tolist() == labelled["sale"].tolist()
    assert outcomes["label"].tolist() == labelled["sold"].tolist()
    late = labelled["at"] + config.fleet.label_delay
    assert outcomes["observed_at"].tolist() == late.tolist()

    incumbent = stored(config, tables.INCUMBENT).sort_values(["group_key", "event_id"])
    assert incumbent["prediction"].tolist() == answered.sort_values(["group_key", "sale"])["prediction"].tolist()
    assert {each.stage for each in shown} == {"read", "events", "incumbent", "outcomes"}
    assert not (tmp_path / "root" / "loading").exists()

    assert set(load(config, source).added.values()) == {0}
    longer = pd.concat([frame, history(500, seed=1).assign(sale=lambda rows: "new" + rows["sale"])])
    added = load(config, parquet(longer, tmp_path / "longer.parquet")).added
    assert added["events"] == len(distinct(longer)) - len(wanted)
    key = delta.read_table(FleetStore.of(config), tables.EVENTS, ["group_key", "event_id"]).to_pandas()
    assert len(key) == len(key.drop_duplicates()) == len(distinct(longer))


def test_files_are_cut_so_that_readers_of_one_group_skip_the_rest(config: Config, tmp_path: Path) -> None:
    rows = 45_000
    frame = history(rows).assign(sale=[f"s{n}" for n in range(rows)])
    load(config, parquet(frame, tmp_path / "history.parquet"))
    table = delta.open_table(FleetStore.of(config).directory(tables.EVENTS))
    assert table is not None
    (file,) = table.file_uris()
    metadata = pq.read_metadata(file.removeprefix("file://"))
    assert [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)] == [20_000, 20_000, 5_000]
    report = pa.table(table.get_add_actions(flatten=True)).to_pylist()[0]
    assert report["num_records"] == rows
    assert report["min.shard"] == min(keys.shard_of(keys.encode([s, d]), 64) for s in SHOPS for d in range(-3, 3))
    assert report["max.event_time"] == frame["at"].max()
    assert report["null_count.price"] == frame["price"].isna().sum()
    assert report["min.price"] == frame["price"].min()
    one = keys.encode(["a", 1])
    found = delta.read_table(FleetStore.of(config), tables.EVENTS, ["event_id"], pa.dataset.field("group_key") == one)
    mine = (frame["shop"] == "a") & (frame["dept"] == 1)
    assert sorted(found["event_id"].to_pylist()) == sorted(frame["sale"][mine])
    (commit,) = [each for each in table.history() if "userMetadata" in each]
    assert '"query":"load","step":"load","batch_id":0' in commit["userMetadata"]


def test_a_folder_of_files_and_a_partitioned_delta_table_are_read_whole(config: Config, tmp_path: Path) -> None:
    frame = history(1_000).assign(sale=[f"s{n}" for n in range(1_000)]).drop(columns=["sold", "prediction"])
    folder, place = tmp_path / "folder", str(tmp_path / "delta")
    folder.mkdir()
    for at in range(3):
        part = frame[at::3]
        part = part[part.columns[::-1]] if at == 1 else part  # the same columns in another order
        parquet(part, folder / f"{at}.parquet")
    (folder / "_SUCCESS").touch()
    assert load(config, str(folder)).added == {"events": 1_000, "dead_letters": 0}
    write_deltalake(place, pa.Table.from_pandas(frame), partition_by=["dept"])
    assert load(config, place).added == {"events": 0, "dead_letters": 0}
    more = frame.assign(sale=lambda rows: "more" + rows["sale"])
    write_deltalake(place, pa.Table.from_pandas(more), mode="append")
    assert load(config, place).added == {"events": 1_000, "dead_letters": 0}
    read = stored(config, tables.EVENTS)
    assert len(read) == 2_000 == read["event_id"].nunique()


ROW = {"shop": "a", "dept": 1, "sale": "s", "at": START, "price": 1.0}


def test_times_of_96_bits_are_points_in_time_however_far(config: Config, tmp_path: Path) -> None:
    """What Spark and Impala wrote for long; nanoseconds end in 2262, and pandas' own times with them."""
    text = config.text.replace('price = "double"', 'price = "double"\nseen = "timestamp"')
    far = datetime(2500, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    table = pa.table({**{name: [value] for name, value in ROW.items()}, "seen": [far]})
    pq.write_table(table, tmp_path / "old.parquet", use_deprecated_int96_timestamps=True)
    changed = parse(text, "fleet.toml", {})
    assert load(changed, str(tmp_path / "old.parquet")).added == {"events": 1, "dead_letters": 0}
    (row,) = delta.read_table(FleetStore.of(changed), tables.EVENTS, ["seen", "event_time"]).to_pylist()
    assert row == {"seen": far, "event_time": START.to_pydatetime()}


def test_a_damaged_file_is_named_and_nothing_of_it_is_stored(config: Config, tmp_path: Path) -> None:
    source = tmp_path / "damaged.parquet"
    parquet(history(20_000).drop(columns="sold"), source)
    content = bytearray(source.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4_000] = bytes(4_000)
    source.write_bytes(content)
    with pytest.raises(ContractError, match=r"load: .*damaged\.parquet: expected a Parquet file; .*Nothing was loaded"):
        load(config, str(source))
    assert stored(config, tables.EVENTS).empty


def test_a_load_that_was_killed_leaves_nothing_that_the_next_one_reads(config: Config, tmp_path: Path) -> None:
    left = tmp_path / "root" / "loading" / "events"
    left.mkdir(parents=True)
    (left / "0.arrow").write_bytes(b"half")
    source = parquet(pd.DataFrame([ROW]), tmp_path / "plain.parquet")
    assert load(config, source).added == {"events": 1, "dead_letters": 0}
    assert not left.exists()


def test_rows_without_an_id_are_distinguished_by_their_values_and_copies_are_counted_as_duplicates(
    tmp_path: Path,
) -> None:
    text = fleet_toml(tmp_path / "root").replace("[kafka]", '[fleet.fields]\nsale = "*"\n[kafka]')
    config = parse(text, "fleet.toml", {})
    frame = history(400).drop(columns=["sale", "prediction"])
    loaded = load(config, parquet(pd.concat([frame, frame.head(7)]), tmp_path / "a.parquet"))
    distinct_rows = len(frame.drop_duplicates())
    assert loaded.added["events"] == distinct_rows
    assert loaded.duplicates["events"] == len(frame) + 7 - distinct_rows
    assert load(config, parquet(frame, tmp_path / "b.parquet")).added["events"] == 0
