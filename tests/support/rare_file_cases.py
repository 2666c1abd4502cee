"""Files with values and names that few people have and any reader meets in the end, with the rows that each gives,
written by hand.
"""

from __future__ import annotations

import codecs
import json
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from file_cases import AT, CLASSIC, NOON, WHOLE_KEYS, Case, Dead, Fleet, folder_of, lines, parquet, text

from spinney.sources import ReadOptions, TextFormat

PLAIN_TYPES = {"store": "string", "id": "string", "at": "timestamp"}


def plain_row(**values: Any) -> dict[str, Any]:
    return {"store": "a", "x": 1.5, "sold": 2.0} | values


def plain_record(**values: Any) -> dict[str, Any]:
    return {"store": "a", "id": "1", "at": AT, "x": 1.5, "sold": 2} | values


def plain_columns(rows: int, **others: Any) -> dict[str, Any]:
    ids = [str(row) for row in range(rows)]
    return {"store": ["a"] * rows, "id": ids, "at": [NOON] * rows, "x": [1.5] * rows, "sold": [2.0] * rows} | others


def _decimals(scale: int, *numbers: object) -> pa.Array:
    """As Snowflake and Oracle write numbers."""
    found = [None if number is None else Decimal(str(number)) for number in numbers]
    return pa.array(found, pa.decimal128(38, scale))


_KEYS = ("a", "a ", " a", "A", "é", "e\u0301", "👩\u200d🚀", "\u00a0")
_FLOATS = {"+5": 5.0, ".5": 0.5, "5.": 5.0, " 7 ": 7.0, "1e5": 1e5, "-0": 0.0, "1e-400": 0.0}
_NO_FLOATS = ("1_000", "٣", "0x1F", "\u22125", "\t7", "5-", '"1,000"')
_NOT_FINITE = ("NaN", "inf", "1e400")
_TIMES = {
    "2024-05-01t10:00:00z": datetime(2024, 5, 1, 10, tzinfo=UTC),
    "2024-05-01T10:00:00-00:00": datetime(2024, 5, 1, 10, tzinfo=UTC),
    "2024-05-01T10": datetime(2024, 5, 1, 10, tzinfo=UTC),
    "2024-12-31T23:30-14:00": datetime(2025, 1, 1, 13, 30, tzinfo=UTC),
    "1969-12-31T23:59:59.999999999Z": datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
}
_NO_TIMES = (
    *("2024-W18-3", "2024-122", "2016-12-31T23:59:60Z", "10000-01-01", "+002024-05-01", "2024-05-01T24:00:01Z"),
    *("2024-05-01T10:00[Europe/Berlin]", "2024-05-01T10:00:00 EST", "2024-05-01T10:00+25:00", "01/05/2024"),
)
_NAMES = (
    *("group_key", "_spinney_x", "select", "load.group", "a.b", 'q"uote', "new\nline", "back`tick", "STORE", "shard"),
    *("label", "event_time", "*", "\x7f", "$set", "ключ", "e\u0301", "\u200b", "true"),
)

