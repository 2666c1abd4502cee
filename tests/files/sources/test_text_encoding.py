"""The encoding of a file: by its mark, by name, or detected; never one that changes texts which are UTF-8."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

import pytest

from spinney.core.errors import ContractError
from spinney.sources import ReadOptions, TextFormat, open_source
from spinney.sources.text_encoding import named_encoding

UTF8 = "a,b\nKöln,1\nMünster,2\n".encode()


def _texts(file: Path, encoding: str | None = None) -> list[str]:
    found = open_source(file, ReadOptions(TextFormat(encoding=encoding))).batches()
    return [text for batch in found if batch.columns is not None for text in batch.columns["a"].to_pylist()]


@pytest.mark.parametrize(
    ("content", "line", "characters", "byte", "at"),
    [
        (UTF8 + b"Z\xfcrich,3\n", 4, 2, "fc", len(UTF8) + 1),
        (UTF8[:-9], 3, 1, "c3", len(UTF8) - 10),  # cut within the ü
    ],
)
def test_a_file_that_is_utf8_except_for_a_few_bytes_is_refused_with_the_line(
    tmp_path: Path, content: bytes, line: int, characters: int, byte: str, at: int
) -> None:
    (file := tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(
        ContractError,
        match=rf"a\.csv: line {line}: expected UTF-8, as {characters} other characters are; got the byte 0x{byte} at "
        rf"byte {at}\. .* --encoding",
    ):
        open_source(file)
    assert _texts(file, "latin-1")[0] == "KÃ¶ln"  # as it was said


def test_a_file_of_another_encoding_may_have_bytes_that_are_utf8_by_chance(tmp_path: Path) -> None:
    texts = ["CAFÉ»", "Köln", "Münster"]  # É» in cp1252 are the bytes of one letter in UTF-8
    (file := tmp_path / "a.csv").write_bytes("\n".join(["a", *texts, ""]).encode("cp1252"))
    assert b"\xc9\xbb" in file.read_bytes()
    assert _texts(file) == texts


@pytest.mark.parametrize(
    ("mark", "given", "expected"),
    [
        (b"", None, None),
        (b"", "cp1252", "cp1252"),
        (codecs.BOM_UTF8, None, "utf-8-sig"),
        (codecs.BOM_UTF8, "UTF8", "utf-8-sig"),
        (codecs.BOM_UTF8, "cp1252", "cp1252"),
        (codecs.BOM_UTF16_LE, "utf-8", "utf-16"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
        (codecs.BOM_UTF16_LE, "UTF_16_BE", "utf-16"),
        (codecs.BOM_UTF32_LE, None, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    ],
)
def test_a_byte_order_mark_goes_before_the_order_of_bytes_that_is_named(
    mark: bytes, given: str | None, expected: str | None
) -> None:
    assert named_encoding(mark + b"a", given) == expected


@pytest.mark.parametrize("name", ["hex", "rot13", "undefined", "utf-99"])
def test_what_encodes_no_texts_is_no_encoding(name: str) -> None:
    with pytest.raises(ContractError, match="--encoding: expected a name like utf-8"):
        TextFormat.parse(None, name, None)


@pytest.mark.parametrize("delimiter", ["§", "\0", "::", ""])
def test_a_delimiter_is_one_character_of_ascii(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(ContractError, match="--delimiter: expected one character of ASCII"):
        TextFormat.parse(delimiter, None, None)
    if delimiter == "§":
        (tmp_path / "a.csv").write_text("sep=§\na§b\n1§2\n")
        with pytest.raises(ContractError, match=r"a\.csv: expected a delimiter of ASCII after sep=; got '§'"):
            open_source(tmp_path / "a.csv")


def test_a_packed_file_is_named_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(UTF8 + b"\xff"))
    with pytest.raises(ContractError, match=rf"^{tmp_path}/a\.csv\.gz: line 4: expected UTF-8"):
        open_source(tmp_path / "a.csv.gz")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"a;b\n1,5;2\n"))
    assert open_source(tmp_path / "b.csv.gz").notes == (
        "b.csv.gz: numbers are read with a decimal comma; --decimal . says otherwise",
    )
