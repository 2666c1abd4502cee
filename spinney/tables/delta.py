"""Create, read and append to Delta tables without a JVM. Each directory is written by one process.

A write is an append whose ``userMetadata`` names query, step and batch. A `DirectoryWriter` first reads which steps its
directory has, so a replayed batch writes nothing twice; with one writer per directory that is exact. Delta's own
``txnAppId`` would do the same, but it reads the table's whole state at every commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import TableNotFoundError
from deltalake.transaction import AddAction

from schemas import tables
from schemas.contract import Contract
from spinney.core.errors import StoreError
from spinney.storage import charter, step_observer
from spinney.storage.layout import Directory, FleetStore
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.step_commits import StepCommit, commit_properties, encode_commit, read_steps

if TYPE_CHECKING:  # commands that only look something up need neither Spark nor Arrow's datasets, which import pandas
    import pyarrow.dataset as ds
    from pyspark.sql import DataFrame, SparkSession

FEW_ROWS = 400_000
"""Verdicts up to this number are collected by the driver and written from there."""

HISTORY_COMMITS = 400
"""Number of newest commits that are searched for the last commit of each step.

If it is not among them, all commits in the log are searched: about a month.
"""

REOPEN_AFTER_S = 3600.0
"""A writer reopens its table after this time, in seconds.

An append reads the commits made since then by Spark or `spinney tidy`, and those older than
`delta.logRetentionDuration` may have been removed from the log.
"""

REOPEN_AFTER_COMMITS = 50
"""A writer reopens its table after this many commits by any process.

With each commit an append takes 0.12 ms of CPU longer, and the table 90 kB more memory, until it is opened again.
"""

TABLE_PROPERTIES = {
    # A checkpoint of the log takes seconds, in a streaming batch; maintenance makes them while no batch waits.
    "delta.checkpointInterval": "200",
    "delta.logRetentionDuration": "interval 30 days",
}


def create_tables(store: FleetStore) -> list[str]:
    """Create the tables that do not exist; return the names of the created directories. Safe to repeat.

    A table created by an earlier version of Spinney gets the new columns, null in its rows. Raises StoreError if a
    table has other columns than the configuration, or a fixed setting was changed.
    """
    charter.check_unchanged(store)
    made = []
    for directory in store.every_directory():
        table = open_table(directory)
        if table is None:
            _create_table(directory)
            made.append(directory.name)
            continue
        _refuse_other_columns(store, directory, table)
        add_new_columns(directory, table)
    return made


def _create_table(directory: Directory) -> None:
    DeltaTable.create(
        directory.uri,
        Schema.from_arrow(arrow_schema(directory.contract)),
        mode="ignore",
        partition_by=list(directory.contract.partitioned_by) or None,
        configuration=dict(TABLE_PROPERTIES),
        storage_options=dict(directory.storage_options) or None,
    )


def _new_columns(directory: Directory, table: DeltaTable) -> list[Field]:
    """Return the contract's own columns that this table lacks, without the columns that the fleet's configuration
    declares.
    """
    existing = {field.name for field in table.schema().fields}
    base = next(contract for contract in tables.ALL if contract.name == directory.contract.name)
    ours = {column.name for column in base.columns if column.nullable}
    fields = Schema.from_arrow(arrow_schema(directory.contract)).fields
    return [field for field in fields if field.name in ours and field.name not in existing]


def add_new_columns(directory: Directory, table: DeltaTable) -> None:
    """Give a table that an earlier version of Spinney created the new columns, null in its rows."""
    if new := _new_columns(directory, table):
        table.alter.add_columns(new)


def _refuse_other_columns(store: FleetStore, directory: Directory, table: DeltaTable) -> None:
    new = {field.name for field in _new_columns(directory, table)}
    retired = charter.retired_columns_of(store) if directory.contract.name == tables.EVENTS.name else {}
    existing = {field.name: field.type for field in table.schema().fields if field.name not in retired}
    fields = Schema.from_arrow(arrow_schema(directory.contract)).fields
    wanted = {field.name: field.type for field in fields if field.name not in new}
    if existing == wanted:
        return
    missing = [name for name in wanted if name not in existing]
    extra = [name for name in existing if name not in wanted]
    other = [name for name in wanted if name in existing and existing[name] != wanted[name]]
    of_types = ", ".join(
        f"{name} {_type_name(existing[name])} there, {_type_name(wanted[name])} declared" for name in other
    )
    msg = (
        f"table {directory.name} at {directory.uri}: its columns are not those of the configuration "
        f"(not in the table: {', '.join(missing) or 'none'}; not declared: {', '.join(extra) or 'none'}; "
        f"of another type: {of_types or 'none'}). A fleet's columns are fixed when its tables are made: restore "
        "[fleet.columns], or give the new fleet another storage.root"
    )
    raise StoreError(msg)


def _type_name(kind: Any) -> str:
    """Return the short name of a Delta type, or its text."""
    return str(getattr(kind, "type", kind))


def open_table(directory: Directory) -> DeltaTable | None:
    """Return the newest version of a directory's table; None if it does not exist."""
    try:
        return DeltaTable(directory.uri, storage_options=dict(directory.storage_options) or None)
    except TableNotFoundError:
        return None


