"""`produce`, `load` and the stream give the same late labels and reasons for the same file; each result by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from file_cases import lines, parquet, text
from new_tables import create_tables
from unvalidated_records import unvalidated

from batch.load import load
from schemas import messages, tables
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.records.rules import build_rules
from spinney.sources import ReadOptions
from spinney.sources.fleet_files import messages_of, open_fleet_file
from spinney.sources.rejections import Rejections
from spinney.sources.row_validation import valid_rows
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.ingest import stored_rows

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
Label = tuple[Any, Any, datetime]
"""Value of the group's column, the label, and when it was observed."""


@dataclass(frozen=True)
class Case:
    """A file of outcomes. labels: id → what is stored. dead: reason and column → rows. columns, fields: other ones."""

    name: str
    write: Callable[[Path], Path]
    labels: Mapping[str, Label]
    dead: Mapping[tuple[str, str | None], int] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    top: str = ""

    def config(self, root: Path) -> Config:
        columns = {"store": "string", "x": "double", "sold": "double", **self.columns}
        task = "" if columns["sold"] in ("double", "decimal(10,2)") else 'task = "classification"'
        tables = {"columns": columns, "fields": self.fields}
        sections = "".join(
            f"[fleet.{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
            for name, values in tables.items()
        )
        return parse(
            f"""\
[fleet]
group = ["store"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["x"]
{task}
{self.top}
{sections}[kafka]
events = "sales"
outcomes = "till"
[storage]
root = {json.dumps(str(root))}
""",
            "fleet.toml",
            {},
        )


_HEADER = "store,id,observed_at,sold"
_LATER = NOON + timedelta(hours=2)

