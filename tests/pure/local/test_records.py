from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spinney.core.config import Config, parse
from spinney.core.errors import ContractError
from spinney.local.records import count, json_value, record, rows

CONFIG = """\
[fleet]
group = ["shop", "floor"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["price"]
columns = { shop = "string", floor = "int", price = "double", sold = "int", opened = "date" }
[kafka]
events = "sales"
[storage]
root = "work/sales"
"""
NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def config() -> Config:
    return parse(CONFIG, "fleet.toml", {})


@pytest.mark.parametrize(
    ("value", "declared", "written"),
    [
        (1.5, "double", 1.5),
        (float("nan"), "double", None),
        (None, "double", None),
        (3.0, "int", 3),
        (3.5, "int", 3.5),
        (True, "boolean", True),
        (NOON, "timestamp", "2024-05-01T12:00:00Z"),
        (NOON.replace(tzinfo=None), "timestamp", "2024-05-01T12:00:00Z"),
        (NOON.astimezone(timezone(timedelta(hours=2))), None, "2024-05-01T12:00:00Z"),
        ("2024-05-01 14:00:00+02:00", "timestamp", "2024-05-01T12:00:00Z"),
        ("2024-05-01T12:00:00", "timestamp", "2024-05-01T12:00:00Z"),
        ("soon", "timestamp", "soon"),
        ("2024-05-01T12:00:00", "string", "2024-05-01T12:00:00"),
        (date(2024, 5, 1), "date", "2024-05-01"),
        (Decimal("2.50"), "decimal(9,2)", 2.5),
        (Decimal(7), "decimal(9,2)", 7),
    ],
)
def test_a_value_is_written_as_json_has_it(value: Any, declared: str | None, written: Any) -> None:
    found = json_value(value, declared)
    assert (found, type(found)) == (written, type(written))


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), b"bytes"])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        json_value(value, "double")


def test_a_record_is_keyed_by_its_group_and_holds_every_field(config: Config) -> None:
    row = {"id": "a", "at": NOON, "shop": "Köln", "floor": 2, "price": float("nan"), "more": "x"}
    found = record(row, config, "at")
    assert found.key == '["Köln","2"]'.encode()
    assert json.loads(found.value) == {
        "id": "a",
        "at": "2024-05-01T12:00:00Z",
        "shop": "Köln",
        "floor": 2,
        "price": None,
        "more": "x",
    }
    assert found.time == NOON


def test_a_float_from_pandas_is_the_integer_it_was(config: Config) -> None:
    assert record({"shop": None, "floor": 2.0}, config, "at").key == b'[null,"2"]'


def test_a_row_of_wrong_types_is_sent_for_the_stream_to_reject(config: Config) -> None:
    found = record({"shop": 5, "floor": [1], "at": "soon"}, config, "at")
    assert found.key == b'["5","[1]"]'
    assert json.loads(found.value) == {"shop": 5, "floor": [1], "at": "soon"}
    assert found.time is None


def test_a_row_without_its_group_is_refused(config: Config) -> None:
    with pytest.raises(ContractError, match="column floor: expected in every row"):
        record({"shop": "a"}, config, "at")


def test_an_infinite_number_inside_a_list_is_refused(config: Config) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        record({"shop": "a", "floor": 1, "more": [float("inf")]}, config, "at")


def test_parquet_csv_and_json_lines_give_the_same_records(config: Config, tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["1", "2"],
            "at": pa.array([NOON, NOON + timedelta(minutes=1)], pa.timestamp("us", tz="UTC")),
            "shop": ["007", None],
            "floor": pa.array([1, 2], pa.int32()),
            "price": [1.5, None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(
        "id,at,shop,floor,price\n1,2024-05-01T12:00:00Z,007,1,1.5\n2,2024-05-01 12:01:00,,2,\n"
    )
    lines = [
        {"id": "1", "at": "2024-05-01T12:00:00Z", "shop": "007", "floor": 1, "price": 1.5},
        {"id": "2", "at": "2024-05-01T12:01:00Z", "shop": None, "floor": 2, "price": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    found = [
        [record(row, config, "at") for row in rows(tmp_path / f"a.{kind}", config)]
        for kind in ("parquet", "csv", "jsonl")
    ]
    assert found[0] == found[1] == found[2]
    assert [json.loads(each.value) for each in found[0]] == lines
    assert count(tmp_path / "a.parquet") == 2
    assert count(tmp_path / "a.csv") is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "ends in"),
        ("a.parquet", "no", "expected parquet"),
        ("a.csv", "shop,floor\na,x\n", "expected csv"),
        ("a.jsonl", '{"a": 1}\nno\n', r"a\.jsonl:2: expected a JSON object"),
        ("a.jsonl", "[1]\n", "got a list"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(
    config: Config, tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ContractError, match=words):
        list(rows(tmp_path / name, config))


def test_a_file_that_is_not_there_is_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="there is none"):
        list(rows(tmp_path / "a.csv", config))
