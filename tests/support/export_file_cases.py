"""Files as message brokers, databases and spreadsheets export them, with the rows that each gives, written by hand."""

from __future__ import annotations

import codecs
import gzip
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from file_cases import AT, CLASSIC, NOON, Case, Dead, Fleet, delta_table, folder_of, lines, parquet, text
from rare_file_cases import PLAIN_TYPES, plain_columns, plain_record, plain_row

from spinney.sources import ReadOptions, TextFormat

_HEADER = "store,id,at,x,sold"
_MAY_DAY = (NOON.date() - date(1970, 1, 1)).days
"""19,844 days from 1970 to 2024-05-01."""

_MIDNIGHT = datetime(2024, 5, 1, tzinfo=UTC)


def _csv(*rows: str, header: str = _HEADER, end: str = "\n") -> str:
    return "".join(f"{row}{end}" for row in (header, *rows))


def _options(**how: Any) -> ReadOptions:
    return ReadOptions(TextFormat(**how))


def _texts(files: Mapping[str, str | bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for name, content in files.items():
            place = folder / "hist" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / "hist"

    return write


def _pandas(folder: Path) -> Path:
    """As pandas writes a frame with an index, categories and integers with gaps."""
    frame = pd.DataFrame(
        {
            "store": pd.Categorical(["a", "b", "a"]),
            "id": pd.array([1, 2, 3], dtype="Int64"),
            "at": pd.Series([NOON] * 3).dt.tz_convert("Asia/Kolkata"),
            "x": pd.array([1.5, None, 2.5], dtype="Float64"),
            "n": pd.array([1, None, 3], dtype="Int32"),
            "flag": pd.array([True, None, False], dtype="boolean"),
            "note": pd.array(["NA", None, ""], dtype="string"),
            "sold": np.array([2, 3, 4], dtype=np.uint16),
        }
    ).set_index(pd.Index([7, 8, 9]))
    frame.to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def _evolved_delta(folder: Path) -> Path:
    """A table that got a column with its second commit, lost a row with its third, and has a wider type since."""
    place = str(folder / "table")
    write_deltalake(place, pa.table(plain_columns(2)), partition_by=["store"])
    write_deltalake(place, pa.table(plain_columns(2, id=["2", "3"], n=[7, None])), mode="append", schema_mode="merge")
    DeltaTable(place).delete("id = '1'")
    return folder / "table"


def _debezium(day: Any, amount: Any, **after: Any) -> dict[str, Any]:
    """With the schema beside the payload, as Kafka Connect's JSON converter writes it unless told otherwise."""
    values = {"id": 1, "store": "a", "amount": amount, "day": day, "sold": 2, **after}
    schema = {"type": "struct", "fields": [{"field": "after", "type": "struct"}], "optional": False}
    return {"schema": schema, "payload": {"before": None, "after": values, "op": "c", "ts_ms": 1_714_564_800_000}}


_CONNECT = Fleet(
    types={"at": "timestamp(d)"},
    fields={
        "id": "payload.after.id", "store": "payload.after.store", "x": "payload.after.amount",
        "sold": "payload.after.sold", "at": "payload.after.day",
    },
)  # fmt: skip
_DAYS = Fleet(types={"at": "timestamp(d)", "seen": "timestamp(d)"})
_TRACE = Fleet(
    fields={"store": "resource.service.name", "x": "attributes.http.duration", "note": "attributes.k.8s.pod"}
)
_SPANS = {
    "resource": [{"service.name": "a"}] * 2,
    "id": ["1", "2"],
    "at": [NOON] * 2,
    "attributes": [{"http.duration": 1.5, "k": {"8s.pod": "p"}}, {"http.duration": 2.5, "k": {"8s.pod": None}}],
    "sold": [2.0, 2.0],
}
_SPAN_ROWS = {"1": plain_row(note="p"), "2": plain_row(x=2.5)}
_LABELS = Fleet(fields={"flag": "labels.app.main", "note": "labels.app.kubernetes.io/part-of"})


def _maps(*rows: dict[str, str]) -> pa.Array:
    return pa.array([list(row.items()) for row in rows], pa.map_(pa.string(), pa.string()))


_LABEL_MAPS = plain_columns(
    3,
    labels=_maps(
        {"app.main": "true", "app.kubernetes.io/part-of": "q"}, {"app.kubernetes.io/part-of": "q", "app.main": "no"}, {}
    ),
)
_MONGO = Fleet(
    fields={"id": "_id.$oid", "at": "at.$date", "x": "x.$numberDecimal", "n": "n.$numberLong"},
)

EXPORT_FILE_CASES = (
    Case(
        "days since 1970, as Debezium writes dates, in an envelope with its schema",
        _CONNECT,
        lines(
            _debezium(_MAY_DAY, "12.50"),
            _debezium(str(_MAY_DAY - 1), "-3", id=2),
            _debezium(float(_MAY_DAY), 1, id=3),
            _debezium(_MAY_DAY + 0.5, "1", id=4),
            _debezium("2024-05-01", "1", id=5),
            _debezium(-1, "1", id=6),
            {"schema": {}, "payload": {"before": {"id": 7}, "after": None, "op": "d"}},
        ),
        {
            "1": plain_row(x=12.5, at=_MIDNIGHT),
            "2": plain_row(x=-3.0, at=_MIDNIGHT - timedelta(days=1)),
            "3": plain_row(x=1.0, at=_MIDNIGHT),
        },
        {"payload.after.store": "string", "payload.after.day": "timestamp(d)", "payload.after.amount": "double"},
        dead=(
            Dead("wrong_type", "at", 4, "a", rows=2),
            Dead("time_out_of_range", "at", 6, "a"),
            Dead("missing_field", "id", 7),
        ),
    ),
    Case(
        "days since 1970 at the ends of the calendar and beyond, in Parquet",
        _DAYS,
        parquet(
            plain_columns(
                5,
                at=pa.array([_MAY_DAY] * 5, pa.int32()),
                seen=pa.array([-719_162, 2_932_896, -719_163, 2_932_897, None], pa.int32()),
            )
        ),
        {
            "0": plain_row(at=_MIDNIGHT, seen=datetime(1, 1, 1, tzinfo=UTC)),
            "1": plain_row(at=_MIDNIGHT, seen=datetime(9999, 12, 31, tzinfo=UTC)),
            "4": plain_row(at=_MIDNIGHT),
        },
        {"at": "timestamp(d)"},
        dead=(Dead("wrong_type", "seen", 3, "a", rows=2),),
        features=("x", "seen"),
        also=frozenset("23"),
    ),
    Case(
        "days since 1970 in a column that has dates and times in Parquet",
        _DAYS,
        parquet(
            plain_columns(
                2,
                at=pa.array([_MIDNIGHT, _MIDNIGHT - timedelta(days=1)]),
                seen=pa.array([date(2024, 5, 1), None], pa.date32()),
            )
        ),
        {"0": plain_row(at=_MIDNIGHT, seen=_MIDNIGHT), "1": plain_row(at=_MIDNIGHT - timedelta(days=1))},
        {"at": "timestamp"},
        features=("x", "seen"),
    ),
    Case(
        "days since 1970 in a CSV, and a time of day among them",
        _DAYS,
        text("a.csv", _csv(f"a,1,{_MAY_DAY},1.5,2", f"a,2,{_MAY_DAY}.0,1.5,2", f"a,3,{_MAY_DAY}.25,1.5,2")),
        {"1": plain_row(at=_MIDNIGHT), "2": plain_row(at=_MIDNIGHT)},
        {"at": "timestamp(d)"},
        dead=(Dead("wrong_type", "at", 3, "a"),),
    ),
    *(
        Case(
            f"names with dots inside objects in {kind}, as OpenTelemetry has them",
            _TRACE,
            write,
            _SPAN_ROWS,
            {"resource.service.name": "string", "attributes.http.duration": "double"},
            features=("x", "note"),
        )
        for kind, write in (
            ("JSON lines", lines(*pa.table(_SPANS).set_column(2, "at", [[AT] * 2]).to_pylist())),
            ("Parquet", parquet(_SPANS)),
            ("Delta", delta_table(_SPANS)),
        )
    ),
    *(
        Case(
            f"names with dots as keys of maps in {kind}",
            _LABELS,
            write,
            {"0": plain_row(flag=True, note="q"), "1": plain_row(flag=False, note="q"), "2": plain_row()},
            PLAIN_TYPES | {"x": "double", "labels": None, "labels.app.kubernetes.io/part-of": "string"},
            features=("x", "flag", "note"),
        )
        for kind, write in (("Parquet", parquet(_LABEL_MAPS)), ("Delta", delta_table(_LABEL_MAPS)))
    ),
    Case(
        "a name with dots that several fields of an object may have",
        Fleet(fields={"note": "box.a.b"}),
        lines(
            plain_record(id="0", box={"a": {"b": "inside"}}),
            plain_record(id="1", box={"a.b": "whole", "a": {"b": "inside"}}),
            plain_record(id="2", box={"a": "text", "a.b": "whole"}),
            plain_record(id="3") | {"box.a": {"b": "outer"}},
            plain_record(id="4", box={"a": {}}) | {"box.a": {"b": "outer"}},
            plain_record(id="5", box={"a": {"b": "inside"}}) | {"box.a.b": None},
        ),
        {
            "0": plain_row(note="inside"), "1": plain_row(note="whole"), "2": plain_row(note="whole"),
            "3": plain_row(note="outer"), "4": plain_row(note="outer"), "5": plain_row(),
        },
        {**PLAIN_TYPES, "x": "double"},
        features=("x", "note"),
    ),
    Case(
        "a name with dots that two columns of Parquet may have",
        Fleet(fields={"note": "box.a.b"}),
        parquet(
            plain_columns(
                3,
                **{"box": [{"a": {"b": "inside"}}, {"a": None}, None], "box.a": [{"b": "outer"}, {"b": "outer"}, None]},
            )
        ),
        {"0": plain_row(note="inside"), "1": plain_row(note="outer"), "2": plain_row()},
        PLAIN_TYPES,
        features=("x", "note"),
    ),
    Case(
        "MongoDB's extended JSON",
        _MONGO,
        lines(
            *(
                {
                    "_id": {"$oid": f"64b7f0{n}"},
                    "store": "a",
                    "at": {"$date": "2024-05-01T12:00:00.000Z"},
                    "x": {"$numberDecimal": "1.5"},
                    "n": {"$numberLong": "9007199254740993"},
                    "sold": 2,
                }
                for n in range(2)
            ),
            {"_id": {"$oid": "x"}, "store": "a", "at": {"$date": {"$numberLong": "1714564800000"}}, "sold": 2},
        ),
        {f"64b7f0{n}": plain_row(n=9_007_199_254_740_993) for n in range(2)},
        {"_id.$oid": "string", "at.$date": "timestamp", "x.$numberDecimal": "double"},
        dead=(Dead("wrong_type", "at", 3, "a"),),
        features=("x", "n"),
    ),
    Case(
        "CloudEvents with nanoseconds, an offset, and an id of a number",
        Fleet(fields={"at": "time", "store": "data.shop", "x": "data.x", "sold": "data.sold"}),
        lines(
            *(
                {
                    "specversion": "1.0", "type": "sale", "source": "/till", "id": n,
                    "time": f"2024-05-01T17:30:00.00000{n}999+05:30", "datacontenttype": "application/json",
                    "data": {"shop": "a", "x": 1.5, "sold": "2"},
                }
                for n in range(2)
            )
        ),
        {"0": plain_row(), "1": plain_row(at=NOON + timedelta(microseconds=1))},
        {"data.shop": "string", "time": "timestamp", "data.x": "double"},
    ),
    Case(
        "names and texts spelled with escapes, in JSON",
        CLASSIC,
        lines(
            b'{"st\\u006fre": "K\\u00f6ln", "id": "\\ud83d\\ude00", "at": "2024-05-01T12:00:00Z", "x": 1.5, "sold": 2}',
            b'{"store": "a\\/b", "id": "2", "at": "2024-05-01T12:00:00Z", "x": 1.5, "note": "\\"q\\"", "sold": 2}',
            b'{"store": "a\\tb", "id": "3", "at": "2024-05-01T12:00:00Z", "x": 1.5, "sold": 2}',
        ),
        {"😀": plain_row(store="Köln"), "2": plain_row(store="a/b", note='"q"')},
        PLAIN_TYPES,
        dead=(Dead("control_character", "store", 3),),
        features=("x", "note"),
        also=frozenset(),
    ),
    Case(
        "numbers at the ends of their types, in JSON",
        Fleet(types={"n": "tinyint", "price": "decimal(4,1)", "x": "float"}),
        lines(
            plain_record(id="0", n=-128, price=-999.9, x=3.4028234663852886e38),
            plain_record(id="1", n=127.0, price="1e2", x=-0.0),
            plain_record(id="2", n=128),
            plain_record(id="3", price=1000),
            plain_record(id="4", price=0.05),
            plain_record(id="5", x=1e39),
            plain_record(id="6", n="-0"),
            plain_record(id="7", x=True),
        ),
        {
            "0": plain_row(n=-128, price=Decimal("-999.9"), x=3.4028234663852886e38),
            "1": plain_row(n=127, price=Decimal("100.0"), x=0.0),
            "6": plain_row(n=0),
        },
        {"store": "string"},
        dead=(
            Dead("wrong_type", "n", 3, "a"),
            Dead("wrong_type", "price", 4, "a", rows=2),
            Dead("not_finite", "x", 6, "a"),
            Dead("wrong_type", "x", 8, "a"),
        ),
        features=("x", "n", "price"),
        also=frozenset("2345"),
    ),
    Case(
        "keys that are booleans, in each form",
        Fleet(types={"store": "boolean"}),
        lines(*(plain_record(id=str(n), store=store) for n, store in enumerate([True, "false", 1, ""]))),
        {"0": plain_row(store=True), "1": plain_row(store=False), "2": plain_row(store=True)},
        {"store": "boolean"},
        dead=(Dead("null_key", "store", 4),),
    ),
    Case(
        "keys that are dates, of which one is before 1970",
        Fleet(types={"store": "date"}),
        parquet(plain_columns(3, store=pa.array([date(2024, 5, 1), date(1, 1, 1), None], pa.date32()))),
        {"0": plain_row(store=date(2024, 5, 1)), "1": plain_row(store=date(1, 1, 1))},
        {"store": "date"},
        dead=(Dead("null_key", "store", 3),),
    ),
    Case(
        "ranges of whole numbers and decimals, at their ends",
        Fleet(ranges={"n": "[0, 10]", "price": "[0.1, 0.3]"}),
        text(
            "a.csv",
            _csv(
                f"a,0,{AT},1.5,0,0.10,2", f"a,1,{AT},1.5,10,0.3,2", f"a,2,{AT},1.5,11,,2", f"a,3,{AT},1.5,,0.31,2",
                f"a,4,{AT},1.5,-1,,2", header="store,id,at,x,n,price,sold",
            ),
        ),
        {"0": plain_row(n=0, price=Decimal("0.10")), "1": plain_row(n=10, price=Decimal("0.30"))},
        PLAIN_TYPES | {"n": "bigint", "price": "double"},
        dead=(Dead("out_of_range", "n", 3, "a", rows=2), Dead("out_of_range", "price", 4, "a")),
        features=("x", "n", "price"),
        also=frozenset("234"),
    ),
    Case(
        "lines that end in carriage returns, with line breaks of both kinds in cells",
        CLASSIC,
        text("a.csv", 'store,id,at,x,note,sold\r' f'a,1,{AT},1.5,"one\ntwo",2\r' f'a,2,{AT},1.5,"one\r\ntwo",2\r'),
        {"1": plain_row(note="one\ntwo"), "2": plain_row(note="one\r\ntwo")},
        PLAIN_TYPES | {"x": "double"},
        features=("x", "note"),
    ),
    Case(
        "a header with line breaks, commas and quotes in its names",
        Fleet(fields={"store": "store\nno", "x": "x, net", "sold": 'sold "all"'}),
        text("a.csv", _csv(f"a,1,{AT},1.5,2", header='"store\nno",id,at,"x, net","sold ""all"""')),
        {"1": plain_row()},
        {"store\nno": "string", "x, net": "double"},
    ),
    Case(
        "UTF-16 with the greater byte first",
        CLASSIC,
        text("a.csv", codecs.BOM_UTF16_BE + _csv(f"Łódź,1,{AT},1.5,2").encode("utf-16-be")),
        {"1": plain_row(store="Łódź")},
        PLAIN_TYPES,
    ),
    Case(
        "an encoding by its name",
        CLASSIC,
        text("a.csv", _csv(f"東京,1,{AT},1.5,2").encode("shift_jis")),
        {"1": plain_row(store="東京")},
        PLAIN_TYPES,
        options=_options(encoding="shift_jis"),
    ),
    Case(
        "a delimiter that cannot be seen, as Hive writes it",
        CLASSIC,
        text("a.csv", _csv(f"a,1,{AT},1.5,2", 'a"b,2,2024-05-01T12:00:00Z,1.5,2').replace(",", "\x01")),
        {"1": plain_row(), "2": plain_row(store='a"b')},
        PLAIN_TYPES,
        options=_options(delimiter="\x01"),
    ),
    Case(
        "semicolons and decimal points",
        CLASSIC,
        text("a.csv", _csv(f"a,1,{AT},1.5,2", f"a,2,{AT},-0.25,3").replace(",", ";")),
        {"1": plain_row(), "2": plain_row(x=-0.25, sold=3.0)},
        PLAIN_TYPES | {"x": "double"},
    ),
    Case(
        "texts with semicolons and commas in a file with tabs",
        CLASSIC,
        text("a.tsv", _csv(f"a\t1\t{AT}\t1.5\tone; two, three\t2", header="store\tid\tat\tx\tnote\tsold")),
        {"1": plain_row(note="one; two, three")},
        PLAIN_TYPES,
        features=("x", "note"),
    ),
    Case(
        "whole numbers with fractions and exponents of zero in a CSV",
        CLASSIC,
        text(
            "a.csv",
            _csv(
                *(f"a,{n},{AT},1.5,{cell},2" for n, cell in enumerate(["3.0", "3.00", "2E1", "+4", "1.5"])),
                header="store,id,at,x,n,sold",
            ),
        ),
        {"0": plain_row(n=3), "1": plain_row(n=3), "2": plain_row(n=20), "3": plain_row(n=4)},
        PLAIN_TYPES | {"n": "double"},
        dead=(Dead("wrong_type", "n", 5, "a"),),
        features=("x", "n"),
        also=frozenset("4"),
    ),
    Case(
        "words of databases for nothing, which the configuration lists",
        Fleet(top='missing = ["", "\\\\N", "NULL"]'),
        text(
            "a.csv",
            _csv(
                *(f"a,1,{AT},\\N,q,2", f"NULL,2,{AT},1.5,q,2", f"a,3,{AT},null,q,2"),
                header="store,id,at,x,note,sold",
            ),
        ),
        {"1": {"store": "a", "note": "q", "sold": 2.0}},
        {},
        dead=(Dead("null_key", "store", 2), Dead("wrong_type", "x", 3, "a")),
        features=("x", "note"),
        also=frozenset("23"),
    ),
    Case(
        "CSV files of one folder with other delimiters, orders of columns and more columns",
        CLASSIC,
        _texts(
            {
                "a.csv": _csv(f"a,1,{AT},1.5,2"),
                "b.csv": f"sold;x;at;id;store;more\n2;2.5;{AT};2;b;z\n",
                "c.csv.gz": gzip.compress(_csv(f"a,3,{AT},1.5,2").encode()),
            }
        ),
        {"1": plain_row(), "2": plain_row(store="b", x=2.5), "3": plain_row()},
        PLAIN_TYPES | {"x": "double"},
        options=ReadOptions(missing_as_null=True),
    ),
    Case(
        "times, dates and booleans in paths",
        CLASSIC,
        folder_of(
            {
                "at=2024-05-01 12%3A00%3A00/flag=true/day=2024-05-01/a.parquet": {
                    "store": ["a"], "id": ["1"], "x": [1.5], "sold": [2.0],
                },
                "at=2024-05-01T14%3A00%3A00+02%3A00/flag=false/day=__HIVE_DEFAULT_PARTITION__/a.parquet": {
                    "store": ["a"], "id": ["2"], "x": [1.5], "sold": [2.0],
                },
            }
        ),
        {"1": plain_row(flag=True, day=date(2024, 5, 1)), "2": plain_row(flag=False)},
        PLAIN_TYPES | {"flag": "boolean", "day": "date"},
        features=("x", "flag", "day"),
    ),
    Case(
        "a Delta table whose columns and rows have changed",
        CLASSIC,
        _evolved_delta,
        {"0": plain_row(), "2": plain_row(n=7), "3": plain_row()},
        {"store": "string", "x": "double"},
        features=("x", "n"),
    ),
    Case(
        "numbers of other widths in each file of a folder",
        CLASSIC,
        folder_of(
            {
                "a.parquet": plain_columns(1, x=pa.array([3], pa.int8()), n=pa.array([1], pa.uint32())),
                "b.parquet": plain_columns(1, id=["1"], x=pa.array([2.5], pa.float32()), n=pa.array([2.0])),
                "c.parquet": plain_columns(1, id=["2"], x=pa.array([Decimal("0.1")]), n=pa.array([Decimal(3)])),
            }
        ),
        {"0": plain_row(x=3.0, n=1), "1": plain_row(x=2.5, n=2), "2": plain_row(x=0.1, n=3)},
        PLAIN_TYPES | {"x": "double", "sold": "double"},
        features=("x", "n"),
    ),
    Case(
        "files of a folder without rows, and with columns that are null in one of them",
        CLASSIC,
        folder_of(
            {
                "a.parquet": plain_columns(0),
                "b.parquet": plain_columns(1, note=pa.nulls(1)) | {"x": pa.nulls(1)},
                "c.parquet": plain_columns(1, id=["1"], note=["q"]),
            }
        ),
        {"0": {"store": "a", "sold": 2.0}, "1": plain_row(note="q")},
        PLAIN_TYPES | {"x": "double"},
        features=("x", "note"),
        options=ReadOptions(missing_as_null=True),
    ),
    Case(
        "a frame of pandas with an index, categories, gaps and another zone",
        CLASSIC,
        _pandas,
        {
            "1": plain_row(n=1, flag=True, note="NA"),
            "2": {"store": "b", "sold": 3.0},
            "3": plain_row(x=2.5, n=3, flag=False, note="", sold=4.0),
        },
        {"store": "string", "at": "timestamp", "x": "double", "__index_level_0__": None},
        features=("x", "n", "flag", "note"),
    ),
    Case(
        "objects in objects, of which one record lacks the outer one",
        Fleet(fields={"x": "a.b.c.x", "note": "a.b.tags"}),
        lines(
            *(plain_record(id=str(n)) | {"a": {"b": {"c": {"x": n + 0.5}}}} for n in range(2)),
            plain_record(id="2") | {"a": None},
            plain_record(id="3") | {"a": {"b": [1]}},
            plain_record(id="4") | {"a": {"b": {"tags": ["q"]}}},
        ),
        {"0": plain_row(x=0.5), "1": plain_row(), "2": {"store": "a", "sold": 2.0}, "3": {"store": "a", "sold": 2.0}},
        PLAIN_TYPES | {"a.b.c.x": "double"},
        dead=(Dead("wrong_type", "note", 5, "a"),),
        features=("x", "note"),
        also=frozenset("4"),
    ),
    Case(
        "texts of times with blanks before their offsets, and an offset of seconds",
        CLASSIC,
        text(
            "a.csv",
            _csv(
                f"a,1,{AT},1.5,2024-05-01 12:00:00 +0000,2", f"a,2,{AT},1.5,2024-05-01T14:00:00.5 +02:00,2",
                f"a,3,{AT},1.5,2024-05-01T12:00:00+00:00:00,2", header="store,id,at,x,seen,sold",
            ),
        ),
        {"1": plain_row(seen=NOON), "2": plain_row(seen=NOON + timedelta(milliseconds=500))},
        {},
        dead=(Dead("wrong_type", "seen", 3, "a"),),
        features=("x", "seen"),
        also=frozenset("3"),
    ),
    Case(
        "bytes that are texts of times and numbers, and dictionaries of them",
        CLASSIC,
        parquet(
            plain_columns(
                2,
                at=pa.array([AT.encode()] * 2, pa.binary()),
                x=pa.array(["1.5", "1.5"]).dictionary_encode(),
                n=pa.array([7, None], pa.int16()).dictionary_encode(),
                flag=pa.array(["true", None]).dictionary_encode(),
            )
        ),
        {"0": plain_row(n=7, flag=True), "1": plain_row()},
        PLAIN_TYPES | {"x": "double", "n": "bigint"},
        features=("x", "n", "flag"),
    ),
    Case(
        "epoch seconds with fractions as text, and milliseconds as decimals",
        Fleet(types={"at": "timestamp(s)", "seen": "timestamp(ms)"}),
        parquet(
            plain_columns(
                2,
                at=["1714564800", "1714564800.5"],
                seen=pa.array([Decimal("1714564800000.25"), None], pa.decimal128(20, 2)),
            )
        ),
        {
            "0": plain_row(seen=NOON + timedelta(microseconds=250)),
            "1": plain_row(at=NOON + timedelta(milliseconds=500)),
        },
        {"at": "timestamp(s)"},
        features=("x", "seen"),
    ),
)  # fmt: skip
