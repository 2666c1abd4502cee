"""What each kind of file gives, by hand: values, row numbers, what is assumed, what is refused."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from spinney.core.errors import ContractError
from spinney.sources import ColumnSelection, ReadOptions, RowBatch, TextFormat, open_source, python_values
from spinney.sources.sample import read_sample

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def read(place: Path, options: ReadOptions | None = None) -> list[dict[str, Any]]:
    return [
        dict(row) for batch in batches(place, options) if batch.columns for row in python_values.to_rows(batch.columns)
    ]


def batches(place: Path, options: ReadOptions | None = None) -> list[RowBatch]:
    return list(open_source(place, options).batches())


def wanted(*names: str, required: tuple[str, ...] = (), only: bool = True) -> ReadOptions:
    return ReadOptions(selection=ColumnSelection(names, frozenset(required), only))


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"a,b\n007,NA\n1e5,null\n", [{"a": "007", "b": "NA"}, {"a": "1e5", "b": "null"}]),
        (b"a,b\r\n1,\r\n", [{"a": "1", "b": ""}]),
        (codecs.BOM_UTF8 + b"a;b\n1,5;x\n", [{"a": "1.5", "b": "x"}]),
        ("a\tb\nä\tß\n".encode("utf-16"), [{"a": "ä", "b": "ß"}]),
        (b'a|b\n"x\ny"|"say ""hi"""\n', [{"a": "x\ny", "b": 'say "hi"'}]),
        (b'a,b\n"1,5",2\n', [{"a": "1,5", "b": "2"}]),
        (b"a;b\n1,5;2.5\n", [{"a": "1,5", "b": "2.5"}]),
        (b"a;b\n-1,5e3;1.234,5\n", [{"a": "-1.5e3", "b": "1.234,5"}]),
        (b",a,a\n0,1,2\n", [{"Unnamed: 0": "0"}]),
        (b"x,x,x.1,,Unnamed: 3\n1,2,3,4,5\n", [{"x.1": "3", "Unnamed: 3.1": "4", "Unnamed: 3": "5"}]),
        (b"\n\r\n\na,b\n1,2\n", [{"a": "1", "b": "2"}]),
        ("\na,b\n1,2\n".encode("utf-16"), [{"a": "1", "b": "2"}]),
        ("a\u2028b,c\x0cd,e\x85\n1,2,3\n".encode(), [{"a\u2028b": "1", "c\x0cd": "2", "e\x85": "3"}]),
        (b"a,b\r1,2\r", [{"a": "1", "b": "2"}]),
        (b"a,b\n", []),
        ("a,b\nKöln,1\n".encode("cp1252"), [{"a": "Köln", "b": "1"}]),
    ],
    ids=[
        "what looks like numbers and gaps stays text",
        "an empty cell is empty text",
        "a byte order mark and semicolons",
        "UTF-16 and tabs",
        "line breaks and quotes in quotes",
        "a comma in quotes is no decimal mark without semicolons",
        "two marks are no detection",
        "thousands stay as they are",
        "a column without a name; those that share one are left out",
        "a name of the header goes before a number for another column",
        "blank lines before the header",
        "a blank line in UTF-16",
        "characters that end lines only for Python",
        "the line breaks of old Macs",
        "no rows",
        "Windows' letters",
    ],
)
def test_every_cell_of_a_csv_is_its_text(tmp_path: Path, content: bytes, rows: list[dict[str, str]]) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert read(tmp_path / "a.csv") == rows


