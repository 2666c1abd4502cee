"""Rewrite files of a table into new ones, optionally sorted, in bounded memory, with one commit.

Rewriting changes no row (`dataChange=false`), so streams do not see it, unless rows are dropped. New files are first
written into a folder that readers ignore. Only `commit_rewrite` needs the directory's lock: it moves the files to their
final place, which takes milliseconds.

Why a lock: deltalake 1.6 commits on a local disk by link(2), which never replaces a file. Spark's HDFSLogStore, which
Delta 4.4 uses there, checks whether the file exists and then renames over it. A commit that another writer makes
between these two steps is lost silently.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema
from deltalake.transaction import AddAction, RemoveAction

from spinney.core.errors import StoreError
from spinney.tables.clustered_files import external_sort
from spinney.tables.clustered_files.sorted_file_writing import FileWriter, WrittenFile
from spinney.tables.table_files import TableFile, arrow_schema_of, list_files, table_folder

WORK = "_rewriting"
"""Name of a folder below the table's folder. Readers of Delta and Parquet ignore names that begin with an underscore.
"""


class RewriteInterrupted(Exception):  # noqa: N818
    """The rewrite was interrupted because the process is stopping. Nothing was changed."""


@dataclass(frozen=True)
class RewriteSource:
    """Files to be rewritten together.

    is_sorted: their rows, file after file, are one sorted sequence. drop: path -> shape (n_rows,): which rows of the
    file to leave out.
    """

    files: tuple[TableFile, ...]
    is_sorted: bool = False
    drop: Mapping[str, pa.BooleanArray] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """Number of rows that are left out."""
        return sum(mask.true_count for mask in self.drop.values())


@dataclass(frozen=True)
class RewriteTarget:
    """The form of the new files.

    sort_by: columns; empty to keep the order. prefix: of the files' names. schema: None for the table's schema.
    old_names: column -> its name in the old files, for columns that are renamed.
    """

    sort_by: tuple[str, ...]
    prefix: str
    schema: pa.Schema | None = None
    old_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewrite:
    """New files, ready to replace the old ones, all of one partition. dropped: number of rows left out."""

    old: tuple[TableFile, ...]
    new: tuple[WrittenFile, ...]
    partition: dict[str, str | None] = field(default_factory=dict)
    dropped: int = 0

    @property
    def rows(self) -> int:
        """Rows of the new files."""
        return sum(file.rows for file in self.new)


@contextmanager
def workspace(table: DeltaTable) -> Iterator[Path]:
    """Provide an empty hidden folder for new files; remove it afterwards.

    The caller must hold the directory's lease.
    """
    place = table_folder(table) / WORK
    shutil.rmtree(place, ignore_errors=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def rewrite(
    table: DeltaTable,
    sources: Sequence[RewriteSource],
    target: RewriteTarget,
    place: Path,
    interrupted: Callable[[], bool],
) -> Rewrite:
    """Write the rows of these files, all of one partition, into new files; nothing is committed.

    place: the folder for new files, from `workspace`. interrupted: called between batches.

    Raises RewriteInterrupted once it returns true, StoreError if the number of rows differs.
    """
    old = tuple(file for source in sources for file in source.files)
    partitions = {tuple(file.partition.items()) for file in old}
    if len(partitions) != 1:
        raise StoreError(f"table at {table_folder(table)}: expected files of one partition; got {len(partitions)}")
    schema = target.schema or arrow_schema_of(table)
    schema = pa.schema([field for field in schema if field.name not in old[0].partition])
    inputs = [_SourceReader(table_folder(table), source, schema, target.old_names) for source in sources]
    # The random part keeps the names of several rewrites apart.
    writer = FileWriter(place, f"{target.prefix}{uuid.uuid4().hex[:12]}", schema)
    if target.sort_by:
        ordered = [source.batches() for source in inputs if source.is_sorted]
        loose = (batch for source in inputs if not source.is_sorted for batch in source.batches())
        merged = external_sort.merge_sorted(ordered, loose, target.sort_by, place / uuid.uuid4().hex)
    else:
        merged = (batch for source in inputs for batch in source.batches())
    with writer:
        for part in merged:
            if interrupted():
                raise RewriteInterrupted
            writer.write(part)
    dropped = sum(source.dropped for source in sources)
    expected, new = sum(source.rows for source in inputs) - dropped, tuple(writer.written)
    written = sum(file.rows for file in new)
    if expected != written:
        raise StoreError(
            f"table at {table_folder(table)}: {expected} rows of {len(old)} files became {written} rows of {len(new)} "
            "new ones; nothing was changed. This is a fault of Spinney; please report it"
        )
    return Rewrite(old, new, {name: _partition_text(value) for name, value in old[0].partition.items()}, dropped)


def _partition_text(value: Any) -> str | None:
    """A partition's value as the log has it. In this project's tables partitions are dates."""
    return None if value is None else str(value)


class _SourceReader:
    """Reads the rows of a source, a few megabytes at a time. rows: number of rows in its files."""

    BATCH_BYTES = 4 * 1024**2

    def __init__(self, base: Path, source: RewriteSource, schema: pa.Schema, old_names: Mapping[str, str]) -> None:
        self._files = [base / file.path for file in source.files]
        self._drop = {base / path: mask for path, mask in source.drop.items()}
        self._schema = schema
        self._names = {field.name: old_names.get(field.name, field.name) for field in schema}
        self.is_sorted = source.is_sorted
        self.rows = sum(pq.read_metadata(file).num_rows for file in self._files)

    def batches(self) -> Iterator[pa.Table]:
        for file in self._files:
            # Spark writes times as INT96, which would become nanoseconds. pre_buffer keeps a whole file in memory.
            with pq.ParquetFile(file, coerce_int96_timestamp_unit="us", pre_buffer=False) as opened:
                meta = opened.metadata
                size = sum(meta.row_group(at).total_byte_size for at in range(meta.num_row_groups))
                rows = int(self.BATCH_BYTES * max(meta.num_rows, 1) / max(size, 1))
                drop, at = self._drop.get(file), 0
                for batch in opened.iter_batches(min(max(rows, 1), 65_536), use_threads=False):
                    read = self._as_declared(pa.Table.from_batches([batch]), file)
                    yield read if drop is None else read.filter(pc.invert(drop.slice(at, len(read))))
                    at += len(read)

    def _as_declared(self, rows: pa.Table, file: Path) -> pa.Table:
        """Cast to the target's schema: a file may store texts as views, or lack a column that was added later.

        Raises StoreError for a value that cannot be cast exactly.
        """
        columns = []
        for column in self._schema:
            name = self._names[column.name]
            if name not in rows.schema.names:
                columns.append(pa.chunked_array([pa.nulls(len(rows), column.type)]))
                continue
            try:
                columns.append(rows.column(name).cast(column.type))
            except pa.ArrowInvalid as error:
                raise StoreError(
                    f"{file}: column {name}: expected values that are exact as {column.type}; got one that is not: "
                    f"{error}. Nothing was changed"
                ) from error
        return pa.table(columns, schema=self._schema)


def commit_rewrite(table: DeltaTable, prepared: Rewrite, reason: str) -> bool:
    """Replace the old files by the new ones in one commit; return whether it was done.

    It is not done if an old file is no longer part of the table. The caller must keep other writers from committing
    meanwhile. reason: for the log.
    """
    table.update_incremental()
    current = set(pa.table(table.get_add_actions(flatten=True)).column("path").to_pylist())
    if not current.issuperset(file.path for file in prepared.old):
        return False
    now, changes = int(time.time() * 1000), prepared.dropped > 0
    actions: list[AddAction | RemoveAction] = [*_put_in_place(table, prepared, now)]
    actions += [RemoveAction(file.path, changes, now, file.bytes, prepared.partition) for file in prepared.old]
    table.create_write_transaction(
        actions,
        "append",
        table.schema(),
        list(prepared.partition) or None,
        commit_properties=CommitProperties(custom_metadata={"userMetadata": json.dumps({"rewritten": reason})}),
        # A checkpoint of the log takes longer than the commit; `checkpoint_if_due` makes it without the lock.
        post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
    )
    return True


def _put_in_place(table: DeltaTable, prepared: Rewrite, now: int) -> Iterator[AddAction]:
    """Move the new files to their final names and yield the actions that add them. now: milliseconds since 1970."""
    below = Path(prepared.old[0].path).parent
    for file in prepared.new:
        name = str(below / file.path.name)
        file.path.rename(table_folder(table) / name)
        yield AddAction(name, file.bytes, prepared.partition, now, prepared.dropped > 0, json.dumps(file.stats))


def commit_full_rewrite(
    table: DeltaTable, prepared: Sequence[Rewrite], schema: pa.Schema, notes: Mapping[str, Any]
) -> None:
    """Replace all files of the table by new ones, with another schema, in one commit.

    schema: the table's new one. notes: for the log. The caller must hold the directory's lease. Raises StoreError when
    the table's files are not exactly those that were rewritten.
    """
    current = {file.path for file in list_files(table)}
    old = {file.path for rewrite in prepared for file in rewrite.old}
    if current != old:
        raise StoreError(
            f"table at {table_folder(table)}: expected the {len(old)} files that were rewritten; got {len(current)}, "
            "since another process wrote meanwhile. Nothing was changed; run it again"
        )
    now = int(time.time() * 1000)
    actions = [action for rewrite in prepared for action in _put_in_place(table, rewrite, now)]
    table.create_write_transaction(
        actions,
        "overwrite",
        Schema.from_arrow(schema),
        list(table.metadata().partition_columns) or None,
        commit_properties=CommitProperties(custom_metadata={"userMetadata": json.dumps(dict(notes))}),
        post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
    )


def checkpoint_if_due(table: DeltaTable) -> None:
    """Make the log's checkpoint, which `commit_rewrite` omits, if the table's interval is reached."""
    table.update_incremental()
    every = int(table.metadata().configuration.get("delta.checkpointInterval", "10"))
    if table.version() and table.version() % every == 0:
        table.create_checkpoint()
