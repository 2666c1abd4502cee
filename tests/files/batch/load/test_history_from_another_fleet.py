"""A fleet with another group, target or loss takes its history from the tables of the one before."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from batch.load import load
from schemas import tables
from spinney.core.config import Config, parse
from spinney.core.errors import ContractError
from spinney.local.trial.rows import open_rows, read_file_rows
from spinney.sources import ReadOptions
from spinney.storage.layout import FleetStore
from spinney.tables import delta

BEFORE = """\
[fleet]
group = ["shop"]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price"]
label_delay = "1h"
[fleet.columns]
shop = "bigint"
dept = "string"
price = "double"
cost = "decimal(10,2)"
at = "timestamp(ms)"
sold = "int"
[fleet.fields]
price = "after.price"
[kafka]
events = "sales"
[storage]
root = "{root}"
"""
ROWS = [
    {
        "sale": f"s{n}",
        "shop": n % 2,
        "dept": "NA" if n % 3 else "7",
        "at": 1_714_557_600_001 + n,
        "cost": 1.25,
        "sold": n,
    }
    | {"after": {"price": n / 4}}
    for n in range(6)
]
LATE = ('events = "sales"', 'events = "sales"\noutcomes = "sold"')


def config(root: Path, *edits: tuple[str, str]) -> Config:
    text = BEFORE.format(root=root)
    for before, after in edits:
        assert before in text
        text = text.replace(before, after, 1)
    return parse(text, "fleet.toml", {})


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The tables of a fleet whose events have their labels."""
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    load(config(tmp_path / "before"), str(tmp_path / "rows.jsonl"))
    return tmp_path / "before" / "tables"


def test_its_events_come_with_all_values_into_other_groups_names_and_shards(before: Path, tmp_path: Path) -> None:
    now = config(
        tmp_path / "now",
        ('group = ["shop"]', 'group = ["dept", "shop"]\nloss = "squared"\nshards = 4'),
        ('event_id = "sale"', 'event_id = "key"'),
        ('target = "sold"', 'target = "cost"'),
        ("[fleet.fields]", '[fleet.fields]\nkey = "after.key"'),
    )
    loaded = load(now, str(before / "events"))
    assert (loaded.added["events"], loaded.rejections.rejected) == (len(ROWS), 0)
    stored = {row["event_id"]: row for row in delta.read_table(FleetStore.of(now), tables.EVENTS).to_pylist()}
    for n, row in enumerate(ROWS):
        got = stored[row["sale"]]
        assert got["group_key"] == json.dumps([row["dept"], str(row["shop"])], separators=(",", ":"))
        assert got["event_time"] == datetime(2024, 5, 1, 10, 0, 0, 1_000 * (n + 1), UTC)
        assert (got["price"], got["cost"], got["sold"]) == (n / 4, Decimal("1.25"), n)


def test_try_reads_them_too(before: Path, tmp_path: Path) -> None:
    now = config(tmp_path / "now", ('label_delay = "1h"', 'label_delay = "0s"'))
    source = open_rows(now.record_schema, str(before / "events"), ReadOptions())
    assert sorted(read_file_rows(now.record_schema, source, '["1"]').frame["event_id"]) == ["s1", "s3", "s5"]


def test_late_labels_come_from_its_outcomes_while_the_group_has_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    load(config(tmp_path / "before", LATE), str(tmp_path / "rows.jsonl"))
    outcomes = str(tmp_path / "before" / "tables" / "outcomes")
    now = config(tmp_path / "now", LATE, ('target = "sold"', 'target = "sold"\nloss = "squared"'))
    loaded = load(now, outcomes, outcomes=True)
    assert (loaded.added["outcomes"], loaded.rejections.rejected) == (len(ROWS), 0)
    stored = delta.read_table(FleetStore.of(now), tables.OUTCOMES).to_pylist()
    assert {(row["group_key"], row["event_id"], row["label"]) for row in stored} == {
        (f'["{row["shop"]}"]', row["sale"], row["sold"]) for row in ROWS
    }
    other = config(tmp_path / "other", LATE, ('group = ["shop"]', 'group = ["dept"]'))
    with pytest.raises(ContractError, match="it lacks dept"):
        load(other, outcomes, outcomes=True)


def test_outcomes_without_the_charter_of_their_fleet_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    now = config(tmp_path / "before", LATE)
    load(now, str(tmp_path / "rows.jsonl"))
    (tmp_path / "before" / "tables" / "outcomes").rename(tmp_path / "outcomes")
    with pytest.raises(ContractError, match=r"with the fleet's charter\.json two folders above; got: "):
        load(now, str(tmp_path / "outcomes"), outcomes=True)
