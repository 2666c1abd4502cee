"""Files of the kinds that public bug reports and data packages show, with the rows that each gives, written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from file_cases import AT, CLASSIC, EPOCH, NOON, Case, Dead, Fleet, lines, parquet, text

from schemas.messages import MAX_RECORD_BYTES
from spinney.sources import ReadOptions, TextFormat

_TYPES = {"store": "string", "id": "string", "at": "timestamp"}


def _record(**values: Any) -> dict[str, Any]:
    return {"store": "a", "id": "1", "at": AT, "x": 1.5, "sold": 2} | values


_TWO = [_record(note="},{"), _record(id="2", x=-0.5)]
_TWO_ROWS = {
    "1": {"store": "a", "x": 1.5, "note": "},{", "sold": 2.0},
    "2": {"store": "a", "x": -0.5, "sold": 2.0},
}
_JSON_SPELLINGS = {
    "in an array": json.dumps(_TWO),
    "in an indented array": json.dumps(_TWO, indent=2),
    "indented, one after another": "\n".join(json.dumps(each, indent=1) for each in _TWO),
    "one after another in one line": "".join(map(json.dumps, _TWO)),
    "with a comma after each": "".join(f"{json.dumps(each)},\r\n" for each in _TWO),
    "with record separators before each": "".join(f"\x1e{json.dumps(each)}\n" for each in _TWO),
    "in lines that end in carriage returns": "".join(f"{json.dumps(each)}\r" for each in _TWO),
}

_AFTER = NOON + timedelta(microseconds=123_456)
_TIME_AS_ID = Fleet(fields={"id": "at"})
_SECONDS_AS_ID = Fleet(types={"at": "timestamp(s)"}, fields={"id": "at"})
_HASH_AS_ID = Fleet(fields={"id": "*"})
_SECONDS = Fleet(types={"at": "timestamp(s)", "seen": "timestamp(ns)"})


_FOUR = {"store": ["a"] * 4, "id": ["1", "2", "3", "4"], "x": [1.5] * 4, "sold": [2] * 4}
_YEARS = (
    (
        "a CSV",
        "timestamp(year)",
        text(
            "a.csv",
            "store,id,at,x,seen,sold\na,1,2013,1.5,0001,2\na,2, 2014,1.5,,2\na,3,1950,1.5,,2\na,4,2015,1.5,0,2\n",
        ),
    ),
    (
        "JSON",
        "timestamp(year)",
        lines(
            _record(at=2013, seen=1), _record(id="2", at="2014", seen=None), _record(id="3", at=1950),
            _record(id="4", at=2015.0, seen=2015.5),
        ),
    ),
    (
        "Parquet",
        "timestamp(year)",
        parquet(_FOUR | {"at": [2013, 2014, 1950, 2015], "seen": pa.array([1, None, None, 10_000], pa.int16())}),
    ),
    (
        "Parquet, as dates and times",
        "timestamp",
        parquet(
            _FOUR
            | {
                "at": pa.array([date(year, 1, 1) for year in (2013, 2014, 1950, 2015)]),
                "seen": pa.array([datetime(1, 1, 1), None, None, datetime(2015, 1, 1, 1)], pa.timestamp("us")),  # noqa: DTZ001
            }
        ),
    ),
)  # fmt: skip
"""Kind of file, type that is proposed for `at`, file."""


def _hash_of(text: str) -> str:
    """The id of a record without one. text: name, length and text of each value, in the order of the names."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def _options(**how: Any) -> ReadOptions:
    return ReadOptions(TextFormat(**how))


def _folder_with_an_empty_part(folder: Path) -> Path:
    (folder / "parts").mkdir()
    (folder / "parts" / "part-0.csv").write_text("")
    return text("parts/part-1.csv", f"store,id,at,x,sold\na,1,{AT},1.5,2\n")(folder).parent


def _parquet_with_a_column_twice(folder: Path) -> Path:
    columns = {"store": ["a"], "id": ["1"], "at": [NOON], "x": [1.5], "sold": [2.0]}
    names = ["extra", *columns, "extra"]
    pq.write_table(
        pa.table([pa.array([1]), *map(pa.array, columns.values()), pa.array(["2"])], names), folder / "a.parquet"
    )
    return folder / "a.parquet"


