"""Delta tables: made and inspected without a JVM, written by exactly one process a directory.

A write is an append whose ``userMetadata`` names query, step and batch. Before its first write a `Writer` reads which
steps its directory already has, so a replayed batch writes nothing twice; with one writer a directory that is exact.
Delta's own ``txnAppId`` would do the same and reads the whole state at every commit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, Schema, write_deltalake
from deltalake.exceptions import TableNotFoundError
from deltalake.transaction import AddAction

from schemas import tables
from schemas.contract import Contract
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.stored_formats import COMMIT, KEY
from spinney.storage import charter, step_observer
from spinney.storage.layout import Directory, FleetStore
from spinney.tables.arrow_schemas import arrow_schema

if TYPE_CHECKING:  # commands that only look something up need neither Spark nor Arrow's datasets, which import pandas
    import pyarrow.dataset as ds
    from pyspark.sql import DataFrame, SparkSession

FEW_ROWS = 400_000
"""Of verdicts: so many are brought to the driver and written there."""

HISTORY = 400
"""Commits looked back for the last of each step, before all that the log still has: a month of them."""

REOPEN_SECONDS = 3600.0
"""How long a writer goes on from the version that it opened. An append reads what was committed since, by Spark or by
`tidy`; that may be in the log no more once it is older than `delta.logRetentionDuration`."""

PROPERTIES = {
    # A checkpoint of the log is a pause of seconds in a streaming batch; maintenance makes them in its own time.
    "delta.checkpointInterval": "200",
    "delta.logRetentionDuration": "interval 30 days",
}


def create_tables(config: Config) -> list[str]:
    """Make the directories that are not there. Returns the names of those made; safe to repeat.

    A table that was made by an earlier version gets the columns of ours that have come since, null in its rows.

    Raises StoreError when a table is there with other columns, or something fixed was changed.
    """
    charter.ensure_kept(config)
    store = FleetStore.of(config)
    made = []
    for directory in store.every_directory():
        table = opened(directory)
        if table is None:
            _create(directory)
            made.append(directory.name)
            continue
        _refuse_other_columns(store, directory, table)
        _add_new_columns(directory, table)
    return made


def _create(directory: Directory) -> None:
    DeltaTable.create(
        directory.uri,
        Schema.from_arrow(arrow_schema(directory.contract)),
        mode="ignore",
        partition_by=list(directory.contract.partitioned_by) or None,
        configuration=dict(PROPERTIES),
        storage_options=dict(directory.storage_options) or None,
    )


def _new_columns(directory: Directory, table: DeltaTable) -> list[Field]:
    """Nullable columns of the table's own contract, none of a fleet's, that this table does not have."""
    there = {each.name for each in table.schema().fields}
    base = next(each for each in tables.ALL if each.name == directory.contract.name)
    ours = {each.name for each in base.columns if each.nullable}
    fields = Schema.from_arrow(arrow_schema(directory.contract)).fields
    return [each for each in fields if each.name in ours and each.name not in there]


def _add_new_columns(directory: Directory, table: DeltaTable) -> None:
    if new := _new_columns(directory, table):
        table.alter.add_columns(new)


def _refuse_other_columns(store: FleetStore, directory: Directory, table: DeltaTable) -> None:
    new = {each.name for each in _new_columns(directory, table)}
    retired = charter.retired(store) if directory.contract.name == tables.EVENTS.name else {}
    there = {each.name: each.type for each in table.schema().fields if each.name not in retired}
    fields = Schema.from_arrow(arrow_schema(directory.contract)).fields
    wanted = {each.name: each.type for each in fields if each.name not in new}
    if there == wanted:
        return
    missing = [name for name in wanted if name not in there]
    extra = [name for name in there if name not in wanted]
    other = [name for name in wanted if name in there and there[name] != wanted[name]]
    of_types = ", ".join(f"{name} {_said(there[name])} there, {_said(wanted[name])} declared" for name in other)
    msg = (
        f"table {directory.name} at {directory.uri}: its columns are not those of the configuration "
        f"(not in the table: {', '.join(missing) or 'none'}; not declared: {', '.join(extra) or 'none'}; "
        f"of another type: {of_types or 'none'}). A fleet's columns are fixed when its tables are made: restore "
        "[fleet.columns], or give the new fleet another storage.root"
    )
    raise StoreError(msg)


def _said(kind: Any) -> str:
    """A type's name, as far as it has a short one."""
    return str(getattr(kind, "type", kind))


