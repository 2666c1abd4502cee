"""Which line of a CSV file is its header: read by hand, or refused if a reader could not tell either."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.errors import ContractError
from spinney.sources import ReadOptions, TextFormat, open_source
from spinney.sources.csv.header_detection import find_header


@pytest.mark.parametrize(
    ("sample", "above", "comments"),
    [
        ("#a,b\n#7,1\n#8,2\nall,3\n", 0, 0),
        ("# made on 1 May, by hand\n\n#\n#a,b,c\n#7,x,1\nall,,1\n", 3, 2),
        ("#a,b\nx,1,\ny,2,\n", 0, 0),
        ("# by Joe, Paris\n# for Ann, Rome\na,b,c\nx,y,1\n", 2, 2),
        ("# lat, 52.5\n# lon, 13.4\na,b,c\nx,y,1\n", 2, 2),
        ("# place, Rome\n# lat, 52.5\na,b,c\nx,y,1\nx,y,2\n", 2, 2),
        ('# a "quote\n\n# b\na,b\nx,1\n', 3, 2),
        ("#a\n#b\n", 0, 0),
        ("#\n", 0, 0),
        ("# made by hand\n#a,b\n#7,1\n", 1, 1),
        ("a,b\n#7,1\nall,3\n", 0, 0),
    ],
)
def test_the_header_is_the_first_line_with_as_many_cells_as_the_rows(sample: str, above: int, comments: int) -> None:
    found = find_header(sample, None, None)
    assert (found.lines_above, found.comments, found.delimiter) == (above, comments, None)
    assert found.text == "".join(sample.splitlines(keepends=True)[above:])


@pytest.mark.parametrize(
    ("sample", "one", "other"),
    [
        ("# Joe, 2024\na,b\nx,1\n", "line 1, '# Joe, 2024'", "line 2, 'a,b'"),
        ("\n# Joe, Ann\n#a,b\nx,1\n", "line 2, '# Joe, Ann'", "line 3, '#a,b'"),
        ("#a,b,c\n#7,x,1,1\n#8,x,2\nall,,3\n", "line 1, '#a,b,c'", "line 3, '#8,x,2'"),
        ("#a,b,c\n#7,x,1\n#8,x,2\nnote: closed,3\n", "line 1, '#a,b,c'", "line 4, 'note: closed,3'"),
        ("#a,b,c\n#7,x,1\n#8,x,2\nall,3\nmean,2\n", "line 1, '#a,b,c'", "line 4, 'all,3'"),
        ("#a;b\n#7;1,5\n#8;2,5\nall 4.0\n", "line 1, '#a;b'", "line 4, 'all 4.0'"),
        ("#a;b\n#7;1,5\n#8;2,5\nall;4,0\n", "line 1, '#a;b'", "line 2, '#7;1,5'"),
    ],
)
def test_a_file_in_which_several_lines_can_be_the_header_is_refused(sample: str, one: str, other: str) -> None:
    with pytest.raises(ContractError) as raised:
        find_header(sample, None, None)
    assert f"it may be {one} or {other}. " in str(raised.value)
    for lines in range(4):  # the remedy: no line is taken for a comment then
        assert find_header(sample, lines, None).comments == 0


def test_the_refusal_names_the_file_and_the_option_that_decides(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# Joe, 2024\na,b\nx,1\n")
    with pytest.raises(ContractError, match=r"a\.csv: expected one line that can be the header; .* --skip-lines 0 if"):
        open_source(tmp_path / "a.csv")
    for lines, columns in ((0, ["# Joe", " 2024"]), (1, ["a", "b"])):
        source = open_source(tmp_path / "a.csv", ReadOptions(TextFormat(skip_lines=lines)))
        assert list(source.columns or ()) == columns


def test_a_given_delimiter_decides_which_lines_have_as_many_cells() -> None:
    sample = "# Joe, Ann\n#a~b,c\nx~1,2\n"
    assert find_header(sample, None, "~").lines_above == 1


@given(
    comments=st.lists(st.sampled_from(["#", "# by hand", "# Joe, 2024", "# lat; 52.5", "# a, b, c", ""]), max_size=3),
    header=st.sampled_from(["store,at,x", "#store,at,x"]),
    rows=st.lists(
        st.tuples(st.sampled_from(["#7", "a", "#b"]), st.sampled_from(["2024-05-01", ""]), st.just("1.5")),
        min_size=1,
        max_size=4,
    ),
)
def test_the_header_is_found_or_the_file_is_refused_and_no_row_is_taken_for_a_comment(
    comments: list[str], header: str, rows: list[tuple[str, ...]]
) -> None:
    table = "\n".join([header, *map(",".join, rows)]) + "\n"
    sample = "".join(f"{comment}\n" for comment in comments) + table
    try:
        found = find_header(sample, None, None)
    except ContractError:
        found = find_header(sample, len(comments), None)
        assert {"# Joe, 2024", "# a, b, c"} & set(comments)  # comments without commas leave no doubt
    assert found.text.lstrip("\n") == table