RARE_CASES = (
    Case(
        "keys that differ in blanks, case and composition",
        CLASSIC,
        text("a.csv", "store,id,at,x,sold\n" + "".join(f"{key},{n},{AT},1.5,2\n" for n, key in enumerate(_KEYS))),
        {str(n): plain_row(store=key) for n, key in enumerate(_KEYS)},
        {"store": "string"},
    ),
    Case(
        "numbers in notations of other programs",
        CLASSIC,
        text(
            "a.csv",
            "store,id,at,x,sold\n"
            + "".join(f"a,{n},{AT},{x},2\n" for n, x in enumerate((*_FLOATS, *_NO_FLOATS, *_NOT_FINITE))),
        ),
        {str(n): plain_row(x=x) for n, x in enumerate(_FLOATS.values())},
        {},
        dead=(
            Dead("wrong_type", "x", len(_FLOATS) + 1, "a", rows=len(_NO_FLOATS)),
            Dead("not_finite", "x", len(_FLOATS) + len(_NO_FLOATS) + 1, "a", rows=len(_NOT_FINITE)),
        ),
        also=frozenset(str(n) for n in range(len(_FLOATS), len(_FLOATS) + len(_NO_FLOATS) + len(_NOT_FINITE))),
    ),
    Case(
        "times in rare forms, and what is none of them",
        CLASSIC,
        text(
            "a.csv",
            "store,id,at,x,seen,sold\n"
            + "".join(f"a,{n},{AT},1.5,{seen},2\n" for n, seen in enumerate((*_TIMES, *_NO_TIMES))),
        ),
        {str(n): plain_row(seen=at) for n, at in enumerate(_TIMES.values())},
        {},
        dead=(Dead("wrong_type", "seen", len(_TIMES) + 1, "a", rows=len(_NO_TIMES)),),
        features=("x", "seen"),
        also=frozenset(str(n) for n in range(len(_TIMES), len(_TIMES) + len(_NO_TIMES))),
    ),
    Case(
        "zeros in front of whole keys that have a fraction or an exponent",
        WHOLE_KEYS,
        text("a.csv", f"store,id,at,x,sold\n7,1,{AT},1.5,2\n007.0,2,{AT},1.5,2\n07e0,3,{AT},1.5,2\n"),
        {"1": plain_row(store=7)},
        {},
        dead=(Dead("wrong_type", "store", 2, rows=2),),
        also=frozenset("23"),
    ),
    Case(
        "names that other programs reserve, in columns that the fleet does not declare",
        CLASSIC,
        lines(*(plain_record(id=str(n)) | {name: n % 2 + at for at, name in enumerate(_NAMES)} for n in range(3))),
        {str(n): plain_row() for n in range(3)},
        {**PLAIN_TYPES, "*": None},
    ),
    Case(
        "a name that is half of a surrogate pair, in a column that the fleet does not declare",
        CLASSIC,
        lines(*(json.dumps(plain_record(id=str(n)) | {"\ud83d": n % 2}).encode() for n in range(3))),
        {str(n): plain_row() for n in range(3)},
        {**PLAIN_TYPES, "\ud83d": None},
    ),
    Case(
        "a record of another shape for each of several fields",
        Fleet(fields={"note": "box.tag"}),
        lines(
            *(plain_record(id=str(n), box={"tag": "q"}) for n in range(4)),
            plain_record(id="4", box="none"),
            plain_record(id="5", store=["a"]),
            plain_record(id="6", x={"y": 1}),
            plain_record(id="7", at=1714564800),
        ),
        {**{str(n): plain_row(note="q") for n in range(4)}, "4": plain_row()},
        {**PLAIN_TYPES, "x": "double", "box": None, "box.tag": "string"},
        dead=(Dead("wrong_type", "store", 6), Dead("wrong_type", "x", 7, "a"), Dead("wrong_type", "at", 8, "a")),
        features=("x", "note"),
    ),
    Case(
        "texts of which one is not UTF-8, as Parquet writes texts and bytes",
        CLASSIC,
        parquet(
            plain_columns(3)
            | {
                "store": pa.array([b"a", b"a", b"\xff"]),
                "note": pa.array([b"q", b"\xc3", b"q"]).view(pa.string()),
            }
        ),
        {"0": plain_row(note="q")},
        {"store": "string", "note": "string"},
        dead=(Dead("not_utf8", "note", 2, "a"), Dead("not_utf8", "store", 3)),
        features=("x", "note"),
    ),
    Case(
        "JSON lines with a byte order mark and a name for the encoding",
        CLASSIC,
        text(
            "a.jsonl",
            codecs.BOM_UTF8 + json.dumps(plain_record(store="Köln"), ensure_ascii=False).encode() + b'\n{"\xff"\n',
        ),
        {"1": plain_row(store="Köln")},
        PLAIN_TYPES,
        dead=(Dead("not_utf8", None, 2),),
        options=ReadOptions(TextFormat(encoding="utf-8")),
    ),
    Case(
        "numbers as databases without integers write them",
        CLASSIC,
        parquet(
            plain_columns(3)
            | {
                "id": _decimals(0, 10**20, 2, 3),
                "x": _decimals(10, 1.5, 1.5, 1.5),
                "n": _decimals(0, 7, None, 2**63),
                "price": _decimals(10, "1.23", "1.2300000001", None),
                "tier": _decimals(0, 1, 2, None),
                "sold": _decimals(0, 2, 2, 2),
            }
        ),
        {str(10**20): plain_row(n=7, price=Decimal("1.23"))},
        {"x": "double", "n": "double", "price": "double", "tier": "bigint", "sold": "bigint"},
        dead=(Dead("wrong_type", "price", 2, "a"), Dead("wrong_type", "n", 3, "a")),
        features=("x", "n", "price"),
        also=frozenset("23"),
    ),
    Case(
        "integers without a sign beyond those with one, some of them nanoseconds",
        Fleet(types={"seen": "timestamp(ns)"}),
        parquet(
            plain_columns(3)
            | {
                "id": pa.array([2**64 - 1, 1, 2], pa.uint64()),
                "n": pa.array([2**64 - 1, 2**63 - 1, 0], pa.uint64()),
                "seen": pa.array([0, 2**63, 2**64 - 1], pa.uint64()),
            }
        ),
        {
            "1": plain_row(n=2**63 - 1, seen=datetime(2262, 4, 11, 23, 47, 16, 854_775, UTC)),
            "2": plain_row(n=0, seen=datetime(2554, 7, 21, 23, 34, 33, 709_551, UTC)),
        },
        {"id": "string", "n": None},
        dead=(Dead("wrong_type", "n", 1, "a"),),
        features=("x", "n", "seen"),
        also=frozenset({str(2**64 - 1)}),
    ),
    Case(
        "times of day, durations and times beyond the calendar in columns of text",
        Fleet(types={"took": "string", "until": "string"}),
        parquet(
            plain_columns(3)
            | {
                "note": pa.array([time(1, 2, 3), None, None]),
                "took": pa.array([None, timedelta(1), None], pa.duration("us")),
                "until": pa.array([None, None, 253_402_300_800], pa.int64()).cast(pa.timestamp("s", "UTC")),
            }
        ),
        {"0": plain_row(note="01:02:03")},
        {"took": None, "until": None},
        dead=(Dead("wrong_type", "took", 2, "a"), Dead("wrong_type", "until", 3, "a")),
        features=("x", "note", "took", "until"),
        also=frozenset("12"),
    ),
    Case(
        "times in a zone that nobody knows",
        CLASSIC,
        parquet(
            plain_columns(2)
            | {
                "at": pa.array([NOON] * 2, pa.timestamp("us", "Z")),
                "seen": pa.array([NOON, None], pa.timestamp("ms", "Mars/Phobos")),
            }
        ),
        {"0": plain_row(seen=NOON), "1": plain_row()},
        {"at": "timestamp", "seen": "timestamp"},
        features=("x", "seen"),
    ),
    Case(
        "lists and durations of another type in each file",
        CLASSIC,
        folder_of(
            {
                "a.parquet": plain_columns(
                    1, tags=pa.array([[]], pa.list_(pa.null())), took=pa.array([1], pa.duration("us"))
                ),
                "b.parquet": plain_columns(1, tags=[["q"]], took=pa.array([1], pa.duration("ns")), id=["1"]),
            }
        ),
        {"0": plain_row(), "1": plain_row()},
        {**PLAIN_TYPES, "tags": None, "took": None},
    ),
    Case(
        "lists of a fixed size with gaps, which Arrow does not read from Parquet",
        CLASSIC,
        parquet(plain_columns(2) | {"vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))}),
        {"0": plain_row(), "1": plain_row()},
        {"vector": None},
    ),
)
