"""Files as people have them, with the rows that each gives, written by hand: the same by every way in."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake

from spinney.core.config import Config, parse
from spinney.sources import ReadOptions

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
CLASSIC_COLUMNS = {
    "store": "string", "x": "double", "n": "bigint", "flag": "boolean", "note": "string", "price": "decimal(10,2)",
    "day": "date", "seen": "timestamp", "sold": "double",
}  # fmt: skip


@dataclass(frozen=True)
class Fleet:
    """A configuration. types: of columns, where they are others than the usual ones. top: keys of `[fleet]`."""

    types: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, str] = field(default_factory=dict)
    top: str = ""

    def config(self, root: object, features: tuple[str, ...] = ("x",)) -> Config:
        columns = {**CLASSIC_COLUMNS, **self.types}
        tables = {"columns": columns, "fields": self.fields}
        sections = "".join(
            f"[fleet.{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
            for name, values in tables.items()
        )
        ranges = "[fleet.ranges]\n" + "".join(f"{name} = {value}\n" for name, value in self.ranges.items())
        text = f"""\
[fleet]
name = "stores"
group = ["store"]
parents = [[]]
event_id = "id"
event_time = "at"
target = "sold"
features = {json.dumps(features)}
label_delay = "0s"
{self.top}
{sections}{ranges}[kafka]
events = "stores.events"
[storage]
root = {json.dumps(str(root))}
[tracking]
mode = "off"
"""
        return parse(text, "fleet.toml", {})


@dataclass(frozen=True)
class Dead:
    """Rows that are rejected for one reason. row: the first one's number. group: of those whose group is known.

    is_unsplit: whether the row has too many or too few cells, so that no message is made of it.
    """

    reason: str
    field: str | None
    row: int
    group: str | None = None
    rows: int = 1
    is_unsplit: bool = False


@dataclass(frozen=True)
class Case:
    """What a file gives.

    write: makes the file or folder in a folder, returns it. rows: id → the columns that have a value, beside `at`,
    which is NOON unless it is said. dead: the rejected rows. features: the columns that the file has for `try`.
    proposed: field of the file → type that `init --from` proposes, None for none. also: ids of rows that the proposal
    takes and the fleet does not, since the proposal was made from them.
    """

    name: str
    fleet: Fleet
    write: Callable[[Path], Path]
    rows: Mapping[str, Mapping[str, Any]]
    proposed: Mapping[str, str | None]
    dead: tuple[Dead, ...] = ()
    features: tuple[str, ...] = ("x",)
    options: ReadOptions = field(default_factory=ReadOptions)
    also: frozenset[str] = frozenset()

    def expected(self, config: Config) -> dict[str, dict[str, Any]]:
        """Id → every column of the fleet."""
        nothing = dict.fromkeys(config.record_schema.event_columns)
        return {one: {**nothing, "id": one, "at": NOON, **values} for one, values in self.rows.items()}

    def chosen(self, config: Config) -> dict[str, str | None]:
        """Role → the column that has it, as the file calls it; None where the id is a hash of the row."""
        fields = config.fleet.fields
        return {
            "group": fields.get("store", "store"),
            "target": fields.get("sold", "sold"),
            "identity": None if fields.get("id") == "*" else fields.get("id", "id"),
            "time": fields.get("at", "at"),
        }


def text(name: str, content: str | bytes, encoding: str = "utf-8") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return folder / name

    return write


def lines(*objects: Any) -> Callable[[Path], Path]:
    """objects: bytes stand as they are."""
    return text("a.jsonl", b"\n".join(o if isinstance(o, bytes) else json.dumps(o).encode() for o in objects) + b"\n")


def parquet(columns: Mapping[str, pa.Array | list[Any]], **how: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pq.write_table(pa.table(dict(columns)), folder / "a.parquet", **how)
        return folder / "a.parquet"

    return write


def folder_of(files: Mapping[str, Mapping[str, Any]]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for name, columns in files.items():
            place = folder / "hist" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(dict(columns)), place)
        return folder / "hist"

    return write


def delta_table(columns: Mapping[str, Any], **how: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_deltalake(str(folder / "table"), pa.table(dict(columns)), **how)
        return folder / "table"

    return write


AT = "2024-05-01T12:00:00Z"
CLASSIC = Fleet()
STRICT = Fleet(top="coerce = false")
WHOLE_KEYS = Fleet(types={"store": "bigint"})
RANGED = Fleet(ranges={"x": "[0, 100]"})
EPOCH = Fleet(types={"at": "timestamp(ms)", "seen": "timestamp(us)"})
WORDS = Fleet(top='missing = ["", "n/a"]')
DEBEZIUM = Fleet(
    types={"at": "timestamp(us)"},
    fields={
        "id": "after.id", "store": "after.store", "x": "after.amount", "sold": "after.sold", "at": "after.updated",
        "n": "source.lsn",
    },
)  # fmt: skip
CLOUD_EVENTS = Fleet(fields={"at": "time", "store": "data.store", "x": "data.x", "sold": "data.sold"})
ODD_NAMES = Fleet(
    fields={"id": "Row ID", "store": "Store No.", "x": "temp.f", "note": "back`tick", "sold": 'sold "€"', "n": "größe"}
)
_ODD = ("Row ID", "Store No.", "at", "temp.f", "back`tick", 'sold "€"', "größe")
_OWN = {"store": "string", "id": "string", "at": "timestamp", "sold": "double"}

LOOKS_LIKE = ("NA", "007", "1e5", "True", "null")
ISO_FORMS = {
    "2024-05-01T10:00:00Z": datetime(2024, 5, 1, 10, tzinfo=UTC),
    "2024-05-01T10:00Z": datetime(2024, 5, 1, 10, tzinfo=UTC),
    "2024-05-01T10:00+02:00": datetime(2024, 5, 1, 8, tzinfo=UTC),
    "2024-05-01 10:00:00+00": datetime(2024, 5, 1, 10, tzinfo=UTC),
    "2024-05-01T10:00:00.123456-0030": datetime(2024, 5, 1, 10, 30, 0, 123456, UTC),
    "2024-05-01 10:00:00": datetime(2024, 5, 1, 10, tzinfo=UTC),
    "2024-05-01 10:00:00 UTC": datetime(2024, 5, 1, 10, tzinfo=UTC),
    "20240501T100000Z": datetime(2024, 5, 1, 10, tzinfo=UTC),
    "2016-01-01": datetime(2016, 1, 1, tzinfo=UTC),
    "2024-02-29T24:00:00Z": datetime(2024, 3, 1, tzinfo=UTC),
}


def _of_seconds(*seconds: float) -> pa.Array:
    return pa.array([int(each * 1_000_000) for each in seconds], pa.timestamp("us"))


_BOTH: dict[str, dict[str, list[Any]]] = {
    "store=007/n=3/a": {
        "store": ["007"] * 2, "n": [3, 3], "id": ["1", "2"], "at": [NOON] * 2, "x": [1.5] * 2, "sold": [1.0, 2.0],
    },
    "store=a%20b/n=__HIVE_DEFAULT_PARTITION__/a": {
        "store": ["a b"], "n": [None], "id": ["3"], "at": [NOON], "x": [2.5], "sold": [3.0],
    },
}  # fmt: skip


def _both_in_texts(ending: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for name, columns in _BOTH.items():
            rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            place = folder / "hist" / f"{name}.{ending}"
            place.parent.mkdir(parents=True)
            lines_of = [json.dumps(row, default=str) for row in rows]
            if ending == "csv":
                cells = (["" if value is None else str(value) for value in row.values()] for row in rows)
                lines_of = [",".join(columns), *map(",".join, cells)]
            place.write_text("\n".join(lines_of))
        return folder / "hist"

    return write


CASES = (
    Case(
        "semicolons, decimal commas and a byte order mark",
        CLASSIC,
        text("a.csv", codecs.BOM_UTF8 + f"store;id;at;x;n;sold\na;s1;{AT};1,5;2;3,25\nb;s2;{AT};-0,5e1;;4\n".encode()),
        {
            "s1": {"store": "a", "x": 1.5, "n": 2, "sold": 3.25},
            "s2": {"store": "b", "x": -5.0, "sold": 4.0},
        },
        {**_OWN, "x": "double", "n": "bigint"},
        features=("x", "n"),
    ),
    Case(
        "UTF-16 with tabs, quotes and line breaks in cells",
        CLASSIC,
        text("a.csv", f'store\tid\tat\tx\tnote\tsold\nKöln\ts1\t{AT}\t1\t"two\nlines, ""one"" cell"\t3\n', "utf-16"),
        {"s1": {"store": "Köln", "x": 1.0, "note": 'two\nlines, "one" cell', "sold": 3.0}},
        {**_OWN, "sold": "bigint"},
        features=("x", "note"),
    ),
    Case(
        "text that looks like gaps, numbers and truths",
        CLASSIC,
        text(
            "a.csv",
            "store,id,at,x,note,sold\n"
            + "".join(f"{each},{n},{AT},{n},{each},1.5\n" for n, each in enumerate(LOOKS_LIKE)),
        ),
        {str(n): {"store": each, "note": each, "x": float(n), "sold": 1.5} for n, each in enumerate(LOOKS_LIKE)},
        {**_OWN},
        features=("x", "note"),
    ),
    Case(
        "two quotes that nobody meant, and notes of many lines, in a CSV",
        CLASSIC,
        text(
            "a.csv",
            f'store,id,at,x,note,sold\na,s1,{AT},1.5,"Ann, Bob\nand Cy, too",1\na,s2,{AT},1.5,"new,1\n'
            f'a,s3,{AT},2.5,old,2\na,s4,{AT},2.5,"odd,2\na,s5,{AT},3.5,"1, 2\n3, 4",3\n',
        ),
        {
            "s1": {"store": "a", "x": 1.5, "note": "Ann, Bob\nand Cy, too", "sold": 1.0},
            "s5": {"store": "a", "x": 3.5, "note": "1, 2\n3, 4", "sold": 3.0},
        },
        {**_OWN, "x": "double", "sold": "bigint"},
        dead=(Dead("not_an_object", None, 2, is_unsplit=True),),
        features=("x", "note"),
    ),
    Case(
        "bad rows in the middle of a CSV",
        CLASSIC,
        text(
            "a.csv",
            f"store,id,at,x,sold\na,s1,{AT},1.5,1\na,s2,{AT},soon,1\na,s3,{AT}\nb,s4,{AT},2.5,2\n,s5,{AT},1,1\n"
            f"a,,{AT},1,1\nb,s7,,1,1\na,s8,{AT},1e400,1\n",
        ),
        {"s1": {"store": "a", "x": 1.5, "sold": 1.0}, "s4": {"store": "b", "x": 2.5, "sold": 2.0}},
        {**_OWN, "x": "string", "sold": "bigint"},
        dead=(
            Dead("wrong_type", "x", 2, "a"),
            Dead("not_an_object", None, 3, is_unsplit=True),
            Dead("null_key", "store", 5),
            Dead("missing_field", "id", 6, "a"),
            Dead("missing_field", "at", 7, "b"),
            Dead("not_finite", "x", 8, "a"),
        ),
        also=frozenset({"s2", "s8"}),
    ),
    Case(
        "words that are said to mean nothing",
        WORDS,
        text("a.csv", f"store,id,at,x,note,n,sold\nNA,s1,{AT},n/a,n/a,,1\nUS,s2,{AT},2,?,n/a,2\n"),
        {"s1": {"store": "NA", "sold": 1.0}, "s2": {"store": "US", "x": 2.0, "note": "?", "sold": 2.0}},
        {**_OWN, "x": "bigint", "sold": "bigint"},
        features=("x", "note"),
    ),
    Case(
        "whole numbers too long for a double, and zeros in front",
        CLASSIC,
        text("a.csv", f"store,id,at,x,n,sold\n07,0012,{AT},0.1,9007199254740993,1\n7,12,{AT},.5,-3.0,1\n"),
        {
            "0012": {"store": "07", "x": 0.1, "n": 9007199254740993, "sold": 1.0},
            "12": {"store": "7", "x": 0.5, "n": -3, "sold": 1.0},
        },
        {**_OWN, "x": "double", "n": "double", "sold": "bigint"},
        features=("x", "n"),
    ),
    Case(
        "lines that are no valid JSON, or no valid event",
        CLASSIC,
        lines(
            codecs.BOM_UTF8 + json.dumps({"store": "a", "id": "s1", "at": AT, "x": 1.5, "sold": 1}).encode(),
            b'{"store": "a", "id": "s2", "at": "2024-05-01T12:00:00Z", "x": NaN, "sold": 1}',
            b'{"store": "a", "id": "s\\ud83d", "at": "2024-05-01T12:00:00Z", "x": 1, "sold": 1}',
            b'{"store": "a", "id": "s4", "at": "2024-05-01T12:00:00Z", "x": 1, "x": 2, "sold": 1}',
            b"[1]",
            {"store": "a", "id": "s6", "at": 1714564800, "x": 1, "sold": 1},
            {"store": "a", "id": "s7", "at": AT, "x": True, "sold": 1},
            {"store": None, "id": "s8", "at": AT, "x": 1, "sold": 1},
            {"store": "b", "id": "s9", "at": AT, "x": None, "sold": 2.5, "extra": {"deep": [1]}},
        ),
        {"s1": {"store": "a", "x": 1.5, "sold": 1.0}, "s9": {"store": "b", "sold": 2.5}},
        {**_OWN, "x": "double"},
        dead=(
            Dead("not_json", None, 2),
            Dead("not_utf8", "id", 3, "a"),
            Dead("duplicate_field", None, 4),
            Dead("not_an_object", None, 5),
            Dead("wrong_type", "at", 6, "a"),
            Dead("wrong_type", "x", 7, "a"),
            Dead("null_key", "store", 8),
        ),
    ),
    Case(
        "Debezium's envelope with amounts as text",
        DEBEZIUM,
        lines(
            *(
                {
                    "before": None,
                    "after": {"id": n, "store": "a", "amount": amount, "sold": 2, "updated": 1_714_564_800_000_000 + n},
                    "source": {"lsn": lsn, "table": "sales"},
                    "op": "c",
                    "ts_ms": 1_714_564_800_500,
                }
                for n, (amount, lsn) in enumerate([("12.50", 33_961_088), ("-0.10", "33961089"), (None, None)])
            ),
            {"before": {"id": 0, "store": "a"}, "after": None, "op": "d", "ts_ms": 1_714_564_800_500},
        ),
        {
            "0": {"store": "a", "x": 12.5, "n": 33_961_088, "sold": 2.0, "at": NOON},
            "1": {"store": "a", "x": -0.1, "n": 33_961_089, "sold": 2.0, "at": NOON + timedelta(microseconds=1)},
            "2": {"store": "a", "sold": 2.0, "at": NOON + timedelta(microseconds=2)},
        },
        {
            "after.store": "string",
            "after.updated": "timestamp(us)",
            "after.amount": "double",
            "after.sold": "bigint",
            "source.table": "string",
            "op": "string",
            "ts_ms": "bigint",
        },
        dead=(Dead("missing_field", "id", 4),),
    ),
    Case(
        "whole numbers as text, as Debezium sends decimals that have no fraction",
        CLASSIC,
        lines(
            *(
                {"store": "007", "id": f"{n}", "at": AT, "x": f"{n}", "note": f"{n % 2}", "sold": f"{28418 + n}"}
                for n in range(24)
            )
        ),
        {f"{n}": {"store": "007", "x": float(n), "note": f"{n % 2}", "sold": 28418.0 + n} for n in range(24)},
        {"store": "string", "id": "string", "at": "timestamp", "note": "string", "sold": "double"},
        features=("x", "note"),
    ),
    Case(
        "CloudEvents",
        CLOUD_EVENTS,
        lines(
            *(
                {
                    "specversion": "1.0",
                    "type": "sale",
                    "source": f"/till/{n % 2}",
                    "id": f"e-{n}",
                    "time": "2024-05-01T14:00:00+02:00",
                    "data": {"store": "a", "x": n + 0.5, "sold": 1},
                }
                for n in range(3)
            )
        ),
        {f"e-{n}": {"store": "a", "x": n + 0.5, "sold": 1.0} for n in range(3)},
        {"data.store": "string", "id": "string", "time": "timestamp", "data.x": "double", "data.sold": "bigint"},
    ),
    Case(
        "values in another form",
        CLASSIC,
        lines(
            {"store": 7, "id": 1, "at": AT, "x": "12.50", "n": 3.0, "flag": "true", "price": "1.10", "sold": "3"},
            {"store": "7", "id": "2", "at": AT, "x": 4, "n": "4", "flag": False, "price": 2.5, "sold": 3},
            {"store": "7", "id": "3", "at": AT, "x": "", "n": "", "flag": "", "price": "", "sold": 1},
            {"store": "7", "id": "4", "at": AT, "x": 1, "n": 3.5, "flag": True, "price": 1, "sold": 1},
            {"store": "7", "id": "5", "at": AT, "x": 1, "n": 3, "flag": True, "price": "1.125", "sold": 1},
            {"store": 7.5, "id": "6", "at": AT, "x": 1, "n": 3, "flag": True, "price": 1, "sold": 1},
        ),
        {
            "1": {"store": "7", "x": 12.5, "n": 3, "flag": True, "price": Decimal("1.10"), "sold": 3.0},
            "2": {"store": "7", "x": 4.0, "n": 4, "flag": False, "price": Decimal("2.50"), "sold": 3.0},
            "3": {"store": "7", "sold": 1.0},
        },
        {**_OWN, "x": "double", "n": "double", "flag": "boolean", "price": "double", "sold": "bigint"},
        dead=(
            Dead("wrong_type", "n", 4, "7"),
            Dead("wrong_type", "price", 5, "7"),
            Dead("wrong_type", "store", 6),
        ),
        features=("x", "n", "flag", "price"),
        also=frozenset({"4", "5"}),
    ),
    Case(
        "values in another form where that is not allowed",
        STRICT,
        lines(
            {"store": "7", "id": "1", "at": AT, "x": 4, "n": 3, "flag": False, "price": 2.5, "sold": 3},
            {"store": 7, "id": "2", "at": AT, "x": 1, "n": 3, "sold": 1},
            {"store": "7", "id": "3", "at": AT, "x": "12.50", "n": 3, "sold": 1},
            {"store": "7", "id": "4", "at": AT, "x": 1, "n": 3.0, "sold": 1},
            {"store": "7", "id": "5", "at": AT, "x": 1, "n": 3, "flag": "true", "sold": 1},
            {"store": "7", "id": "6", "at": AT, "x": "", "n": "", "sold": 1},
        ),
        {
            "1": {"store": "7", "x": 4.0, "n": 3, "flag": False, "price": Decimal("2.50"), "sold": 3.0},
            "6": {"store": "7", "sold": 1.0},
        },
        {**_OWN, "store": "bigint", "x": "double", "sold": "bigint"},
        dead=(
            Dead("wrong_type", "store", 2),
            Dead("wrong_type", "x", 3, "7"),
            Dead("wrong_type", "n", 4, "7"),
            Dead("wrong_type", "flag", 5, "7"),
        ),
        features=("x", "n", "flag", "price"),
        also=frozenset({"2", "3", "4", "5"}),
    ),
    Case(
        "a CSV has no types, so no other form either",
        STRICT,
        text(
            "a.csv", f"store,id,at,x,n,flag,price,day,sold\n7,1,{AT},4,3,true,2.50,2024-05-01,3\n7,2,{AT},1,3.0,,,,1\n"
        ),
        {
            "1": {
                "store": "7",
                "x": 4.0,
                "n": 3,
                "flag": True,
                "price": Decimal("2.50"),
                "day": date(2024, 5, 1),
                "sold": 3.0,
            }
        },
        {"store": "bigint", "at": "timestamp", "n": "double", "sold": "bigint"},
        dead=(Dead("wrong_type", "n", 2, "7"),),
        features=("x", "n", "flag", "price", "day"),
        also=frozenset({"2"}),
    ),
    Case(
        "decimals, gaps that are NaN and numbers outside their range",
        RANGED,
        parquet(
            {
                "store": pa.array(["a"] * 5).dictionary_encode(),
                "id": ["1", "2", "3", "4", "5"],
                "at": [NOON] * 5,
                "x": pa.array([1.5, float("nan"), 100.0, 100.5, float("inf")]),
                "price": pa.array([Decimal("0.10"), None, Decimal(-7), None, None], pa.decimal128(12, 2)),
                "sold": pa.array([Decimal("1.25")] * 5, pa.decimal128(38, 6)),
            }
        ),
        {
            "1": {"store": "a", "x": 1.5, "price": Decimal("0.10"), "sold": 1.25},
            "2": {"store": "a", "sold": 1.25},
            "3": {"store": "a", "x": 100.0, "price": Decimal("-7.00"), "sold": 1.25},
        },
        {"store": "string", "id": "string", "at": "timestamp", "x": "double", "price": "double", "sold": "double"},
        dead=(Dead("out_of_range", "x", 4, "a"), Dead("not_finite", "x", 5, "a")),
        features=("x", "price"),
        also=frozenset({"4"}),
    ),
    Case(
        "keys that a gap has turned into floats",
        WHOLE_KEYS,
        parquet(
            {
                "store": pa.array([3.0, 7.0, float("nan"), None]),
                "id": [11, 12, 13, 14],
                "at": [NOON] * 4,
                "x": pa.array([1, 2, 3, 4], pa.uint8()),
                "y": pa.array([1.5, 2.5, None, None]),
                "sold": pa.array([1, 1, 1, 1], pa.float32()),
            }
        ),
        {"11": {"store": 3, "x": 1.0, "sold": 1.0}, "12": {"store": 7, "x": 2.0, "sold": 1.0}},
        {**_OWN, "store": "bigint", "y": "double"},
        dead=(Dead("null_key", "store", 3, rows=2),),
    ),
    Case(
        "whole keys as text with zeros in front",
        WHOLE_KEYS,
        text("a.csv", f"store,id,at,x,sold\n7,1,{AT},1.5,1\n007,2,{AT},1.5,1\n-8,3,{AT},1.5,1\n"),
        {"1": {"store": 7, "x": 1.5, "sold": 1.0}, "3": {"store": -8, "x": 1.5, "sold": 1.0}},
        {"store": "string", "at": "timestamp", "x": "double"},
        dead=(Dead("wrong_type", "store", 2),),
        also=frozenset({"2"}),
    ),
    Case(
        "times of 96 bits, and types that JSON does not have",
        CLASSIC,
        parquet(
            {
                "store": ["a", "a"],
                "id": ["1", "2"],
                "at": pa.array([NOON.replace(tzinfo=None), NOON.replace(tzinfo=None, year=2023)], pa.timestamp("us")),
                "x": [1.5, 2.5],
                "seen": pa.array([datetime(9999, 12, 31, 23, 59, 59), None], pa.timestamp("us")),  # noqa: DTZ001
                "clock": pa.array([time(1, 2), None], pa.time64("us")),
                "took": pa.array([timedelta(1), None], pa.duration("us")),
                "times": pa.array([[NOON], []], pa.list_(pa.timestamp("us", "UTC"))),
                "box": [{"a.b": 1, "c`d": b"\xff"}, None],
                "raw": [b"\xff", b""],
                "sold": [1.0, 2.0],
            },
            use_deprecated_int96_timestamps=True,
        ),
        {
            "1": {"store": "a", "x": 1.5, "seen": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "sold": 1.0},
            "2": {"store": "a", "x": 2.5, "at": NOON.replace(year=2023), "sold": 2.0},
        },
        {"store": "string", "id": "string", "at": "timestamp", "x": "double", "seen": "timestamp"},
        features=("x", "seen"),
    ),
    Case(
        "times at the ends of the calendar and beyond",
        CLASSIC,
        parquet(
            {
                "store": ["a"] * 5,
                "id": ["1", "2", "3", "4", "5"],
                "at": [NOON] * 5,
                "x": [1.5] * 5,
                "seen": _of_seconds(253_402_300_799, -62_135_596_800, 0, 253_402_300_800, -62_135_596_801),
                "day": pa.array([2_932_896, -719_162, 0, 1, 1], pa.date32()),
                "sold": [1.0] * 5,
            }
        ),
        {
            "1": {
                "store": "a",
                "x": 1.5,
                "sold": 1.0,
                "day": date(9999, 12, 31),
                "seen": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
            },
            "2": {
                "store": "a",
                "x": 1.5,
                "sold": 1.0,
                "day": date(1, 1, 1),
                "seen": datetime(1, 1, 1, tzinfo=UTC),
            },
            "3": {
                "store": "a",
                "x": 1.5,
                "sold": 1.0,
                "day": date(1970, 1, 1),
                "seen": datetime(1970, 1, 1, tzinfo=UTC),
            },
        },
        {**_OWN, "x": "double", "day": "date", "seen": "timestamp"},
        dead=(Dead("wrong_type", "seen", 4, "a", rows=2),),
        features=("x", "seen", "day"),
    ),
    Case(
        "texts of times at the ends of the calendar and beyond",
        CLASSIC,
        lines(
            *(
                {"store": "a", "id": str(n), "at": AT, "x": 1.5, "seen": seen, "day": day, "sold": 1}
                for n, (seen, day) in enumerate(
                    [
                        ("9999-12-31T23:59:59.999999Z", "9999-12-31"),
                        ("0001-01-01", "0001-01-01"),
                        ("9999-12-31T23:59:59-01:00", None),
                        (None, "0000-01-01"),
                        (None, "2023-02-29"),
                    ]
                )
            )
        ),
        {
            "0": {
                "store": "a",
                "x": 1.5,
                "sold": 1.0,
                "day": date(9999, 12, 31),
                "seen": datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
            },
            "1": {
                "store": "a",
                "x": 1.5,
                "sold": 1.0,
                "day": date(1, 1, 1),
                "seen": datetime(1, 1, 1, tzinfo=UTC),
            },
        },
        {"store": "string", "id": "string", "at": "timestamp", "x": "double"},
        dead=(Dead("wrong_type", "seen", 3, "a"), Dead("wrong_type", "day", 4, "a", rows=2)),
        features=("x", "seen", "day"),
        also=frozenset({"2", "3", "4"}),
    ),
    Case(
        "each form of ISO 8601",
        CLASSIC,
        text(
            "a.csv",
            "store,id,at,x,seen,sold\n"
            + "".join(f"a,s{n},{form},1.5,{form},1\n" for n, form in enumerate(ISO_FORMS))
            + f"a,bad,01.05.2024,1.5,{AT},1\n",
        ),
        {
            f"s{n}": {"store": "a", "at": at, "seen": at, "x": 1.5, "sold": 1.0}
            for n, at in enumerate(ISO_FORMS.values())
        },
        {},
        dead=(Dead("wrong_type", "at", 11, "a"),),
        features=("x", "seen"),
    ),
    Case(
        "numbers since 1970 in a CSV",
        EPOCH,
        text(
            "a.csv", "store,id,at,x,seen,sold\na,s1,1714564800000,1.5,1714564800000001,1\na,s2,1714564800500,1.5,,1\n"
        ),
        {
            "s1": {"store": "a", "x": 1.5, "seen": NOON + timedelta(microseconds=1), "sold": 1.0},
            "s2": {"store": "a", "x": 1.5, "at": NOON + timedelta(milliseconds=500), "sold": 1.0},
        },
        {"store": "string", "id": "string", "at": "timestamp(ms)", "x": "double", "sold": "bigint"},
        features=("x", "seen"),
    ),
    Case(
        "numbers since 1970 beside times in Parquet and JSON",
        EPOCH,
        parquet(
            {
                "store": ["a", "a"],
                "id": ["s1", "s2"],
                "at": pa.array([1_714_564_800_000, 1_714_564_800_500], pa.int64()),
                "x": [1.5, 1.5],
                "seen": pa.array([NOON + timedelta(microseconds=1), None], pa.timestamp("us", "Europe/Berlin")),
                "sold": [1, 1],
            }
        ),
        {
            "s1": {"store": "a", "x": 1.5, "seen": NOON + timedelta(microseconds=1), "sold": 1.0},
            "s2": {"store": "a", "x": 1.5, "at": NOON + timedelta(milliseconds=500), "sold": 1.0},
        },
        {"store": "string", "id": "string", "at": "timestamp(ms)", "x": "double", "sold": "bigint"},
        features=("x", "seen"),
    ),
    Case(
        "values in paths",
        CLASSIC,
        folder_of(
            {
                "store=007/n=3/a.parquet": {"id": ["1", "2"], "at": [NOON] * 2, "x": [1.5, None], "sold": [1.0, 2.0]},
                "store=a%2Fb/n=-4/a.parquet": {"id": ["3"], "at": [NOON], "x": [2.5], "sold": [3.0]},
                "store=NA/n=__HIVE_DEFAULT_PARTITION__/a.parquet": {
                    "id": ["4"],
                    "at": [NOON],
                    "x": [2.5],
                    "sold": [3.0],
                },
            }
        ),
        {
            "1": {"store": "007", "n": 3, "x": 1.5, "sold": 1.0},
            "2": {"store": "007", "n": 3, "sold": 2.0},
            "4": {"store": "NA", "x": 2.5, "sold": 3.0},
            "3": {"store": "a/b", "n": -4, "x": 2.5, "sold": 3.0},
        },
        {"store": "string", "id": "string", "at": "timestamp", "x": "double", "n": "bigint", "sold": "double"},
        features=("x", "n"),
    ),
    *(
        Case(
            f"values both in paths and in {kind}",
            CLASSIC,
            write,
            {
                "1": {"store": "007", "x": 1.5, "n": 3, "sold": 1.0},
                "2": {"store": "007", "x": 1.5, "n": 3, "sold": 2.0},
                "3": {"store": "a b", "x": 2.5, "sold": 3.0},
            },
            {"store": "string", "id": "string", "at": "timestamp", "x": "double", "n": "bigint"},
            features=("x", "n"),
        )
        for kind, write in (
            ("Parquet", folder_of({f"{name}.parquet": columns for name, columns in _BOTH.items()})),
            ("CSV", _both_in_texts("csv")),
            ("JSON lines", _both_in_texts("jsonl")),
        )
    ),
    Case(
        "values in paths where no other form is allowed",
        STRICT,
        folder_of(
            {
                "n=3/flag=true/price=1.50/day=2024-05-01/a.parquet": {
                    "store": ["a"],
                    "id": ["1"],
                    "at": [NOON],
                    "x": [1.5],
                    "sold": [1.0],
                },
                "n=03/flag=false/price=2/day=2024-05-02/a.parquet": {
                    "store": ["a"],
                    "id": ["2"],
                    "at": [NOON],
                    "x": [1.5],
                    "sold": [1.0],
                },
            }
        ),
        {
            "1": {
                "store": "a",
                "n": 3,
                "flag": True,
                "price": Decimal("1.50"),
                "day": date(2024, 5, 1),
                "x": 1.5,
                "sold": 1.0,
            }
        },
        {"store": "string", "flag": "boolean", "day": "date"},
        dead=(Dead("wrong_type", "n", 1, "a"),),
        features=("x", "n", "flag", "price", "day"),
        also=frozenset({"2"}),
    ),
    Case(
        "whole numbers in one file and fractions in the other",
        CLASSIC,
        folder_of(
            {
                "a.parquet": {"store": ["a"], "id": ["1"], "at": [NOON], "x": pa.array([3], pa.int64()), "sold": [1]},
                "b.parquet": {"store": ["a"], "id": ["2"], "at": [NOON], "x": [2.5], "sold": [1.5]},
            }
        ),
        {"1": {"store": "a", "x": 3.0, "sold": 1.0}, "2": {"store": "a", "x": 2.5, "sold": 1.5}},
        {"store": "string", "id": "string", "at": "timestamp", "x": "double", "sold": "double"},
    ),
    Case(
        "a column that one file lacks",
        CLASSIC,
        folder_of(
            {
                "a.parquet": {"store": ["a"], "id": ["1"], "at": [NOON], "sold": [1.0]},
                "b.parquet": {"sold": [1.5], "x": [2.5], "at": [NOON], "id": ["2"], "store": ["a"]},
            }
        ),
        {"1": {"store": "a", "sold": 1.0}, "2": {"store": "a", "x": 2.5, "sold": 1.5}},
        {"store": "string", "id": "string", "at": "timestamp", "x": "double", "sold": "double"},
        options=ReadOptions(missing_as_null=True),
    ),
    Case(
        "a Delta table with partitions",
        CLASSIC,
        delta_table(
            {
                "store": ["007", "b"],
                "id": [1, 2],
                "at": [NOON] * 2,
                "x": [1.5, np.nan],
                "price": pa.array([Decimal("1.10"), None], pa.decimal128(10, 2)),
                "sold": [1.0, 2.0],
            },
            partition_by=["store"],
        ),
        {
            "1": {"store": "007", "x": 1.5, "price": Decimal("1.10"), "sold": 1.0},
            "2": {"store": "b", "sold": 2.0},
        },
        {"store": "string", "at": "timestamp", "x": "double", "price": "double", "sold": "double"},
        features=("x", "price"),
    ),
    *(
        Case(
            f"names with spaces, dots, quotes and backticks in {kind}",
            ODD_NAMES,
            write,
            {one: {"store": "a", "x": 1.5, "note": "fine", "sold": 2.5, "n": 4} for one in ("r1", "r2")},
            {
                "Store No.": "string",
                "Row ID": "string",
                "at": "timestamp",
                "temp.f": "double",
                "back`tick": "string",
                'sold "€"': "double",
                "größe": "bigint",
            },
            features=("x", "note", "n"),
        )
        for kind, write in {
            "CSV": text(
                "a.csv",
                ",".join(f'"{each.replace(chr(34), chr(34) * 2)}"' for each in _ODD)
                + "".join(f"\nr{n},a,{AT},1.5,fine,2.5,4" for n in (1, 2)),
            ),
            "JSON lines": lines(
                *(dict(zip(_ODD, (one, "a", AT, 1.5, "fine", 2.5, 4), strict=True)) for one in ("r1", "r2"))
            ),
            "Parquet": parquet(
                dict(zip(_ODD, (["r1", "r2"], *([each] * 2 for each in ("a", NOON, 1.5, "fine", 2.5, 4))), strict=True))
            ),
        }.items()
    ),
)
