"""What Arrow IPC, Feather, ORC and Parquet files are refused for, and how their rows are cut into batches."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc, orc

from spinney.core.errors import ContractError
from spinney.sources import ColumnSelection, ReadOptions, open_source
from spinney.sources.columnar.typed_files import BATCH_ROWS

FAR = pa.array([datetime(9999, 12, 31, 23, 59, 59), None], pa.timestamp("us"))  # noqa: DTZ001


def only(*names: str) -> ReadOptions:
    return ReadOptions(selection=ColumnSelection(names, is_exclusive=True))


def rows(path: Path, options: ReadOptions | None = None) -> list[dict[str, object]]:
    batches = [batch.columns for batch in open_source(path, options).batches()]
    return [row for batch in batches if batch is not None for row in batch.to_pylist()]


def write_arrow(table: pa.Table, path: Path) -> Path:
    with ipc.new_file(path, table.schema) as out:
        out.write_table(table)
    return path


def write_stream(table: pa.Table, path: Path) -> Path:
    with ipc.new_stream(path, table.schema) as out:
        out.write_table(table)
    return path


def write_orc(table: pa.Table, path: Path) -> Path:
    orc.write_table(table, path)
    return path


def test_a_time_that_arrow_cannot_read_from_orc_is_refused_by_its_column(tmp_path: Path) -> None:
    path = write_orc(pa.table({"a": [1, 2], "ended": FAR.slice(1).take([0, 0]), "valid_to": FAR}), tmp_path / "a.orc")
    with pytest.raises(ContractError, match=r"a\.orc: column valid_to: expected times from 1677.*Write the rows"):
        rows(path)
    assert rows(path, only("a", "ended")) == [{"a": 1, "ended": None}, {"a": 2, "ended": None}]


@pytest.mark.parametrize("write", [write_arrow, write_stream, write_orc])
def test_a_large_batch_of_a_file_is_read_in_parts_and_row_numbers_go_on(
    tmp_path: Path, write: Callable[[pa.Table, Path], Path]
) -> None:
    name = {write_arrow: "a.arrow", write_stream: "a.arrows", write_orc: "a.orc"}[write]
    n = pa.array(range(BATCH_ROWS + 5), pa.int32())
    source = open_source(write(pa.table({"n": n, "m": n}), tmp_path / name), only("n"))
    batches = list(source.batches())
    assert len(batches) > 1
    assert max(map(len, batches)) <= BATCH_ROWS
    read = [int(value) for batch in batches for value in (batch.columns or pa.record_batch({})).column("n").to_numpy()]
    assert read == list(range(BATCH_ROWS + 5))
    assert [number for batch in batches for number in batch.numbers] == list(range(1, BATCH_ROWS + 6))
    assert source.rows == BATCH_ROWS + 5 or not source.is_exact


@pytest.mark.parametrize("name", ["a.arrow", "a.arrows", "a.feather", "a.ipc", "a.orc", "a.parquet"])
def test_a_text_with_the_ending_of_a_format_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("store,id\na,1\n" * 20)
    with pytest.raises(ContractError, match=rf"{name}: expected an? (Arrow IPC|ORC|Parquet) file; got: "):
        open_source(tmp_path / name)


def test_an_arrow_file_that_was_cut_off_is_refused_before_any_row_is_read(tmp_path: Path) -> None:
    path = write_arrow(pa.table({"a": [1, 2]}), tmp_path / "a.arrow")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ContractError, match="expected an Arrow IPC file; got: "):
        open_source(path)


def test_feather_of_version_1_is_refused_with_the_way_to_write_it_again(tmp_path: Path) -> None:
    (tmp_path / "a.feather").write_bytes(b"FEA1" + bytes(60) + b"FEA1")
    with pytest.raises(ContractError, match=r"expected Feather of version 2; got version 1.*write_feather"):
        open_source(tmp_path / "a.feather")


def test_columns_of_arrow_with_one_name_are_left_out_and_reported(tmp_path: Path) -> None:
    table = pa.table([pa.array([1]), pa.array([2]), pa.array(["x"])], ["a", "b", "a"])
    source = open_source(write_arrow(table, tmp_path / "a.arrow"))
    assert source.columns == {"b": pa.int64()}
    assert source.notes == (
        "column a: left out, since several columns have this name. Rename them in the file to use them",
    )
    assert rows(tmp_path / "a.arrow") == [{"b": 2}]


@pytest.mark.parametrize("name", ["box.n", "box.n.m"])
def test_a_path_to_a_field_that_an_object_has_twice_is_refused(tmp_path: Path, name: str) -> None:
    box = pa.StructArray.from_arrays([pa.array([{"m": 1}]), pa.array([{"m": 2}])], ["n", "n"])
    pq.write_table(pa.table({"box": box, "a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ContractError, match=rf"a\.parquet: column {name}: expected box\.n once in its object"):
        open_source(tmp_path / "a.parquet", only(name))
    assert rows(tmp_path / "a.parquet", only("a")) == [{"a": 1}]
    assert rows(tmp_path / "a.parquet") == [{"box": None, "a": 1}]


def test_a_file_of_arrow_without_rows_has_its_columns(tmp_path: Path) -> None:
    schema = pa.schema({"id": pa.uuid(), "x": pa.string_view()})
    source = open_source(write_arrow(schema.empty_table(), tmp_path / "a.arrow"))
    assert (source.columns, source.rows) == ({"id": pa.string(), "x": pa.string()}, 0)
    assert rows(tmp_path / "a.arrow") == []
