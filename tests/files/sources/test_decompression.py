"""Compressed files give the rows of the files that were compressed."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from spinney.core.errors import ContractError
from spinney.sources import open_source, python_values

CSV = b"a,b\n" + b"".join(b"%d,x\n" % n for n in range(50_000))


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


def rows(source: Path) -> list[dict[str, object]]:
    return [
        dict(row)
        for batch in open_source(source).batches()
        if batch.columns
        for row in python_values.to_rows(batch.columns)
    ]


@pytest.mark.parametrize(
    ("ending", "packed"),
    [
        ("gz", gzip.compress(CSV)),
        # As `cat a.gz b.gz` makes it: several members, one file.
        ("gz", gzip.compress(CSV[:100_000]) + gzip.compress(CSV[100_000:])),
        ("bz2", bz2.compress(CSV)),
        ("zst", zstd(CSV)),
    ],
)
def test_a_compressed_csv_gives_the_rows_of_the_plain_one(tmp_path: Path, ending: str, packed: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    (tmp_path / f"a.csv.{ending.upper()}").write_bytes(packed)
    assert rows(tmp_path / f"a.csv.{ending.upper()}") == rows(tmp_path / "a.csv")


def test_compressed_json_lines_in_a_folder_are_named_by_their_own_names_and_line_numbers(tmp_path: Path) -> None:
    for day in ("day=1", "day=2"):
        (tmp_path / day).mkdir()
    (tmp_path / "day=1" / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n\n{"a": 2}\n'))
    (tmp_path / "day=2" / "b.jsonl").write_bytes(b'{"a": 3}\n')
    [first, second] = open_source(tmp_path).batches()
    assert (first.file.removeprefix(str(tmp_path)), list(first.numbers)) == ("/day=1/a.jsonl.gz", [1, 3])
    assert (second.file.removeprefix(str(tmp_path)), list(second.numbers)) == ("/day=2/b.jsonl", [1])
    assert [bytes(line) for line in first.lines or ()] == [b'{"a": 1,"day":"1"}', b'{"a": 2,"day":"1"}']


def test_a_compressed_file_that_was_cut_off_is_refused_before_any_row_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV)[:-1_000])
    with pytest.raises(ContractError, match=r"a\.csv\.gz: expected a whole file compressed by gzip; got: "):
        open_source(tmp_path / "a.csv.gz")