def opened(directory: Directory) -> DeltaTable | None:
    """The table as it stands, or None when it was never made."""
    try:
        return DeltaTable(directory.uri, storage_options=dict(directory.storage_options) or None)
    except TableNotFoundError:
        return None


def dataset(table: DeltaTable) -> ds.Dataset:
    """The table for Arrow to read."""
    from spinney.tables import table_files  # not needed to look something up, and it imports pandas

    return table_files.dataset(table)


def version(directory: Directory) -> int:
    """Its newest version. Raises StoreError when the table was never made."""
    return int(existing(directory).version())


def existing(directory: Directory) -> DeltaTable:
    """A directory as it is now. Raises StoreError when it was never made."""
    table = opened(directory)
    if table is None:
        raise not_made(directory)
    return table


def not_made(directory: Directory) -> StoreError:
    """What is raised for a table that was never made."""
    return StoreError(f"table {directory.name}: nothing at {directory.uri}; run `spinney init` first")


def read(
    store: FleetStore, base: Contract, columns: list[str] | None = None, where: ds.Expression | None = None
) -> pa.Table:
    """A table as Arrow, all its directories: whole, or some of it. Spark reads the large ones.

    Raises StoreError when one was never made.
    """
    parts = []
    for directory in store.directories(base):
        part = dataset(existing(directory)).to_table(columns, filter=where)
        wanted = arrow_schema(directory.contract)
        names = columns or wanted.names
        parts.append(pa.table([part.column(name).cast(wanted.field(name).type) for name in names], names=names))
    return pa.concat_tables(parts)


def frame(spark: SparkSession, directory: Directory, at: int | None = None) -> DataFrame:
    """A directory as a Spark frame. at: its version; None: the newest."""
    reader = spark.read.format("delta")
    if at is not None:
        reader = reader.option("versionAsOf", at)
    return reader.load(directory.uri)


def pins(store: FleetStore, *bases: Contract) -> dict[str, int]:
    """Directory name -> its version now, for every directory of these tables."""
    return {each.name: version(each) for base in bases for each in store.directories(base)}


@dataclass(frozen=True)
class Commit:
    """What the last commit of a step said of itself. notes: what the writer added.

    part: of a step that is written in parts, from 0 on.
    """

    query: str
    step: str
    batch_id: int
    checkpoint: str
    notes: Mapping[str, Any]
    part: int = 0