def test_columns_that_share_a_name_are_noted_since_they_could_not_be_selected(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,x,x\n0,1,2\n")
    note = "column x: left out, since several columns have this name. Rename them in the file to use them"
    assert note in open_source(tmp_path / "a.csv").notes
    with pytest.raises(ContractError, match="column x: expected once; the file has 2 of this name"):
        read(tmp_path / "a.csv", wanted("x"))


@pytest.mark.parametrize(
    ("given", "content", "rows"),
    [
        (TextFormat.parse("tab", None, None), b"a,b\tc\n1,5\t2\n", [{"a,b": "1,5", "c": "2"}]),
        (TextFormat.parse(None, None, ","), b'a,b\n"1,5",x\n', [{"a": "1.5", "b": "x"}]),
        (TextFormat.parse(None, None, "."), b"a;b\n1,5;x\n", [{"a": "1,5", "b": "x"}]),
        (TextFormat.parse(None, "cp1250", None), "a;b\nŁódź;1\n".encode("cp1250"), [{"a": "Łódź", "b": "1"}]),
        (TextFormat.parse(None, "utf-16-le", None), "a,b\nx,1\n".encode("utf-16-le"), [{"a": "x", "b": "1"}]),
        (TextFormat.parse(None, "utf-8", None), codecs.BOM_UTF8 + b"a,b\nx,1\n", [{"a": "x", "b": "1"}]),
    ],
)
def test_given_options_take_precedence_over_detected_ones(
    tmp_path: Path, given: TextFormat, content: bytes, rows: list[dict[str, str]]
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert read(tmp_path / "a.csv", ReadOptions(given)) == rows


def test_a_comma_in_a_column_that_is_no_number_is_no_decimal_mark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("size;x\n1,5;2,5\n")
    options = ReadOptions(selection=ColumnSelection(("size", "x"), numbers=frozenset({"x"})))
    assert read(tmp_path / "a.csv", options) == [{"size": "1,5", "x": "2.5"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\nK\xf6ln,1\n", "a.csv: not UTF-8 at byte 5, so it is read as cp1252; --encoding names another"),
        (b"a,b\nK\x81ln,1\n", "a.csv: not UTF-8 at byte 5, so it is read as latin-1; --encoding names another"),
        (
            b'a,b\n"0,123",x\n"1,234",x\n',
            "a.csv: 1,234 is not read as a number; --thousands says what separates thousands",
        ),
        (
            b'a,b\n"-1,5",x\n"2,25",x\n',
            "a.csv: -1,5 is not read as a number; --decimal , reads numbers with a decimal comma",
        ),
        (b"a;b\n1,5;2\n", "a.csv: numbers are read with a decimal comma; --decimal . says otherwise"),
        (
            b"01,Adams,2009,9.7,2024-05-01\n02,Berks,2009,9.1,2024-05-01\n",
            (
                "a.csv: columns are called 01, 2009, 9.7, like the values below them. If it has no header, add one: "
                "its first row is not read as a row"
            ),
        ),
    ],
)
def test_what_is_assumed_is_reported(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert open_source(tmp_path / "a.csv").notes == (message,)


@pytest.mark.parametrize("content", [b"a,2019,2020\nx,1,2\nat,3,4\n", b"a,2019,b\nx,1,2\n", b"a,1\n", b"1\nx\n"])
def test_names_of_years_are_values_only_where_no_other_name_stands_over_figures(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    notes = [note for note in open_source(tmp_path / "a.csv").notes if "like the values below" in note]
    assert len(notes) == content.startswith(b"a,2019,2020")


def test_a_byte_outside_utf8_is_seen_however_late(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n" + b"plain,1\n" * 600_000 + b"K\xf6ln,2\n")
    assert read(tmp_path / "a.csv")[-1] == {"a": "Köln", "b": "2"}


def test_a_column_that_is_empty_for_megabytes_is_no_surprise_when_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "x,\n" * 3_000_000 + "x,hello\n")
    counted = [len(batch) for batch in batches(tmp_path / "a.csv")]
    assert len(counted) > 1
    assert sum(counted) == 3_000_001


def test_rows_with_too_many_or_few_cells_are_reported_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n1,x\n2,x,y\n"3\n",z\n\n4\n5,u\n6,7,8\n')
    found = batches(tmp_path / "a.csv")
    assert [number for batch in found for number in batch.numbers] == [1, 3, 5]
    bad = [row for batch in found for row in batch.malformed]
    assert [(row.number, row.text) for row in bad] == [(2, "2,x,y"), (4, "4"), (6, "6,7,8")]
    assert bad[0].problem == "expected 2 cells, as in the header; got 3"


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ('1,x\n2,"y\n3,z\n', "row 2"),
        ('1,x\n2,"y', "row 2"),
        ('1,x\n"2,y\n3,z\n', "row 2"),
        ('1,x,x\n2,x,x\n3,"y\n\n', "row 3"),
        ('1,x\n2,"y""\n', "row 2"),
        ("1,x\n" * 2_500_000 + '1,"x\n' + "1,x\n" * 10, "row 2500001"),
    ],
    ids=["last cell", "no line break at the end", "first cell", "after odd rows", "doubled quote", "third block"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_quote_that_is_open_at_the_end_of_a_file_is_refused_with_its_row(
    tmp_path: Path, rows: str, place: str, encoding: str
) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + rows, encoding=encoding)
    read: list[int] = []
    with pytest.raises(ContractError, match=rf"a\.csv: {place}: expected a closing quote; the file ends within"):
        read.extend(number for batch in open_source(tmp_path / "a.csv").batches() for number in batch.numbers)
    assert int(place.removeprefix("row ")) not in read


@pytest.mark.parametrize("column", [["a"], ["b"], None])
def test_a_quote_that_is_open_for_more_than_a_block_is_refused_with_its_row(
    tmp_path: Path, column: list[str] | None
) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "1,x\n" * 2_500_000 + '1,"x\n' + "1,x\n" * 5_000_000)
    with pytest.raises(ContractError, match=r"a\.csv: row 2500001: expected at most 8 MiB; got more"):
        batches(tmp_path / "a.csv", wanted(*column) if column else None)


@pytest.mark.parametrize(
    ("content", "last"),
    [
        ('a,b\n1,x"y\n2,5" pipe', '5" pipe'), ('a,b\n1,2\n2,"say ""hi"""', 'say "hi"'), ('a,b\r1,x\r2,"y"\r', "y"),
    ],
)  # fmt: skip
def test_quotes_inside_and_at_the_end_of_cells_are_no_open_quotes(tmp_path: Path, content: str, last: str) -> None:
    (tmp_path / "a.csv").write_text(content, newline="")
    assert read(tmp_path / "a.csv")[1:] == [{"a": "2", "b": last}]
    (tmp_path / "b.csv").write_text('a\n1\n\n"2\n3"\n')
    assert read(tmp_path / "b.csv") == [{"a": "1"}, {"a": "2\n3"}]


def test_numbers_go_on_from_block_to_block(tmp_path: Path) -> None:
    rows = [f"{at},{'x' * 90}" if at % 50_000 else f"{at},x,odd" for at in range(1, 200_001)]
    (tmp_path / "a.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    found = batches(tmp_path / "a.csv")
    assert len(found) > 2
    for batch in found:
        if batch.columns is not None:
            assert batch.columns["a"].to_pylist() == list(map(str, batch.numbers))
    assert [row.number for batch in found for row in batch.malformed] == [50_000, 100_000, 150_000, 200_000]


def test_json_lines_are_handed_on_as_they_stand_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(codecs.BOM_UTF8 + b'{"a": 1.10}\r\n\n  no\n{"a": {"b": [1]}}')
    (batch,) = batches(tmp_path / "a.jsonl")
    assert list(zip(batch.numbers, batch.lines, strict=True)) == [
        (1, b'{"a": 1.10}'), (3, b"no"), (4, b'{"a": {"b": [1]}}'),
    ]  # fmt: skip
    (tmp_path / "b.json").write_text('{"a": "ä"}\n', encoding="utf-16")
    assert batches(tmp_path / "b.json")[0].lines == ['{"a": "ä"}'.encode()]


def test_parquet_gives_pythons_values_and_what_python_cannot_say_as_text(tmp_path: Path) -> None:
    far = 400_000_000_000_000_000
    table = pa.table(
        {
            "at": pa.array([NOON, None], pa.timestamp("ns", "UTC")),
            "far": pa.array([far, 0], pa.int64()).cast(pa.timestamp("us")),
            "day": pa.array([date(1, 1, 1), None]),
            "cost": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
            "shop": pa.array(["a", "b"]).dictionary_encode(),
            "nested": [{"x": 1}, None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = read(tmp_path / "a.parquet")
    assert first == {
        "at": NOON, "far": "400000000000 seconds since 1970", "day": date(1, 1, 1), "cost": Decimal("1.50"),
        "shop": "a", "nested": {"x": 1},
    }  # fmt: skip
    assert second["far"] == datetime(1970, 1, 1)  # noqa: DTZ001
    assert open_source(tmp_path / "a.parquet").rows == 2


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "+14:00"])
def test_the_first_and_last_moments_of_any_zone_are_read_inside_objects_too(tmp_path: Path, zone: str) -> None:
    ends = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)]
    at = pa.array(ends, pa.timestamp("us", "UTC")).cast(pa.timestamp("us", zone))
    inside = pa.StructArray.from_arrays([at, pa.array([1, 2])], ["at", "x"])
    pq.write_table(pa.table({"at": at, "inside": inside}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [
        {"at": end, "inside": {"at": end, "x": x}} for x, end in enumerate(ends, start=1)
    ]


def test_what_was_read_of_a_parquet_file_does_not_stay_in_memory(tmp_path: Path) -> None:
    rows, row_groups = 1_600_000, 32
    numbers = np.random.default_rng(1).normal(size=rows)
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({f"x{at}": numbers for at in range(4)}), file, row_group_size=rows // row_groups)
    before = pa.total_allocated_bytes()
    allocated = [pa.total_allocated_bytes() - before for _ in open_source(str(file), ReadOptions()).batches()]
    assert len(allocated) > 1
    assert max(allocated) < file.stat().st_size / 2


def test_columns_that_are_not_wanted_are_left_out_whatever_they_are(tmp_path: Path) -> None:
    table = pa.table(
        {
            "a": [1],
            "temp.f": [2.0],
            "temp": [3.0],
            "back`tick": ["x"],
            "clock": pa.array([time(1, 2, 3, 4)], pa.time64("ns")),
            "took": pa.array([timedelta(1)], pa.duration("ns")),
            "all": pa.array([[NOON]], pa.list_(pa.timestamp("ns"))),
            "inside": [{"x": 1, "y": 2}],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", wanted("a")) == [{"a": 1}]
    assert read(tmp_path / "a.parquet", wanted("a", "temp.f")) == [{"a": 1, "temp.f": 2.0}]
    assert read(tmp_path / "a.parquet", wanted("inside.x")) == [{"inside": {"x": 1, "y": 2}}]
    assert read(tmp_path / "a.parquet", wanted("temp")) == [{"temp": 3.0}]
    everything = read(tmp_path / "a.parquet", wanted("a", only=False))[0]
    assert list(everything) == table.column_names
    table = table.drop(["clock", "took", "all"])
    write_deltalake(tmp_path / "delta", table.drop(["temp.f", "back`tick"]))
    assert read(tmp_path / "delta", wanted("a", "inside.x")) == [{"a": 1, "inside": {"x": 1, "y": 2}}]


def test_names_of_folders_are_columns_of_text(tmp_path: Path) -> None:
    for store in ("007", "7", "a%2Fb", "__HIVE_DEFAULT_PARTITION__"):
        folder = tmp_path / "hist" / f"store={store}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"x": [1]}), folder / "part.parquet")
    (tmp_path / "hist" / "_SUCCESS").touch()
    found = batches(tmp_path / "hist")
    assert all(batch.texts == {"store"} for batch in found)
    assert sorted(str(row["store"]) for row in read(tmp_path / "hist")) == ["007", "7", "None", "a/b"]
    assert read(tmp_path / "hist", wanted("store"))[0] == {"store": "007"}


def test_delta_tables_inside_a_folder_are_read_as_tables_so_that_deleted_rows_stay_deleted(tmp_path: Path) -> None:
    for store, rows in {"7": ["old", "new"], "8": ["b"]}.items():
        for row in rows:
            write_deltalake(tmp_path / "lake" / f"store={store}", pa.table({"x": [row]}), mode="overwrite")
    assert read(tmp_path / "lake") == [{"x": "new", "store": "7"}, {"x": "b", "store": "8"}]
    pq.write_table(pa.table({"x": ["c"]}), tmp_path / "lake" / "c.parquet")
    with pytest.raises(ContractError, match=r"expected files of one kind; got .*c\.parquet and .*store=7$"):
        open_source(tmp_path / "lake")


def test_a_part_of_a_delta_table_is_refused_since_only_the_table_knows_what_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for x in ("old", "new"):
        write_deltalake(
            tmp_path / "t", pa.table({"day": ["1", "2"], "x": [x, x]}), partition_by=["day"], mode="overwrite"
        )
    assert len(read(tmp_path / "t")) == 2
    reported = rf"expected a whole Delta table; got a part of {tmp_path}/t, .* Name the table"
    (tmp_path / "link").symlink_to(tmp_path / "t" / "day=1")
    files = sorted((tmp_path / "t" / "day=1").glob("*.parquet"))
    assert len(files) == 2
    for part in (tmp_path / "t" / "day=1", tmp_path / "link", *files):
        with pytest.raises(ContractError, match=reported):
            open_source(part)
    monkeypatch.chdir(tmp_path / "t" / "day=2")
    with pytest.raises(ContractError, match=reported):
        open_source(".")
    assert len(read(Path(".."))) == 2


def test_json_lines_have_the_values_of_their_path_too(tmp_path: Path) -> None:
    (tmp_path / "store=007").mkdir()
    (tmp_path / "store=007" / "a.jsonl").write_text('{"x": 1}\n{}\n{"store": "007"}\nno')
    (batch,) = batches(tmp_path)
    assert batch.lines == [b'{"x": 1,"store":"007"}', b'{"store":"007"}', b'{"store": "007"}', b"no"]


EQUAL = {
    "text": ("a b", ["a b", "a b"]),
    "gap": ("__HIVE_DEFAULT_PARTITION__", [None, ""]),
    "whole": ("-4", [-4, -4]),
    "flag": ("true", [True, True]),
    "day": ("2024-05-01", [date(2024, 5, 1)] * 2),
    "at": ("2024-05-01 12%3A00%3A00", [NOON.replace(tzinfo=None)] * 2),
    "price": ("1.50", pa.array([Decimal("1.5")] * 2, pa.decimal128(5, 2))),
    "word": ("w", pa.array(["w", "w"]).dictionary_encode()),
}


@pytest.mark.parametrize("name", EQUAL)
def test_a_column_may_be_both_in_a_path_and_in_the_file_with_the_same_values(tmp_path: Path, name: str) -> None:
    folder, values = EQUAL[name]
    (place := tmp_path / f"{name}={folder}").mkdir()
    pq.write_table(pa.table({name: values, "x": [1, 2]}), place / "a.parquet")
    value = None if name == "gap" else unquote(folder)
    assert read(tmp_path) == [{name: value, "x": 1}, {name: value, "x": 2}]


@pytest.mark.parametrize(
    ("folder", "values"), [("a", ["a", "b"]), ("a", ["a", None]), ("7", ["7", "07"]), ("5", [5, 6]),
                           ("__HIVE_DEFAULT_PARTITION__", [None, "a"])]
)  # fmt: skip
def test_a_row_with_another_value_than_its_path_is_named_whatever_the_kind_of_file(
    tmp_path: Path, folder: str, values: list[Any]
) -> None:
    rows = [{"k": value, "x": 1} for value in values]
    writers: dict[str, Callable[[Path], object]] = {
        "parquet": lambda file: pq.write_table(pa.Table.from_pylist(rows), file),
        "csv": lambda file: file.write_text("k,x\n" + "".join(f"{row['k'] or ''},1\n" for row in rows)),
        "jsonl": lambda file: file.write_text("\n".join(map(json.dumps, rows))),
    }
    for ending, write in writers.items():
        place = tmp_path / ending / f"k={folder}"
        place.mkdir(parents=True)
        write(place / f"a.{ending}")
        with pytest.raises(ContractError, match=rf"a\.{ending}: row 2: column k: expected .*, as in the path"):
            read(tmp_path / ending)
        assert sum(map(len, batches(tmp_path / ending, wanted("x")))) == 2  # that column is not asked for


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"kind":"ö"}', '{"kind":"ö","\\u00f6":"7"}'),
        ('{"in":{"ö":1}}', '{"in":{"ö":1},"\\u00f6":"7"}'),
        ('{"ö":"7"}', '{"ö":"7"}'),
        ('{"\\u00f6":7}', '{"\\u00f6":7}'),
        ('{"a":"\\n"}', '{"a":"\\n","\\u00f6":"7"}'),
        ('{"ö":1', '{"ö":1'),
    ],
    ids=["a value", "in an object", "its own", "escaped", "another escape", "no JSON"],
)
def test_only_a_field_of_the_line_itself_goes_before_the_value_of_the_path(
    tmp_path: Path, line: str, expected: str
) -> None:
    (tmp_path / "ö=7").mkdir()
    (tmp_path / "ö=7" / "a.jsonl").write_text(line)
    (batch,) = batches(tmp_path)
    assert batch.lines == [expected.encode()]


def test_a_text_like_the_name_of_a_value_of_the_path_is_no_field(tmp_path: Path) -> None:
    (tmp_path / "x=7").mkdir()
    (tmp_path / "x=7" / "a.jsonl").write_text('{"kind":"x"}\n{"in":{"x":1}}\n{"\\u0078":7}\n')
    (batch,) = batches(tmp_path)
    assert batch.lines == [b'{"kind":"x","x":"7"}', b'{"in":{"x":1},"x":"7"}', b'{"\\u0078":7}']


def test_a_folder_is_read_in_the_order_of_its_files_and_each_row_knows_its_own(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.csv").write_text(f"x\n{name}1\n{name}2\n")
    (tmp_path / "notes.txt").write_text("no data")
    source = open_source(tmp_path)
    assert source.files == 2
    assert source.notes == (f"{tmp_path}: not read, since they are no data files: notes.txt",)
    found = list(source.batches())
    assert [(Path(batch.file).name, list(batch.numbers)) for batch in found] == [("a.csv", [1, 2]), ("b.csv", [1, 2])]


INTS, FLOATS = pa.table({"k": ["a"], "x": [1]}), pa.table({"k": ["a"], "x": [1.5]})


def test_whole_numbers_in_one_file_and_fractions_in_another_are_numbers(tmp_path: Path) -> None:
    pq.write_table(INTS, tmp_path / "a.parquet")
    pq.write_table(FLOATS, tmp_path / "b.parquet")
    assert [row["x"] for row in read(tmp_path, wanted("k", "x"))] == [1, 1.5]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (pa.table({"k": ["a"]}), r"b\.parquet: column x: expected, since .*a\.parquet has it; it is not there"),
        (pa.table({"k": ["a"], "x": ["1"]}), r"b\.parquet: column x: expected a number, as in .*a\.parquet; got text"),
        (pa.table({"x": [1]}), r"b\.parquet: expected the columns k; it lacks k and has x\."),
    ],
)
def test_files_that_disagree_are_refused_by_name_and_column(tmp_path: Path, other: pa.Table, message: str) -> None:
    pq.write_table(INTS, tmp_path / "a.parquet")
    pq.write_table(other, tmp_path / "b.parquet")
    with pytest.raises(ContractError, match=message):
        open_source(tmp_path, wanted("k", "x", required=("k",)))


def test_a_column_that_one_file_lacks_is_null_there_if_that_is_asked_for_or_nobody_wants_it(tmp_path: Path) -> None:
    pq.write_table(INTS, tmp_path / "a.parquet")
    pq.write_table(pa.table({"k": ["b"], "other": [1]}), tmp_path / "b.parquet")
    selection = ColumnSelection(("k", "x"), frozenset({"k"}), is_exclusive=True)
    allowed = ReadOptions(selection=selection, missing_as_null=True)
    assert read(tmp_path, allowed) == [{"k": "a", "x": 1}, {"k": "b"}]
    assert read(tmp_path, wanted("k")) == [{"k": "a"}, {"k": "b"}]


def test_folders_of_json_lines_whose_files_have_other_fields_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('no\n{"k": "a"}\n{"k": "a", "s": {"z": 1}, "\\ud800": {"\\ud800": 1}}\n')
    (tmp_path / "b.jsonl").write_text('{"k": "b", "x": null}\n{"k": "b", "s": {"y": 1}}\n')
    (tmp_path / "c.jsonl").write_text("\n")
    lacks = "expected, since .*b.jsonl has it; it is in none of the first 1,000 lines"
    for name in ("x", "s.y"):
        with pytest.raises(ContractError, match=rf"a\.jsonl: column {name}: {lacks}"):
            open_source(tmp_path, wanted("k", name))
        with pytest.raises(
            ContractError, match=rf"a\.jsonl: expected the columns {name}; it lacks {name} and has k, s"
        ):
            open_source(tmp_path, wanted("k", name, required=(name,)))
    allowed = ReadOptions(selection=ColumnSelection(("k", "x", "s.y", "s.v")), missing_as_null=True)
    source = open_source(tmp_path, allowed)
    assert source.notes == ("column s.v: in none of the first 1,000 lines of any file, so it is null in these rows",)
    assert [len(batch) for batch in source.batches()] == [3, 2]


def test_a_value_of_the_path_is_a_column_of_json_lines(tmp_path: Path) -> None:
    for store in ("7", "8"):
        (tmp_path / f"store={store}").mkdir()
        (tmp_path / f"store={store}" / "a.jsonl").write_text('{"k": "b"}\n')
    assert open_source(tmp_path, wanted("k", "store", required=("store",))).notes == ()


def test_a_path_into_a_column_that_has_no_such_field_is_a_column_that_is_nowhere(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1], "s": [{"y": 1}]}), tmp_path / "a.parquet")
    assert open_source(tmp_path / "a.parquet", wanted("s.y")).notes == ()
    reported = open_source(tmp_path / "a.parquet", wanted("x.y", "s.z")).notes
    assert [note.partition(":")[0] for note in reported] == ["column x.y", "column s.z"]
    with pytest.raises(ContractError, match=r"it lacks x\.y and has x, s"):
        open_source(tmp_path / "a.parquet", wanted("x.y", required=("x.y",)))