CASES = (
    Case(
        "a CSV with texts that look like gaps and numbers",
        text(
            "a.csv",
            f"{_HEADER}\nNA,007,2024-05-01T12:00Z,1.5\n007,1e5,2024-05-01 14:00,2\na,3,2024-05-01T14:00+02:00,\n"
            "a,4,,1\n,5,2024-05-01,1\na,6,2024-05-01,many\na,7,1969-12-31,1\na,8,2999-01-01,1\n",
        ),
        {"007": ("NA", 1.5, NOON), "1e5": ("007", 2.0, _LATER)},
        {
            ("missing_field", "sold"): 1, ("missing_field", "observed_at"): 1, ("null_key", "store"): 1,
            ("wrong_type", "sold"): 1, ("time_out_of_range", "observed_at"): 2,
        },
    ),
    Case(
        "labels that are texts",
        text("a.csv", f"{_HEADER}\na,1,2024-05-01T12:00Z,NA\na,2,2024-05-01T12:00Z,true\na,3,2024-05-01T12:00Z,007\n"),
        {"1": ("a", "NA", NOON), "2": ("a", "true", NOON), "3": ("a", "007", NOON)},
        columns={"sold": "string"},
    ),
    Case(
        "labels that are booleans",
        lines(
            *(
                {"store": "a", "id": n, "observed_at": "2024-05-01T12:00:00Z", "sold": sold}
                for n, sold in enumerate([True, "false", 0, "Y", None, 2])
            )
        ),
        {"0": ("a", True, NOON), "1": ("a", False, NOON), "2": ("a", False, NOON), "3": ("a", True, NOON)},
        {("missing_field", "sold"): 1, ("wrong_type", "sold"): 1},
        columns={"sold": "boolean"},
    ),
    Case(
        "Debezium's envelope with milliseconds",
        lines(
            *(
                {"after": {"id": n, "shop": "a", "sold": sold}, "ts_ms": at}
                for n, (sold, at) in enumerate(
                    [("12.50", 1_714_564_800_000), ("-3", "1714572000000"), ("1.125", 1_714_564_800_000), ("1", None)]
                )
            ),
            {"before": {"id": 9}, "after": None, "ts_ms": 1_714_564_800_000},
        ),
        {"0": ("a", Decimal("12.50"), NOON), "1": ("a", Decimal("-3.00"), _LATER)},
        {("wrong_type", "sold"): 1, ("missing_field", "observed_at"): 1, ("missing_field", "id"): 1},
        columns={"sold": "decimal(10,2)", "observed_at": "timestamp(ms)"},
        fields={"id": "after.id", "store": "after.shop", "sold": "after.sold", "observed_at": "ts_ms"},
    ),
    Case(
        "days since 1970, and names with dots inside objects",
        lines(
            {"store": "a", "id": "1", "seen": 19_844, "data": {"net.total": 2.5}},
            {"store": "a", "id": "2", "seen": 19_844.5, "data": {"net.total": 2.5}},
            {"store": "a", "id": "3", "seen": 19_844, "data": {"net": {"total": 3}}},
            {"store": "a", "id": "4", "seen": 19_844, "data": {}},
        ),
        {"1": ("a", 2.5, NOON.replace(hour=0)), "3": ("a", 3.0, NOON.replace(hour=0))},
        {("wrong_type", "observed_at"): 1, ("missing_field", "sold"): 1},
        columns={"observed_at": "timestamp(d)"},
        fields={"sold": "data.net.total", "observed_at": "seen"},
    ),
    Case(
        "Parquet with decimals, nanoseconds, gaps and columns that are not declared",
        parquet(
            {
                "store": pa.array([7.0, 8.0, None, 7.5]),
                "id": pa.array([1, 2, 3, 4], pa.uint32()),
                "observed_at": pa.array([NOON, _LATER, NOON, NOON], pa.timestamp("ns", "Europe/Berlin")),
                "sold": pa.array([Decimal("1.10"), Decimal("2.20"), Decimal(0), Decimal(0)]),
                "took": pa.array([timedelta(1), None, None, None], pa.duration("us")),
            }
        ),
        {"1": (7, 1.1, NOON), "2": (8, 2.2, _LATER)},
        {("null_key", "store"): 1, ("wrong_type", "store"): 1},
        columns={"store": "bigint"},
    ),
    Case(
        "a CSV without other forms of values",
        text("a.csv", f"{_HEADER}\n7,1,2024-05-01T12:00Z,3\n7,2,2024-05-01T12:00Z, 3\n"),
        {"1": (7, 3.0, NOON), "2": (7, 3.0, NOON)},
        columns={"store": "bigint"},
        top="coerce = false",
    ),
)  # fmt: skip
of_each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def labels_of(stored: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Id → key of the group, type and value of the label, and when it was observed."""
    return {row["event_id"]: (row["group_key"], type(row["label"]), row["label"], row["observed_at"]) for row in stored}


def expected_labels(case: Case) -> dict[str, tuple[Any, ...]]:
    return {one: (keys.encode([store]), type(label), label, at) for one, (store, label, at) in case.labels.items()}


@of_each_case
def test_produce_sends_the_labels_that_are_expected_and_counts_the_others_by_reason(case: Case, tmp_path: Path) -> None:
    config = case.config(tmp_path / "root")
    rejections = Rejections()
    source = open_fleet_file(config.record_schema, case.write(tmp_path), ReadOptions(), outcomes=True)
    rows = list(valid_rows(source, build_rules(config.record_schema, messages.OUTCOME), rejections))
    names = ("store", "sold", "observed_at")
    assert {row.values["id"]: tuple(row.values[name] for name in names) for row in rows} == dict(case.labels)
    assert rejections.counts == dict(case.dead)


@of_each_case
def test_the_stream_stores_the_labels_that_are_expected_of_the_messages(case: Case, tmp_path: Path) -> None:
    config = case.config(tmp_path / "root")
    schema = config.record_schema
    source = open_fleet_file(schema, case.write(tmp_path), ReadOptions(), outcomes=True)
    rules = build_rules(schema, messages.OUTCOME)
    values = [value for batch in source.batches() for _, value in messages_of(batch, rules)]
    parts = stored_rows(schema, ()).of([unvalidated(values, "till", NOON + timedelta(days=1))])
    found = [(kind, row) for kind, rows in parts for row in rows.to_pylist()]
    assert labels_of([row for kind, row in found if kind == "outcome"]) == expected_labels(case)
    assert Counter((row["reason"], row["field"]) for kind, row in found if kind == "dead") == dict(case.dead)


@of_each_case
def test_load_stores_the_labels_that_are_expected_and_the_others_as_dead_letters(case: Case, tmp_path: Path) -> None:
    config = case.config(tmp_path / "root")
    store = FleetStore.of(config)
    create_tables(store)
    loaded = load(config, str(case.write(tmp_path)), outcomes=True)
    assert labels_of(delta.read_table(store, tables.OUTCOMES).to_pylist()) == expected_labels(case)
    assert loaded.rejections.counts == dict(case.dead)
    dead = delta.read_table(store, tables.DEAD_LETTERS, ["reason", "field"]).to_pylist()
    assert Counter((row["reason"], row["field"]) for row in dead) == dict(case.dead)