class Writer:
    """The one writer of a directory, for one query.

    checkpoint: the id of the query's checkpoint; batch ids mean nothing outside it.
    """

    def __init__(self, directory: Directory, query: str, checkpoint: str) -> None:
        self._directory = directory
        self._open()
        self._query = query
        self._checkpoint = checkpoint
        self._last: dict[str, Commit] = {}
        self._look_back(HISTORY)
        if not self._last:
            self._look_back(None)

    def _open(self) -> None:
        self._table, self._opened_at = existing(self._directory), time.monotonic()

    def _look_back(self, commits: int | None) -> None:
        """Read the last commit of each step out of so many of the newest; None: all that there are."""
        entries = self._table.history(commits)
        self._saw_all = commits is None or len(entries) < commits
        for entry in entries:
            commit = _commit(entry.get("userMetadata"), f"table {self.name}, version {entry.get('version')}")
            if commit is not None and commit.query == self._query:
                self._last.setdefault(commit.step, commit)
        foreign = [commit for commit in self._last.values() if commit.checkpoint != self._checkpoint]
        if foreign:
            raise StoreError(
                f"query {self._query}: table {self.name} was written from checkpoint {foreign[0].checkpoint} "
                f"(up to batch {foreign[0].batch_id}), but the query's checkpoint now is {self._checkpoint}. Going on "
                "would store records twice or skip some. Put the checkpoint back, or start the fleet anew under "
                "another storage.root"
            )

    @property
    def name(self) -> str:
        return self._directory.name

    def done(self, step: str, batch_id: int, part: int = 0) -> bool:
        """Whether this step of this batch is already stored; parts are written in their order."""
        commit = self.last(step)
        return commit is not None and (batch_id, part) <= (commit.batch_id, commit.part)

    def last(self, step: str) -> Commit | None:
        """The newest commit of a step; None when it was never written."""
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
        """Append the rows unless the step is stored already; whether anything was written.

        rows: a Spark frame, or what is small as an Arrow table: that takes milliseconds in place of some hundred.
        """
        if self.done(step, batch_id, part):
            return False
        commit = Commit(self._query, step, batch_id, self._checkpoint, dict(notes or {}), part)
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
        """Commit Parquet files that lie in the directory already, unless the step is stored; whether it was done."""
        if self.done(step, batch_id, part):
            return False
        commit = Commit(self._query, step, batch_id, self._checkpoint, dict(notes or {}), part)
        contract = self._directory.contract
        self._reopen_if_old()
        self._table.update_incremental()
        self._table.create_write_transaction(
            list(files),
            "append",
            Schema.from_arrow(arrow_schema(contract)),
            list(contract.partitioned_by) or None,
            commit_properties=_properties(commit),
        )
        self._stored(commit)
        return True

    def _stored(self, commit: Commit) -> None:
        self._last[commit.step] = commit
        part = f".{commit.part}" if commit.part else ""
        step_observer.announce(f"{self._query}.{commit.step}{part}", commit.batch_id)

    def _as_declared(self, rows: DataFrame) -> DataFrame:
        from pyspark.sql import functions as F

        return rows.select(*(F.col(each.name).cast(each.type) for each in self._directory.contract.columns))

    def _append_spark(self, rows: DataFrame, commit: Commit) -> None:
        (
            self._as_declared(rows)
            .write.format("delta")
            .mode("append")
            .option("userMetadata", _text(commit))
            .save(self._directory.uri)
        )

    def _reopen_if_old(self) -> None:
        if time.monotonic() - self._opened_at > REOPEN_SECONDS:
            self._open()

    def _append_arrow(self, rows: pa.Table, commit: Commit) -> None:
        self._reopen_if_old()
        mine = rows.select(self._directory.contract.names).cast(arrow_schema(self._directory.contract))
        write_deltalake(
            self._table,
            _with_nulls(mine, self._table),
            mode="append",
            commit_properties=_properties(commit),
        )


def _with_nulls(rows: pa.Table, table: DeltaTable) -> pa.Table:
    """The rows with the columns that the table has and the configuration no longer: null."""
    for each in pa.schema(table.schema().to_arrow(as_large_types=False)):
        if each.name not in rows.column_names:
            rows = rows.append_column(each, pa.nulls(rows.num_rows, each.type))
    return rows


def _properties(commit: Commit) -> CommitProperties:
    """The same field of the log that Spark's option writes."""
    return CommitProperties(custom_metadata={"userMetadata": _text(commit)})


def _text(commit: Commit) -> str:
    return json.dumps({KEY: COMMIT.version, **commit.__dict__}, separators=(",", ":"), default=str)


def _commit(text: str | None, where: str) -> Commit | None:
    """A commit's own words; None for a commit that is nobody's step (creation, compaction). Raises UnknownFormat."""
    try:
        said = json.loads(text or "")
        if isinstance(said, dict) and "query" in said:  # others are not ours
            COMMIT.check_object(said, where)
        named = (said["query"], said["step"], int(said["batch_id"]), said["checkpoint"])
        return Commit(*named, said.get("notes", {}), int(said.get("part", 0)))
    except (ValueError, KeyError, TypeError):
        return None