def test_a_column_that_is_nowhere_is_reported(tmp_path: Path) -> None:
    pq.write_table(INTS, tmp_path / "a.parquet")
    assert open_source(tmp_path, wanted("k", "y")).notes == ("column y: in no file, so it is null in every row",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xls", b"x", r"a\.xls: expected a file that ends in .*; got \.xls\. Save each sheet as CSV$"),
        ("a.csv.zip", b"x", r"a\.csv\.zip: expected a file that ends in .*; got \.zip\. Unpack it first"),
        ("a.xls.gz", b"x", r"a\.xls\.gz: expected a file that ends in .*; got \.gz$"),
        ("a.csv.gz", b"x", r"a\.csv\.gz: expected a whole file compressed by gzip; got: "),
        ("a.parquet", b"no", r"a\.parquet: expected a Parquet file; got: "),
        ("a.csv", b"", r"a\.csv: expected a first row with the columns' names; the file is empty"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16-le"), "as in UTF-16 without a byte order mark. Name it: --encoding"),
        ("a.csv", b"a,a\n1,2\n", r"column a: expected once; the file has 2 of this name"),
        (
            "a.csv",
            b"\x1f\x8b\x08",
            "a.csv: expected text; it begins as gzip .*. Unpack it, or give it the right ending",
        ),
        ("a.tsv", b"PK\x03\x04", "a.tsv: expected text; it begins as zip"),
        ("a.jsonl", b"\x1f\x8b\x08", "a.jsonl: expected text; it begins as gzip"),
        ("a.json", '{"a": 1}\n'.encode("utf-16-le"), "as in UTF-16 without a byte order mark. Name it: --encoding"),
        ("a.csv", b"PAR1", "a.csv: expected a Parquet file; got: "),
        ("a.jsonl", b'[{"a": 1}] {', "a.jsonl: record 1: expected one array in the file; there is text after it"),
        ("a.jsonl", b'[{"a": 1},', "a.jsonl: record 1: expected the array to be closed; the file ends before"),
        ("a.jsonl", b'[{"a": 1}, {"b" 2}]', "a.jsonl: record 2: expected JSON; got .* Expecting ':' delimiter"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ContractError, match=message):
        open_source(tmp_path / name, wanted("a"))


@pytest.mark.parametrize("name", ["a", "a.x"])
def test_a_wanted_column_that_parquet_has_twice_is_refused_and_another_left_out(tmp_path: Path, name: str) -> None:
    twice, other = pa.array([{"x": 1}]), pa.array([2])
    pq.write_table(pa.table([twice, twice, other], ["a", "a", "b"]), tmp_path / "a.parquet")
    for only in (True, False):  # as load reads it, and as produce does
        with pytest.raises(ContractError, match=r"a\.parquet: column a: expected once; the file has 2 of this name"):
            open_source(tmp_path / "a.parquet", wanted(name, only=only))
    assert read(tmp_path / "a.parquet", wanted("b")) == [{"b": 2}]


def test_nothing_there_and_an_empty_folder_and_a_mixed_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="nothing is there"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(ContractError, match="got a folder without any"):
        open_source(tmp_path)
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(ContractError, match=r"expected files of one kind; got .*a\.csv and .*a\.jsonl"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("typed", "message"),
    [(("ab", None, None), "--delimiter"), ((None, "utf-99", None), "--encoding"), ((None, None, ";"), "--decimal")],
)
def test_a_format_that_is_none_is_refused(typed: tuple[str | None, ...], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        TextFormat.parse(*typed)


def test_parquet_of_pandas_without_an_ending_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "part-0", index=False)
    assert read(tmp_path / "part-0") == [{"a": 1}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"count": 2, "data": [{"a": 1}, {"a": 2}]}, "a list of objects in data. .* jq -c '...data....'"),
        ({"a": {"0": 1, "1": 2}, "b": {"0": 3, "1": 4}}, "has all rows by column"),
        ({"columns": ["a"], "index": [0], "data": [[1]]}, "has all rows by column"),
        ({"a": 1, "tags": ["x"], "in": {"b": 2}}, None),
        ({}, None),
    ],
)
def test_a_file_of_json_with_one_object_says_if_that_looks_like_a_wrapper(
    tmp_path: Path, content: dict[str, object], said: str | None
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    notes = open_source(tmp_path / "a.json").notes
    assert notes == () if said is None else re.search(said, *notes)


def test_a_csv_with_one_column_says_how_to_name_what_separates_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("store at sold\na 2024-05-01 1\n")
    assert open_source(tmp_path / "a.txt").notes == (
        "a.txt: one column, 'store at sold'; if it has more, --delimiter says what separates them",
    )


def test_a_map_with_texts_as_keys_is_an_object_in_which_the_last_value_of_a_key_counts() -> None:
    kind = pa.map_(pa.string(), pa.timestamp("ns", "UTC"))
    rows = pa.array([[("a", 0)], [("a", 0), ("b", 1_999), ("a", 2_000)], None, []], kind)
    second = datetime(1970, 1, 1, 0, 0, 0, 2, tzinfo=UTC)
    assert python_values.to_values(rows.slice(1)) == [{"a": second, "b": second.replace(microsecond=1)}, None, {}]
    by_number = pa.array([[(1, "x")]], pa.map_(pa.int64(), pa.string()))
    assert python_values.to_values(by_number) == [[(1, "x")]]


def test_a_path_into_a_map_is_a_column_that_may_be_there(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.struct({"y": pa.int64()}))
    pq.write_table(pa.table({"x": [1], "m": pa.array([[("k", {"y": 2})]], kind)}), tmp_path / "a.parquet")
    assert open_source(tmp_path / "a.parquet", wanted("m.k.y")).notes == ()
    (note,) = open_source(tmp_path / "a.parquet", wanted("m.k.z")).notes
    assert note.startswith("column m.k.z: in no file")


def test_objects_may_differ_between_files_as_columns_may(tmp_path: Path) -> None:
    for name, box in {"a": {"tag": "q", "x": 1.5}, "b": {"x": 2, "tag": None}, "c": {"x": 2.5}}.items():
        pq.write_table(pa.table({"box": [box]}), tmp_path / f"{name}.parquet")
    with pytest.raises(ContractError, match=r"c\.parquet: column box\.tag: expected, since .*a\.parquet has it"):
        open_source(tmp_path)
    frame = read_sample(open_source(tmp_path, ReadOptions(missing_as_null=True))).frame
    assert frame["box.x"].tolist() == [1.5, 2.0, 2.5]
    assert frame["box.tag"].tolist()[:1] == ["q"]
    assert frame["box.tag"].isna().tolist() == [False, True, True]
    pq.write_table(pa.table({"box": [{"tag": "q", "x": "text"}]}), tmp_path / "d.parquet")
    with pytest.raises(ContractError, match=r"d\.parquet: column box\.x: expected a number, .* got text"):
        open_source(tmp_path, ReadOptions(missing_as_null=True))


def test_a_header_with_blanks_around_its_names_is_shown_with_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("k, x\na,1\n")
    with pytest.raises(ContractError, match=r"it lacks x and has k, ' x'\. Add them"):
        open_source(tmp_path / "a.csv", wanted("k", "x", required=("k", "x")))


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        ("Größe", "Größe"),
        ("gro\u0308ße", r"'gro\\u0308\\xdfe'"),
        ("größe ", r"'gr\\xf6\\xdfe '"),
        ("\u200bgröße", r"'\\u200bgr"),
    ],
)
def test_a_name_that_looks_like_the_wanted_one_is_shown_with_its_difference(
    tmp_path: Path, own: str, shown: str
) -> None:
    (tmp_path / "a.csv").write_text(f"k,{own}\na,1\n")
    (note,) = open_source(tmp_path / "a.csv", wanted("k", "größe")).notes
    assert re.search(rf"null in every row; {shown}.* is another name: \[fleet\.fields\] can name it", note)
    with pytest.raises(ContractError, match=rf"it lacks größe and has k, {shown}"):
        open_source(tmp_path / "a.csv", wanted("k", "größe", required=("k", "größe")))


def test_lists_of_a_fixed_size_are_left_out_only_if_they_have_gaps(tmp_path: Path) -> None:
    kind = pa.list_(pa.int32(), 2)
    table = {"a": [1, 2], "v": pa.array([[1, 2], None], kind), "v.w": pa.array([[3, 4], [5, 6]], kind)}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [{"a": 1, "v.w": [3, 4]}, {"a": 2, "v.w": [5, 6]}]
    assert open_source(tmp_path / "a.parquet", wanted("a", only=False)).notes == (
        "column v: left out, since Arrow cannot read lists of a fixed size with gaps from Parquet",
    )
    assert open_source(tmp_path / "a.parquet", wanted("a")).notes == ()
    with pytest.raises(ContractError, match=r"a\.parquet: expected a Parquet file; got: Expected all lists"):
        read(tmp_path / "a.parquet", wanted("v"))
