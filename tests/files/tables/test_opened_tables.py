from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from schemas import tables
from spinney.core.errors import StoreError
from spinney.storage.layout import Directory
from spinney.tables.delta import REOPEN_AFTER_S
from spinney.tables.opened_tables import KeptQueries, OpenedTables, query_of


class Clock:
    now = 1e6

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    found = Directory(tables.ROUNDS, "rounds", str(tmp_path / "rounds"))
    add_row(found)
    return found


def add_row(directory: Directory) -> None:
    write_deltalake(directory.uri, pa.table({"n": [1]}), mode="append")


def rows(opened: OpenedTables, directory: Directory) -> int:
    return int(opened.open(directory).count())


def test_a_table_is_opened_once_and_again_after_each_commit(directory: Directory) -> None:
    opened = OpenedTables()
    first = opened.open(directory)
    assert opened.open(directory) is first
    add_row(directory)
    assert rows(opened, directory) == 2
    assert opened.open(directory) is not first
    assert int(first.count()) == 1  # who reads it meanwhile sees one version


def test_commits_that_have_left_the_log_are_not_missed_after_an_hour(directory: Directory) -> None:
    clock = Clock()
    opened = OpenedTables(clock)
    assert rows(opened, directory) == 1
    for _ in range(2):
        add_row(directory)
    DeltaTable(directory.uri).create_checkpoint()
    for version in range(3):
        (Path(directory.uri) / "_delta_log" / f"{version:020d}.json").unlink()
    clock.now += REOPEN_AFTER_S
    assert rows(opened, directory) == 3


def test_a_table_that_is_not_there_is_an_error_each_time(directory: Directory, tmp_path: Path) -> None:
    opened = OpenedTables()
    gone = Directory(tables.MODELS, "models", str(tmp_path / "models"))
    for _ in range(2):
        with pytest.raises(StoreError, match="run `spinney init` first"):
            opened.open(gone)
    shutil.copytree(directory.uri, gone.uri)
    assert rows(opened, gone) == 1


def counted(queries: KeptQueries, table: DeltaTable) -> int:
    result = queries.of(table).execute("SELECT count(*) AS n FROM t")
    return int(pa.RecordBatchReader.from_stream(result).read_all().column("n")[0].as_py())


def test_a_kept_query_answers_again_and_a_newer_table_gets_its_own(directory: Directory) -> None:
    queries, opened = KeptQueries(), OpenedTables()
    first = opened.open(directory)
    assert queries.of(first) is queries.of(first)
    assert [counted(queries, first) for _ in range(2)] == [1, 1]
    add_row(directory)
    assert counted(queries, opened.open(directory)) == 2
    assert counted(queries, first) == 1


def test_a_kept_query_answers_several_threads_at_once(directory: Directory) -> None:
    queries, table = KeptQueries(), OpenedTables().open(directory)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: counted(queries, table), range(40))) == [1] * 40


def all_of(table: DeltaTable, *queries: str) -> pa.Table:
    """What the last of some queries gives."""
    builder = query_of(table)
    assert builder is not None
    return [pa.RecordBatchReader.from_stream(builder.execute(query)).read_all() for query in queries][-1]


def test_a_table_without_files_has_no_query(tmp_path: Path) -> None:
    table = DeltaTable.create(str(tmp_path / "t"), pa.schema([("n", pa.int64())]))
    assert query_of(table) is None
    assert KeptQueries().of(table) is None


@pytest.mark.parametrize(("column", "reads"), [("payload", "true"), ("label", "false")])
def test_the_page_index_is_read_where_rows_have_models_and_may_be_large(tmp_path, column: str, reads: str) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table({"group_key": ["a"], column: [b"1"]}))
    show = "SHOW datafusion.execution.parquet.enable_page_index"
    shown = all_of(DeltaTable(str(tmp_path / "t")), "SET datafusion.catalog.information_schema = true", show)
    assert shown.column("value").to_pylist() == [reads]