def open_dataset(table: DeltaTable) -> ds.Dataset:
    """Return the table as an Arrow dataset."""
    from spinney.tables import table_files  # not needed to look something up, and it imports pandas

    return table_files.open_dataset(table)


def open_contract_dataset(directory: Directory, table: DeltaTable) -> ds.Dataset:
    """Return the opened table as an Arrow dataset with every column of the contract.

    A table of an earlier version lacks columns that came later, until a process that writes it adds them. They are
    null here.
    """
    return with_contract_columns(directory, open_dataset(table))


def with_contract_columns(directory: Directory, dataset: ds.Dataset) -> ds.Dataset:
    """Return a dataset of some files of a directory with every column of the contract; null where a file lacks it."""
    missing = [field for field in arrow_schema(directory.contract) if field.name not in dataset.schema.names]
    return dataset.replace_schema(pa.schema([*dataset.schema, *missing])) if missing else dataset


def current_version(directory: Directory) -> int:
    """Return the number of the newest version. Raises StoreError if the table does not exist."""
    return int(open_existing(directory).version())


def open_existing(directory: Directory) -> DeltaTable:
    """Return the newest version of a directory's table. Raises StoreError if it does not exist."""
    table = open_table(directory)
    if table is None:
        raise StoreError(f"table {directory.name}: nothing at {directory.uri}; run `spinney init` first")
    return table


def read_table(
    store: FleetStore,
    base: Contract,
    columns: list[str] | None = None,
    where: ds.Expression | None = None,
    opener: Callable[[Directory], DeltaTable] = open_existing,
) -> pa.Table:
    """Return the rows of all directories of a table, in no order. For small tables: Spark reads large ones.

    columns: None for all. where: None for all rows. opener: opens the newest version of a directory's table. Raises
    StoreError if a directory does not exist.
    """
    parts = []
    for directory in store.directories(base):
        part = open_contract_dataset(directory, opener(directory)).to_table(columns, filter=where)
        wanted = arrow_schema(directory.contract)
        names = columns or wanted.names
        parts.append(pa.table([part.column(name).cast(wanted.field(name).type) for name in names], names=names))
    return pa.concat_tables(parts)


def spark_frame(spark: SparkSession, directory: Directory, at: int | None = None) -> DataFrame:
    """Return a directory as a Spark frame. at: a version; None for the newest."""
    reader = spark.read.format("delta")
    if at is not None:
        reader = reader.option("versionAsOf", at)
    return reader.load(directory.uri)


def pin_versions(store: FleetStore, *bases: Contract) -> dict[str, int]:
    """Return the newest version of every directory of these tables, by the directory's name."""
    return {directory.name: current_version(directory) for base in bases for directory in store.directories(base)}


def read_last_step(directory: Directory) -> StepCommit | None:
    """Return the newest step in a directory's log, from whichever checkpoint it was written; None without any.

    Raises StoreError if the table does not exist, UnknownFormat.
    """
    table = open_existing(directory)
    for commits in (1, HISTORY_COMMITS, None):  # the newest commit is a step, unless the directory was tidied since
        for commit in read_steps(directory, table.history(commits)):
            return commit
    return None