def _semicolons(content: str) -> Callable[[Path], Path]:
    return text("a.csv", content.replace(",", ";").replace("§", ","))


FOREIGN_CASES = (
    *(
        Case(f"JSON objects {how}", CLASSIC, text("a.json", spelled), _TWO_ROWS, {**_TYPES, "x": "double"})
        for how, spelled in _JSON_SPELLINGS.items()
    ),
    Case(
        "an array in UTF-16 with records that are not valid",
        CLASSIC,
        text("a.json", json.dumps([_record(store="Köln"), 7, {}], ensure_ascii=False), "utf-16"),
        {"1": {"store": "Köln", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
        dead=(Dead("not_an_object", None, 2), Dead("missing_field", "id", 3)),
    ),
    Case(
        "a line that names the delimiter, as Excel writes it",
        CLASSIC,
        text("a.csv", f'\ufeff"sep=;"\r\nstore;id;at;x;sold\r\na;1;{AT};1,5;2\r\n'),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
    ),
    Case(
        "comments above the header, and a header that begins like one",
        Fleet(fields={"store": "#store"}),
        text("a.csv", f"# made on 2024-05-01, by hand\n#\n#store,id,at,x,sold\na,1,{AT},1.5,2\n#b,2,{AT},1.5,2\n"),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}, "2": {"store": "#b", "x": 1.5, "sold": 2.0}},
        {"#store": "string", "x": "double"},
    ),
    Case(
        "a header and rows that begin like comments, above a row that does not",
        Fleet(fields={"store": "#store"}),
        text("a.csv", f"#store,id,at,x,sold\n#1001,1,{AT},1.5,2\n#1002,2,{AT},-0.5,2\nTotal,,,,4\n"),
        {"1": {"store": "#1001", "x": 1.5, "sold": 2.0}, "2": {"store": "#1002", "x": -0.5, "sold": 2.0}},
        {"#store": "string", "x": "double"},
        dead=(Dead("missing_field", "id", 3, "Total"),),
    ),
    Case(
        "comments with as many commas as the rows, and how many they are",
        CLASSIC,
        text("a.csv", f"# a, b, c, d, e\nstore,id,at,x,sold\na,1,{AT},1.5,2\n"),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
        options=_options(skip_lines=1),
    ),
    Case(
        "comments above a header, both between quotes and not",
        CLASSIC,
        text("a.csv", f'# rows: 2\n\nstore,id,at,x,sold\na,1,{AT},"1.5",2\n"#b",2,{AT},1.5,2\n'),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}, "2": {"store": "#b", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
    ),
    Case(
        "months, and times with the name of their zone, as Java writes them",
        CLASSIC,
        text("a.csv", "store,id,at,x,sold\na,1,2024-05,1.5,2\na,2,2024-05-01T14:00+02:00[Europe/Paris],1.5,2\n"),
        {
            "1": {"store": "a", "at": datetime(2024, 5, 1, tzinfo=UTC), "x": 1.5, "sold": 2.0},
            "2": {"store": "a", "x": 1.5, "sold": 2.0},
        },
        {"at": "timestamp", "x": "double"},
    ),
    Case(
        "blanks around cells, and dates without dashes",
        CLASSIC,
        text("a.csv", "store,id,at,x,sold\na,1,20240501, 1.5 , 2\na,2,20240430, -7,3 \n"),
        {
            "1": {"store": "a", "at": datetime(2024, 5, 1, tzinfo=UTC), "x": 1.5, "sold": 2.0},
            "2": {"store": "a", "at": datetime(2024, 4, 30, tzinfo=UTC), "x": -7.0, "sold": 3.0},
        },
        {"at": "timestamp", "x": "double", "sold": "bigint"},
    ),
    Case(
        "a title above the header",
        CLASSIC,
        text("a.csv", f'Sales, "all\r\n\r\nstore,id,at,x,sold\r\na,1,{AT},1.5,2\r\n'),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
        options=_options(skip_lines=1),
    ),
    Case(
        "a delimiter at the end of each row but the header",
        CLASSIC,
        text("a.csv", f"store,id,at,x,sold\na,1,{AT},1.5,2,\na,2,{AT},-0.5,2,\n"),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}, "2": {"store": "a", "x": -0.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
    ),
    Case(
        "numbers with commas between thousands",
        CLASSIC,
        text(
            "a.csv",
            f'store,id,at,x,n,note,sold\na,1,{AT},"1,234.5","1,234,567","1,000 m",2\n'
            f'a,2,{AT},0.5,"1,234,567",,"2,000"\n',
        ),
        {
            "1": {"store": "a", "x": 1234.5, "n": 1_234_567, "note": "1,000 m", "sold": 2.0},
            "2": {"store": "a", "x": 0.5, "n": 1_234_567, "sold": 2000.0},
        },
        {**_TYPES, "x": "double", "n": "bigint", "sold": "bigint"},
        features=("x", "n"),
        options=_options(thousands=","),
    ),
    Case(
        "numbers with blanks that do not break between thousands",
        CLASSIC,
        _semicolons(f"store,id,at,x,sold\na,1,{AT},1\u00a0234§5,2\na,2,{AT},-1\u202f000\u202f000,2\n"),
        {"1": {"store": "a", "x": 1234.5, "sold": 2.0}, "2": {"store": "a", "x": -1e6, "sold": 2.0}},
        {**_TYPES, "x": "double"},
        options=_options(thousands=" "),
    ),
    Case(
        "points that may separate thousands in a file with decimal commas",
        CLASSIC,
        _semicolons(f"store,id,at,x,note,sold\na,1,{AT},1§5,v1.2,2\na,2,{AT},1.234,,2\n"),
        {"1": {"store": "a", "x": 1.5, "note": "v1.2", "sold": 2.0}},
        {**_TYPES, "x": "double"},
        dead=(Dead("not_an_object", None, 2, is_unsplit=True),),
        options=_options(decimal=","),
    ),
    Case(
        "points between thousands in a file with decimal commas",
        CLASSIC,
        _semicolons(f"store,id,at,x,sold\na,1,{AT},1.234§5,2\na,2,{AT},1.234,2\na,3,{AT},1.5,2\na,4,{AT},0.123,2\n"),
        {"1": {"store": "a", "x": 1234.5, "sold": 2.0}, "2": {"store": "a", "x": 1234.0, "sold": 2.0}},
        {**_TYPES, "x": "double"},
        dead=(Dead("not_an_object", None, 3, rows=2, is_unsplit=True),),
        options=_options(thousands="."),
    ),
    Case(
        "booleans as databases and spreadsheets write them, in JSON",
        CLASSIC,
        lines(
            *(_record(id=str(n), flag=flag) for n, flag in enumerate([0, 1, 1.0, "t", "No", "YES", "0"])),
            _record(id="7", flag=2),
            _record(id="8", flag="on"),
        ),
        {
            str(n): {"store": "a", "x": 1.5, "flag": flag, "sold": 2.0}
            for n, flag in enumerate([False, True, True, True, False, True, False])
        },
        {**_TYPES, "x": "double"},
        dead=(Dead("wrong_type", "flag", 8, "a", rows=2),),
        features=("x", "flag"),
        also=frozenset({"7", "8"}),
    ),
    Case(
        "booleans as databases and spreadsheets write them, in a CSV",
        CLASSIC,
        text(
            "a.csv",
            "store,id,at,x,flag,sold\n"
            + "".join(f"a,{n},{AT},1.5,{flag},2\n" for n, flag in enumerate(["0", "1.0", "y", "N", " true ", "", "J"])),
        ),
        {
            str(n): {"store": "a", "x": 1.5, "sold": 2.0} | ({} if flag is None else {"flag": flag})
            for n, flag in enumerate([False, True, True, False, True, None])
        },
        {**_TYPES, "x": "double", "flag": "string"},
        dead=(Dead("wrong_type", "flag", 7, "a"),),
        features=("x", "flag"),
        also=frozenset({"6"}),
    ),
    Case(
        "a column twice in Parquet, which the fleet does not declare",
        CLASSIC,
        _parquet_with_a_column_twice,
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double", "extra": None},
    ),
    Case(
        "booleans that are numbers in Parquet",
        CLASSIC,
        parquet(
            {
                "store": ["a"] * 3,
                "id": ["1", "2", "3"],
                "at": [NOON] * 3,
                "x": [1.5] * 3,
                "flag": pa.array([1.0, 0.0, None]),
                "sold": [2.0] * 3,
            }
        ),
        {
            "1": {"store": "a", "x": 1.5, "flag": True, "sold": 2.0},
            "2": {"store": "a", "x": 1.5, "flag": False, "sold": 2.0},
            "3": {"store": "a", "x": 1.5, "sold": 2.0},
        },
        {**_TYPES, "x": "double", "flag": "double"},
        features=("x", "flag"),
    ),
    Case(
        "times as clocks in programs give them: seconds with many digits, and nanoseconds",
        _SECONDS,
        lines(
            _record(at=1714564800.1234567, seen=1714564800123456789),
            _record(id="2", at=1714564800, seen="1714564800000000999"),
        ),
        {
            "1": {"store": "a", "at": _AFTER, "seen": _AFTER, "x": 1.5, "sold": 2.0},
            "2": {"store": "a", "seen": NOON, "x": 1.5, "sold": 2.0},
        },
        {"store": "string", "id": "string", "at": "timestamp(s)", "x": "double"},
        features=("x", "seen"),
    ),
    Case(
        "times as numbers in Parquet: seconds as floats, and nanoseconds",
        _SECONDS,
        parquet(
            {
                "store": ["a", "a"],
                "id": [1.0, 2.0],
                "at": [1714564800.1234567, 1714564800.0],
                "x": [1.5, 1.5],
                "seen": pa.array([1714564800123456789, None]),
                "sold": [2, 2],
            }
        ),
        {
            "1": {"store": "a", "at": _AFTER, "seen": _AFTER, "x": 1.5, "sold": 2.0},
            "2": {"store": "a", "x": 1.5, "sold": 2.0},
        },
        {"store": "string", "id": "string", "at": "timestamp(s)", "x": "double"},
        features=("x", "seen"),
    ),
    Case(
        "milliseconds since 1970 with fractions and exponents in a CSV",
        EPOCH,
        text("a.csv", "store,id,at,x,sold\na,1,1714564800000.0009,1.5,2\na,2,1.7145648e12,1.5,2\na,3,-1,1.5,2\n"),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}, "2": {"store": "a", "x": 1.5, "sold": 2.0}},
        {},
        dead=(Dead("time_out_of_range", "at", 3, "a"),),
    ),
    *(
        Case(
            f"years alone in {kind}",
            Fleet(types={"at": "timestamp(year)", "seen": "timestamp(year)"}),
            write,
            {
                "1": {"store": "a", "at": datetime(2013, 1, 1, tzinfo=UTC), "x": 1.5, "sold": 2.0}
                | {"seen": datetime(1, 1, 1, tzinfo=UTC)},
                "2": {"store": "a", "at": datetime(2014, 1, 1, tzinfo=UTC), "x": 1.5, "sold": 2.0},
            },
            {"at": at, "x": "double"},
            dead=(Dead("time_out_of_range", "at", 3, "a"), Dead("wrong_type", "seen", 4, "a")),
            features=("x", "seen"),
            also=frozenset({"4"}),
        )
        for kind, at, write in _YEARS
    ),
    Case(
        "dates with slashes, and blanks around times",
        CLASSIC,
        text("a.csv", f"store,id,at,x,day,sold\na,1, 2024/05/01 12:00:00,1.5, 2024/05/31,2\na,2,{AT} ,1.5,,2\n"),
        {
            "1": {"store": "a", "x": 1.5, "day": date(2024, 5, 31), "sold": 2.0},
            "2": {"store": "a", "x": 1.5, "sold": 2.0},
        },
        {},
        features=("x", "day"),
    ),
    Case(
        "texts and ids that Parquet holds as bytes",
        CLASSIC,
        parquet(
            {
                "store": pa.array([b"K\xc3\xb6ln", b"a", None], pa.binary()),
                "note": pa.array([b"", b"\xf6", None], pa.binary()),
                "id": pa.array([b"1", b"2", b"3"], pa.large_binary()),
                "at": [NOON] * 3,
                "x": pa.array([b"1.5", b"1.5", b"1.5"]),
                "sold": [2, 2, 2],
            }
        ),
        {"1": {"store": "Köln", "x": 1.5, "note": "", "sold": 2.0}},
        {**_TYPES, "x": "double", "sold": "bigint"},
        dead=(Dead("not_utf8", "note", 2, "a"), Dead("null_key", "store", 3)),
        also=frozenset({"2"}),
    ),
    Case(
        "one row for each group and time, and no other id, in a CSV",
        _TIME_AS_ID,
        text("a.csv", f"store,at,x,sold\na,{AT},1.5,2\nb,2024-04-30,1.5,2\na,,1.5,2\n"),
        {
            AT: {"store": "a", "x": 1.5, "sold": 2.0},
            "2024-04-30": {"store": "b", "at": datetime(2024, 4, 30, tzinfo=UTC), "x": 1.5, "sold": 2.0},
        },
        {"store": "string", "x": "double"},
        dead=(Dead("missing_field", "id", 3, "a"),),
    ),
    Case(
        "one row for each group and time, and no other id, in Parquet",
        _TIME_AS_ID,
        parquet({"store": ["a", "b"], "at": [NOON, _AFTER], "x": [1.5, 1.5], "sold": [2.0, 2.0]}),
        {
            "2024-05-01T12:00:00Z": {"store": "a", "x": 1.5, "sold": 2.0},
            "2024-05-01T12:00:00.123456Z": {"store": "b", "at": _AFTER, "x": 1.5, "sold": 2.0},
        },
        {"store": "string", "x": "double"},
    ),
    Case(
        "one record for each group and number of seconds, and no other id, in JSON",
        _SECONDS_AS_ID,
        lines(*({"store": "a", "at": at, "x": 1.5, "sold": 2} for at in (1714564800, "1714564801"))),
        {
            "1714564800": {"store": "a", "x": 1.5, "sold": 2.0},
            "1714564801": {"store": "a", "at": NOON + timedelta(seconds=1), "x": 1.5, "sold": 2.0},
        },
        {"store": "string", "x": "double"},
    ),
    Case(
        "several rows for a group and time, and no id, in a CSV",
        _HASH_AS_ID,
        text("a.csv", f"store,at,x,sold\na,{AT},1.5,2\na,{AT},,2\n,{AT},1.5,2\n"),
        {
            _hash_of("at=16:1714564800000000sold=1:2store=1:ax=3:1.5"): {"store": "a", "x": 1.5, "sold": 2.0},
            _hash_of("at=16:1714564800000000sold=1:2store=1:a"): {"store": "a", "sold": 2.0},
        },
        {"store": "string", "x": "double"},
        dead=(Dead("null_key", "store", 3),),
    ),
    Case(
        "several records for a group and time, and no id, in JSON",
        _HASH_AS_ID,
        lines(*({"sold": 2.0, "x": x, "store": "a", "at": "2024-05-01 14:00+02"} for x in (1.5, "-0", 3e20))),
        {
            _hash_of("at=16:1714564800000000sold=1:2store=1:ax=3:1.5"): {"store": "a", "x": 1.5, "sold": 2.0},
            _hash_of("at=16:1714564800000000sold=1:2store=1:ax=1:0"): {"store": "a", "x": 0.0, "sold": 2.0},
            _hash_of("at=16:1714564800000000sold=1:2store=1:ax=5:3e+20"): {"store": "a", "x": 3e20, "sold": 2.0},
        },
        {"store": "string", "x": "double"},
    ),
    Case(
        "several rows for a group and time, and no id, in Parquet",
        _HASH_AS_ID,
        parquet(
            {
                "store": ["a", "a"],
                "at": [NOON, NOON],
                "x": [1.5, None],
                "price": pa.array([Decimal("1.50"), Decimal(20)], pa.decimal128(10, 2)),
                "day": pa.array([date(1970, 1, 11), None], pa.date32()),
                "flag": [True, False],
                "sold": pa.array([2, 2], pa.int32()),
            }
        ),
        {
            _hash_of("at=16:1714564800000000day=2:10flag=4:Trueprice=3:1.5sold=1:2store=1:ax=3:1.5"): {
                "store": "a",
                "x": 1.5,
                "price": Decimal("1.50"),
                "day": date(1970, 1, 11),
                "flag": True,
                "sold": 2.0,
            },
            _hash_of("at=16:1714564800000000flag=5:Falseprice=2:20sold=1:2store=1:a"): {
                "store": "a",
                "price": Decimal("20.00"),
                "flag": False,
                "sold": 2.0,
            },
        },
        {"store": "string", "x": "double"},
    ),
    Case(
        "texts of several lines that look like rows, and are none",
        Fleet(types={"store": "bigint"}),
        text(
            "a.csv", f'store,id,at,x,note,sold\n7,1,{AT},1,"1,2,3,4,5,6\n7,8,9,1,2,3\n4,5,6,7,8,9",2\n7,2,{AT},2,5,2\n'
        ),
        {
            "1": {"store": 7, "x": 1.0, "note": "1,2,3,4,5,6\n7,8,9,1,2,3\n4,5,6,7,8,9", "sold": 2.0},
            "2": {"store": 7, "x": 2.0, "note": "5", "sold": 2.0},
        },
        {"at": "timestamp", "sold": "bigint"},
        options=_options(multiline=True),
    ),
    Case(
        "quotes behind backslashes, as Spark writes them, and a path that ends in one",
        CLASSIC,
        text(
            "a.csv",
            f'store,id,at,x,note,sold\na,1,{AT},1.5,"5\\" pipe",2\na,2,{AT},1.5,"C:\\",2\na,3,{AT},1.5,K\\"oln,2\n'
            f'a,4,{AT},1.5,"the \\"red\\", one",2\n',
        ),
        {
            "2": {"store": "a", "x": 1.5, "note": "C:\\", "sold": 2.0},
            "3": {"store": "a", "x": 1.5, "note": 'K\\"oln', "sold": 2.0},
        },
        {**_TYPES, "x": "double", "sold": "bigint"},
        dead=(Dead("not_an_object", None, 1, rows=2, is_unsplit=True),),
        features=("x", "note"),
    ),
    Case(
        "quotes and backslashes behind backslashes, as Spark and MySQL write them",
        CLASSIC,
        text(
            "a.csv",
            f'store,"id",at,x,note,sold\na,1,{AT},1.5,"5\\" pipe",2\na,2,{AT},1.5,"C:\\\\",2\n'
            f'a,3,{AT},1.5,"the \\"red\\", C:\\new\nand",2\na,4,{AT},1.5,C:\\\\x,2\n',
        ),
        {
            "1": {"store": "a", "x": 1.5, "note": '5" pipe', "sold": 2.0},
            "2": {"store": "a", "x": 1.5, "note": "C:\\", "sold": 2.0},
            "3": {"store": "a", "x": 1.5, "note": 'the "red", C:\\new\nand', "sold": 2.0},
            "4": {"store": "a", "x": 1.5, "note": "C:\\\\x", "sold": 2.0},
        },
        {**_TYPES, "x": "double", "sold": "bigint"},
        features=("x", "note"),
    ),
    Case(
        "a text that is too long for a message, in a column that the fleet does not declare",
        CLASSIC,
        text("a.csv", f"store,id,at,x,sold,body\na,1,{AT},1.5,2,{'y' * MAX_RECORD_BYTES}\na,2,{AT},1.5,2,z\n"),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}, "2": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
    ),
    Case(
        "a folder with a file without any bytes",
        CLASSIC,
        _folder_with_an_empty_part,
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
    ),
    Case(
        "text with another ending than .csv",
        CLASSIC,
        text("a.txt", f"store|id|at|x|sold\na|1|{AT}|1.5|2\n"),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
    ),
)
