"""What the files of a folder are: links, partitions, hidden files, pipes, tables of other formats, odd names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spinney.core.errors import ContractError
from spinney.sources import RowBatch, open_source, python_values


def _write(file: Path, *rows: str, header: str = "a") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([header, *rows, ""]))
    return file


def _batches(place: Path) -> list[RowBatch]:
    return list(open_source(place).batches())


def _values(place: Path) -> list[str]:
    return [row["a"] for batch in _batches(place) for row in python_values.to_rows(batch.columns)]


def test_links_to_folders_outside_are_followed_with_the_values_of_their_own_paths(tmp_path: Path) -> None:
    _write(tmp_path / "hist" / "day=1" / "x.csv", "one")
    _write(tmp_path / "disk" / "x.csv", "two")
    (tmp_path / "hist" / "day=2").symlink_to(tmp_path / "disk")
    rows = [row for batch in _batches(tmp_path / "hist") for row in python_values.to_rows(batch.columns)]
    assert rows == [{"a": "one", "day": "1"}, {"a": "two", "day": "2"}]


def test_what_a_link_leads_to_is_read_once_and_the_link_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "hist"
    _write(folder / "2024" / "x.csv", "one")
    (folder / "a-latest").symlink_to(folder / "2024")
    (folder / "b.csv").symlink_to(folder / "2024" / "x.csv")
    (folder / "2024" / "back").symlink_to(folder)
    assert _values(folder) == ["one"]
    assert open_source(folder).notes == (
        f"{folder}: not read, since they are links to what is read anyway: 2024/back, a-latest, b.csv",
    )


def test_a_link_to_a_hidden_file_is_read_as_git_annex_stores_files(tmp_path: Path) -> None:
    stored = _write(tmp_path / "hist" / ".git" / "annex" / "x.csv", "one")
    (tmp_path / "hist" / "x.csv").symlink_to(stored)
    assert _values(tmp_path / "hist") == ["one"]


def test_partitions_may_begin_with_an_underscore_and_a_hidden_file_of_data_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "hist"
    _write(folder / "_day=1" / "x.csv", "one")
    for name in ("_SUCCESS", "_part.csv", "_temporary/0/x.csv", ".x.csv", "_metadata"):
        _write(folder / name, "none")
    assert _values(folder) == ["one"]
    assert open_source(folder).notes == (
        f"{folder}: not read, since they are hidden by a name that begins with _: _part.csv",
    )


def test_a_link_to_nothing_and_a_pipe_are_refused_if_they_are_named_like_data_and_else_named(tmp_path: Path) -> None:
    folder = tmp_path / "hist"
    _write(folder / "x.csv", "one")
    os.mkfifo(folder / "pipe")
    (folder / "gone.lock").symlink_to(tmp_path / "nowhere")
    assert _values(folder) == ["one"]
    assert open_source(folder).notes == (f"{folder}: not read, since they are no data files: gone.lock, pipe",)
    (folder / "y.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ContractError, match=r"y\.csv: expected a file; got a link to nothing"):
        open_source(folder)
    (folder / "y.csv").unlink()
    os.mkfifo(folder / "y.csv.gz")
    with pytest.raises(ContractError, match=r"y\.csv\.gz: expected a file; got a pipe"):
        open_source(folder)
    with pytest.raises(ContractError, match=r"got a pipe or a device\. Write its bytes to a file"):
        open_source(folder / "y.csv.gz")


def test_what_the_system_cannot_open_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="expected a file or folder that can be read; got: File name too long"):
        open_source(tmp_path / ("x" * 300))


@pytest.mark.parametrize("name", [b"K\xf6ln.csv", b"store=K\xf6ln/x.csv"])
def test_a_name_that_is_not_utf8_is_refused_since_it_becomes_a_value(tmp_path: Path, name: bytes) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path / "hist") + b"/" + name))
    _write(file, "one")
    for place in (tmp_path / "hist", file):
        with pytest.raises(ContractError, match=r"K\\udcf6ln.*: expected a name in UTF-8; got other bytes"):
            open_source(place)


def test_a_percent_sign_that_stands_for_another_byte_than_utf8_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "store=%FF" / "x.csv", "one")
    with pytest.raises(ContractError, match=r"store=%FF/x\.csv: expected percent signs .* for UTF-8; got %FF"):
        open_source(tmp_path)
    (tmp_path / "store=%FF").rename(tmp_path / "store=50%")
    assert [row["store"] for batch in _batches(tmp_path) for row in python_values.to_rows(batch.columns)] == ["50%"]


@pytest.mark.parametrize(
    ("kind", "sign", "data"),
    [("Hudi", ".hoodie/hoodie.properties", ""), ("Iceberg", "metadata/v1.metadata.json", "data")],
)
def test_tables_of_other_formats_are_refused_since_their_files_hold_replaced_rows(
    tmp_path: Path, kind: str, sign: str, data: str
) -> None:
    table = tmp_path / "lake" / "t"
    file = _write(table / data / "x.csv", "old")
    _write(table / sign)
    for place in (tmp_path / "lake", table, table / data, file):
        with pytest.raises(ContractError, match=rf"{table} is a table of {kind}, .* Write the rows that you want"):
            open_source(place)