class DirectoryWriter:
    """Appends the steps of one query to a directory, each once.

    checkpoint: id of the query's checkpoint, within which batch ids are unique. Raises StoreError when the table was
    never made, or was written by this query from another checkpoint.
    """

    def __init__(self, directory: Directory, query: str, checkpoint: str) -> None:
        self._directory = directory
        self._open()
        self._query = query
        self._checkpoint = checkpoint
        self._last: dict[str, StepCommit] = {}
        self._look_back(HISTORY_COMMITS)
        if not self._last:
            self._look_back(None)

    def _open(self) -> None:
        self._table, self._opened_at = open_existing(self._directory), time.monotonic()
        self._opened_version = int(self._table.version())

    def _look_back(self, commits: int | None) -> None:
        """Read the last commit of each step. commits: how many of the newest to search; None for all."""
        entries = self._table.history(commits)
        self._saw_all = commits is None or len(entries) < commits
        for commit in read_steps(self._directory, entries):
            if commit.query == self._query:
                self._last.setdefault(commit.step, commit)
        foreign = [commit for commit in self._last.values() if commit.checkpoint != self._checkpoint]
        if foreign:
            raise StoreError(
                f"query {self._query}: table {self.name} was written from checkpoint {foreign[0].checkpoint} "
                f"(up to batch {foreign[0].batch_id}), but the query's checkpoint now is {self._checkpoint}. "
                "Continuing would store records twice or skip some. Put the checkpoint back, or start the fleet again "
                "under another storage.root"
            )

    @property
    def name(self) -> str:
        """The directory's name."""
        return self._directory.name

    def is_stored(self, step: str, batch_id: int, part: int = 0) -> bool:
        """Whether this step of this batch is stored. Parts are written in order, so a later one implies the earlier."""
        commit = self.last_commit(step)
        return commit is not None and (batch_id, part) <= (commit.batch_id, commit.part)

    def last_commit(self, step: str) -> StepCommit | None:
        """Return the newest commit of a step; None when it was never written."""
        if step not in self._last and not self._saw_all:
            self._look_back(None)
        return self._last.get(step)

    def append(
        self,
        rows: DataFrame | pa.Table,
        *,
        step: str,
        batch_id: int,
        part: int = 0,
        notes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Append the rows unless the step is stored; return whether anything was written.

        rows: a Spark frame is written by Spark's tasks, so that its rows never reach the driver. An Arrow table is
        written by delta-rs within milliseconds; a Spark job would take a tenth of a second or more.
        """
        if self.is_stored(step, batch_id, part):
            return False
        commit = StepCommit(self._query, step, batch_id, self._checkpoint, dict(notes or {}), part)
        if isinstance(rows, pa.Table):
            self._append_arrow(rows, commit)
        else:
            self._append_spark(rows, commit)
        self._stored(commit)
        return True

    def append_files(
        self,
        files: Sequence[AddAction],
        *,
        step: str,
        batch_id: int,
        part: int = 0,
        notes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Commit Parquet files that are in the directory, unless the step is stored; return whether it was done."""
        if self.is_stored(step, batch_id, part):
            return False
        self._commit_files(files, StepCommit(self._query, step, batch_id, self._checkpoint, dict(notes or {}), part))
        return True

    def append_unrepeated_files(self, files: Sequence[AddAction], step: str) -> None:
        """Commit Parquet files as a step that is never replayed. Its batch id is the version of the table that this
        writer opened.

        So the log, which may be long, is not searched for an earlier commit of the step.
        """
        self._commit_files(files, StepCommit(self._query, step, int(self._table.version()), self._checkpoint, {}))

    def _commit_files(self, files: Sequence[AddAction], commit: StepCommit) -> None:
        contract = self._directory.contract
        self._reopen_if_old()
        self._table.update_incremental()
        self._table.create_write_transaction(
            list(files),
            "append",
            Schema.from_arrow(arrow_schema(contract)),
            list(contract.partitioned_by) or None,
            commit_properties=commit_properties(commit),
        )
        self._stored(commit)

    def _stored(self, commit: StepCommit) -> None:
        self._last[commit.step] = commit
        part = f".{commit.part}" if commit.part else ""
        step_observer.announce(f"{self._query}.{commit.step}{part}", commit.batch_id)

    def _as_declared(self, rows: DataFrame) -> DataFrame:
        from pyspark.sql import functions as F

        return rows.select(*(F.col(column.name).cast(column.type) for column in self._directory.contract.columns))

    def _append_spark(self, rows: DataFrame, commit: StepCommit) -> None:
        (
            self._as_declared(rows)
            .write.format("delta")
            .mode("append")
            .option("userMetadata", encode_commit(commit))
            .save(self._directory.uri)
        )

    def _reopen_if_old(self) -> None:
        commits = int(self._table.version()) - self._opened_version
        if commits >= REOPEN_AFTER_COMMITS or time.monotonic() - self._opened_at > REOPEN_AFTER_S:
            self._open()

    def _append_arrow(self, rows: pa.Table, commit: StepCommit) -> None:
        from spinney.tables.clustered_files.append_layout import append_rows  # not needed to look something up

        self._reopen_if_old()
        declared = rows.select(self._directory.contract.names).cast(arrow_schema(self._directory.contract))
        append_rows(self._table, _with_retired_columns(declared, self._table), commit_properties(commit))


def _with_retired_columns(rows: pa.Table, table: DeltaTable) -> pa.Table:
    """Return the rows with null in each column that the table has but the configuration no longer declares."""
    for field in pa.schema(table.schema().to_arrow(as_large_types=False)):
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows
