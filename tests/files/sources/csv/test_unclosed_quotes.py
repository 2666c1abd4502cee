"""Two quotes that nobody meant make the rows between them one cell: no row may disappear that way without a word."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.errors import ContractError
from spinney.sources import ColumnSelection, ReadOptions, RowBatch, TextFormat, open_source
from spinney.sources.sample import read_sample

HEADER = "id,at,store,note,sold"
FACTS = [f"{n},2024-05-01T00:{n % 60:02}:00Z,st{n % 5},note {n},{n}.25" for n in range(1, 601)]
WORDS = [f"s{n},b{n % 3},{'xy'[n % 2]},a word,last" for n in range(1, 601)]
HOLDS = "lines within quotes that look like rows themselves"
BEHIND = "lines within quotes, and text after the closing quote"
REMEDY = "Remove the quote that opens the cell, or close it; within a text double it"
AS_IT_IS = "If such texts are right as they are, pass --multiline"


def quoted(rows: list[str], *places: tuple[int, int]) -> str:
    """The rows with a quote at the beginning of some cells. places: row from 1, cell from 0."""
    found = [row.split(",") for row in rows]
    for row, cell in places:
        found[row - 1][cell] = f'"{found[row - 1][cell]}'
    return "\n".join([HEADER, *map(",".join, found), ""])


def batches(place: Path, content: str, only: tuple[str, ...] = ()) -> list[RowBatch]:
    place.write_text(content, newline="")
    options = ReadOptions(selection=ColumnSelection(only, is_exclusive=True)) if only else None
    return list(open_source(place, options).batches())


def ids(found: list[RowBatch]) -> list[str]:
    return [one for batch in found if batch.columns is not None for one in batch.columns["id"].to_pylist()]


def bad(found: list[RowBatch]) -> list[tuple[int, str, str]]:
    return [(row.number, row.text, row.problem) for batch in found for row in batch.malformed]


@pytest.mark.parametrize("rows", [FACTS, WORDS], ids=["with figures", "texts alone"])
@pytest.mark.parametrize("cell", range(5))
@pytest.mark.parametrize("only", [(), ("id", "sold")], ids=["every column", "two columns"])
def test_rows_between_two_quotes_are_one_rejected_row_with_its_lines(
    tmp_path: Path, rows: list[str], cell: int, only: tuple[str, ...]
) -> None:
    found = batches(tmp_path / "a.csv", quoted(rows, (10, cell), (500, cell)), only)
    ((number, text, why),) = bad(found)
    assert (number, why) == (10, f"expected one row; got 491 {BEHIND}. {REMEDY}")
    assert text.startswith("\n".join(rows[9:12]))
    assert ids(found) == [row.split(",")[0] for row in rows[:9] + rows[500:]]
    assert [number for batch in found for number in batch.numbers] == [*range(1, 10), *range(11, 111)]
    columns = [batch.columns.schema.names for batch in found if batch.columns is not None]
    assert columns == [list(only or HEADER.split(","))]


def test_quotes_in_two_rows_beside_each_other_and_in_several_pairs_are_seen(tmp_path: Path) -> None:
    found = batches(tmp_path / "a.csv", quoted(FACTS, (10, 3), (11, 3), (20, 1), (30, 1), (40, 4), (50, 4)))
    assert [number for number, _, _ in bad(found)] == [10, 19, 19 + 10]
    assert len(ids(found)) == 600 - 2 - 11 - 11


@pytest.mark.parametrize("rows", [FACTS, WORDS], ids=["with figures", "texts alone"])
@pytest.mark.parametrize("cell", range(1, 5))
def test_a_quote_at_the_end_of_a_cell_closes_what_another_one_opened(
    tmp_path: Path, rows: list[str], cell: int
) -> None:
    """Nothing is behind the second quote: the lines alone tell it."""
    found = [row.split(",") for row in rows]
    found[9][cell] = f'"{found[9][cell]}'
    found[499][cell] += '"'
    ((number, text, why),) = bad(batches(tmp_path / "a.csv", "\n".join([HEADER, *map(",".join, found)])))
    assert (number, why) == (10, f"expected one row; got 491 {HOLDS}. {REMEDY}. {AS_IT_IS}")
    assert text == "\n".join(rows[9:500])


def test_a_cell_that_is_but_a_quote_opens_one_too(tmp_path: Path) -> None:
    rows = [*FACTS]
    rows[9], rows[499] = '10,2024-05-01,st0,",1', '500,2024-05-01,st0,",1'
    found = batches(tmp_path / "a.csv", "\n".join([HEADER, *rows]))
    assert [(number, HOLDS in why) for number, _, why in bad(found)] == [(10, True)]


def test_quotes_in_different_columns_give_a_row_of_another_width_which_says_its_lines(tmp_path: Path) -> None:
    found = batches(tmp_path / "a.csv", quoted(FACTS, (10, 2), (500, 3)))
    ((number, _, why),) = bad(found)
    assert number == 10
    assert why == (
        "expected 5 cells, as in the header; got 4 in 491 lines. If each of these lines is a row, look for a quote "
        "that is not closed"
    )


@pytest.mark.parametrize(("delimiter", "end"), [(";", "\r\n"), ("\t", "\r"), ("|", "\n")])
def test_the_files_own_delimiter_and_line_breaks_count(tmp_path: Path, delimiter: str, end: str) -> None:
    content = quoted(FACTS, (10, 3), (500, 3)).replace(",", delimiter).replace("\n", end)
    assert [number for number, _, _ in bad(batches(tmp_path / "a.csv", content))] == [10]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_quotes_are_seen_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text(quoted(FACTS, (10, 3), (500, 3)).replace("note 7", "nöte"), encoding=encoding)
    assert [number for number, _, _ in bad(list(open_source(tmp_path / "a.csv").batches()))] == [10]


@pytest.mark.parametrize("given", [None, "utf-8", "utf-8-sig", "UTF_8_SIG"])
def test_no_row_is_lost_behind_a_byte_order_mark(tmp_path: Path, given: str | None) -> None:
    content = 'id,desc,price\n1,ok,4\n2,"unclosed,5\n3,b,6\n4,pipe 5" x,7\n5,ok,8\n'
    (tmp_path / "a.csv").write_text(content, encoding="utf-8-sig")
    found = list(open_source(tmp_path / "a.csv", ReadOptions(TextFormat(encoding=given))).batches())
    assert ids(found) == ["1", "5"]
    assert [(number, text.splitlines()) for number, text, _ in bad(found)] == [
        (2, ["2,unclosed,5", "3,b,6", "4,pipe 5 x,7"])
    ]


def test_missing_values_hide_no_rows(tmp_path: Path) -> None:
    rows = [f"x{n},2024-05-01T01:{n:02}:00Z,s1,a note,{n}.5" for n in range(40)]
    stray = 'e1,2024-05-01T00:01:00Z,s1,"5 in. pipe,1.5\ne2,2024-05-01T00:02:00Z,s1,6 in. pipe",'
    found = batches(tmp_path / "a.csv", "\n".join(["id,at,store,note,amount", *rows, stray, ""]))
    assert len(ids(found)) == 40
    ((number, text, why),) = bad(found)
    assert (number, text) == (41, stray.replace('"', ""))
    assert why == f"expected one row; got 2 {HOLDS}. {REMEDY}. {AS_IT_IS}"


def test_a_column_that_is_mostly_empty_is_one_of_figures_by_its_filled_cells(tmp_path: Path) -> None:
    rows = [f"item,{n if n % 4 == 0 else ''},note" for n in range(40)]
    rows[10], rows[15] = rows[10].replace("note", '"note'), rows[15] + ' of, two"'
    found = batches(tmp_path / "a.csv", "\n".join(["id,amount,note", *rows]))
    assert [number for number, _, _ in bad(found)] == [11]


def test_lines_of_another_width_between_the_quotes_hide_no_rows(tmp_path: Path) -> None:
    rows = [row if n % 3 else "a line of other cells" for n, row in enumerate(FACTS)]
    rows[10], rows[499] = rows[10].replace("note", '"note'), rows[499].replace("note 500", 'note 500"')
    found = batches(tmp_path / "a.csv", "\n".join([HEADER, *rows]))
    assert [number for number, _, why in bad(found) if HOLDS in why] == [11]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_behind_a_quote_is_seen_across_blocks_and_among_texts_of_many_lines(tmp_path: Path, end: str) -> None:
    rows = [f'{n},2024-05-01,st,"a, ""b"",{end}and c {n % 7}",1.5' for n in range(400_000)]
    rows[5] = f'5,2024-05-01,st,"a, b,{end}c" d,1.5'
    rows[399_998] = f'399998,2024-05-01,st,"a, b,{end}c"" d" e,1.5'
    rows[399_999] = f'399999,2024-05-01,st,"a, b,{end}c" ,1.5'  # a blank is harmless
    found = batches(tmp_path / "a.csv", end.join([HEADER, *rows, ""]))
    assert [(number, BEHIND in why) for number, _, why in bad(found)] == [(6, True), (399_999, True)]
    assert len(ids(found)) == 399_998


def test_a_header_that_holds_rows_is_refused(tmp_path: Path) -> None:
    content = '"' + quoted(FACTS, (5, 0))
    with pytest.raises(ContractError, match=r"a\.csv: header: expected one row .*; got rows within quotes\. Remove"):
        batches(tmp_path / "a.csv", content)


def test_a_header_with_line_breaks_in_a_name_is_read(tmp_path: Path) -> None:
    found = batches(tmp_path / "a.csv", 'id,"sold\n(EUR, net)",at\n1,2,3\n')
    assert found[0].columns is not None
    assert found[0].columns.to_pylist() == [{"id": "1", "sold\n(EUR, net)": "2", "at": "3"}]


def test_init_says_which_rows_it_did_not_look_at(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(quoted(FACTS, (10, 3), (500, 3)))
    sample = read_sample(open_source(tmp_path / "a.csv"))
    assert len(sample.frame) == 109
    why = f"expected one row; got 491 {BEHIND}. {REMEDY}"
    assert sample.notes == (f"1 row left out: {tmp_path}/a.csv row 10: {why}",)


@pytest.mark.parametrize(
    "text",
    [
        "12 Main Street\nSpringfield, IL 62701\nUSA",
        "Hello,\n\nthe parcel came late, it was open, wet, torn, and empty.\n\nRegards,\nAnn, Bob, and Cy",
        "a, b, c, d, e\nf, g, h, i, j",
        "first\nsecond, one, two, three, four\nthird, one, two, three, four\nfourth, one, two, three, four",
        "1,2,3\n4,5,6\n7,8,9",
        '{\n  "a": 1,\n  "b": [1, 2, 3, 4]\n}',
        "\n\n\n",
        "one\r\ntwo",
    ],
)
@pytest.mark.parametrize("cell", range(5))
def test_texts_of_many_lines_are_read_as_they_are(tmp_path: Path, text: str, cell: int) -> None:
    rows = [row.split(",") for row in FACTS]
    for row in rows[5::7]:
        row[cell] = text
    written = io.StringIO()
    csv.writer(written).writerows([HEADER.split(","), *rows])
    found = batches(tmp_path / "a.csv", written.getvalue())
    assert bad(found) == []
    assert [list(row.values()) for batch in found if batch.columns for row in batch.columns.to_pylist()] == rows


@pytest.mark.parametrize("last", [10, 11, 20])
@pytest.mark.parametrize("cell", [0, 1, 2])
def test_rows_without_a_single_figure_are_rows_by_their_cells(tmp_path: Path, last: int, cell: int) -> None:
    rows = [[f"x{n}", "a note", "" if n in range(8, 25) else f"{n}.5"] for n in range(40)]
    rows[9][cell], rows[last][cell] = f'"{rows[9][cell]}', f'{rows[last][cell]}"'
    found = batches(tmp_path / "a.csv", "\n".join(["id,note,amount", *map(",".join, rows)]))
    assert [(number, HOLDS in why) for number, _, why in bad(found)] == [(10, True)]
    assert len(ids(found)) == 40 - (last - 9) - 1


@pytest.mark.parametrize(
    ("header", "usual", "row"),
    [
        (
            "order_ref,lines,total",
            ["A{n},pipes,{n}.25", "A{n},pipes,1{n}"],
            'A1,"Bolts, steel, 10\nNuts, steel, 12\nWashers, steel, 8",9.99',
        ),
        ("name,geometry,area", ["a,none,{n}"], 'b,"-122.08,37.42,0\n-122.09,37.43,0",12'),
        (
            "id,log,hours",
            ["{n},nothing,1{n}"],
            '7,"2024-05-01, changed filter, 15.5\n2024-05-08, changed oil, 17.0",1200',
        ),
        ("id,readings,label", ["x{n},none,1"], 'x1,"0.1,0.2,0.3\n0.4,0.5,0.6",1'),
        ("id,readings,label", ["{n},none,1"], '100,"0.1,0.2,0.3\n0.4,0.5,0.6\n0.7,0.8,0.9\n1.0,1.1,1.2",1'),
        ("lines,id,total", ["pipes,{n},{n}.25"], '"Bolts, 3, 10\nNuts, 4, 12",7,9.99'),
        ("id,total,lines", ["A{n},{n}.25,pipes"], 'A7,9.99,"Bolts, 10, 3\nNuts, 12, 4\nWashers, 8, 1"'),
        ("name,kind,note", ["n{n},x,a note"], 'n99,x,"a word\none, two, three"'),
    ],
)
@pytest.mark.parametrize("size", [2, 40])
def test_lists_and_matrices_in_narrow_files_are_read_as_they_are(
    tmp_path: Path, header: str, usual: list[str], row: str, size: int
) -> None:
    rows = [usual[n % len(usual)].format(n=n) for n in range(size)]
    content = "\n".join([header, *rows, row, ""])
    found = batches(tmp_path / "a.csv", content)
    assert bad(found) == []
    read = [list(each.values()) for batch in found if batch.columns for each in batch.columns.to_pylist()]
    assert read == list(csv.reader(io.StringIO(content, newline="")))[1:]


def test_lines_that_look_like_rows_are_a_text_where_most_rows_have_such(tmp_path: Path) -> None:
    rows = [f'{n},"1,2,3\n4,5,6\n7,8,9\n10,11,12",{n}' for n in range(30)]
    found = batches(tmp_path / "a.csv", "\n".join(["id,matrix,label", *rows, *["99,none,1"] * 20]))
    assert (bad(found), len(ids(found))) == ([], 50)
    few = batches(tmp_path / "a.csv", "\n".join(["id,matrix,label", *rows[:3], *["99,none,1"] * 20]))
    assert [number for number, _, _ in bad(few)] == [1, 2, 3]


ANY_TEXT = st.text(st.sampled_from('ab ,.\n"'), max_size=60)


@examples(60)
@given(st.lists(ANY_TEXT, min_size=1, max_size=20))
def test_any_text_of_letters_commas_quotes_and_line_breaks_survives(texts: list[str]) -> None:
    rows = [[str(n), f"2024-05-01T00:{n:02}:00Z", "a", text, "1.5"] for n, text in enumerate(texts)]
    written = io.StringIO()
    csv.writer(written).writerows([HEADER.split(","), *rows])
    with tempfile.TemporaryDirectory() as folder:
        found = batches(Path(folder) / "a.csv", written.getvalue())
    assert bad(found) == []
    assert [list(row.values()) for batch in found if batch.columns for row in batch.columns.to_pylist()] == rows


QUOTED = [f'{n},2024-05-01T00:{n:02}:00Z,st,"note, {n}, and more",1.5' for n in range(1, 13)]
TWELVE = len(QUOTED)


@examples(200)
@given(st.sets(st.integers(0, 2 * TWELVE - 1), max_size=6))
def test_whichever_quotes_are_missing_each_row_is_read_or_reported(missing: set[int]) -> None:
    """Also where the texts have commas, so that the lines have more cells than the header."""
    pieces = "\n".join([HEADER, *QUOTED, ""]).split('"')
    content = pieces[0] + "".join(("" if n in missing else '"') + piece for n, piece in enumerate(pieces[1:]))
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = batches(Path(folder) / "a.csv", content)
        except ContractError as error:
            if "expected a closing quote" not in str(error):
                raise
            return
    reported = sum(len(text.splitlines()) for _, text, _ in bad(found))
    assert len(ids(found)) + reported == TWELVE


PLACES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 4)), max_size=6, unique=True)


@examples(150)
@given(PLACES, st.sampled_from([FACTS, WORDS]))
def test_wherever_quotes_are_each_row_is_read_or_reported(places: list[tuple[int, int]], rows: list[str]) -> None:
    """Of the lines of a row that is told, each is one of the file's; a row that is read is one of them as it was."""
    content = quoted(rows[:40], *places)
    was = {row.split(",")[0]: row.split(",") for row in rows[:40]}
    with tempfile.TemporaryDirectory() as folder:
        if content.count('"') % 2:
            with pytest.raises(ContractError, match="expected a closing quote"):
                batches(Path(folder) / "a.csv", content)
            return
        found = batches(Path(folder) / "a.csv", content)
    read: list[dict[str, Any]] = [row for batch in found if batch.columns for row in batch.columns.to_pylist()]
    assert [list(row.values()) for row in read] == [was[row["id"]] for row in read]
    reported = sum(len(text.splitlines()) for _, text, _ in bad(found))
    assert len(read) + reported == 40
