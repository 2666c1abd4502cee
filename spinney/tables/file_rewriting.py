"""Files of a table put together into new ones, sorted if asked, in bounded memory, and committed in one step.

Rewriting changes no row (`dataChange=false`), so streams do not see it, unless rows are to be dropped. New files are
written beside the table's, in a folder whose name hides it from every reader. `commit` alone needs the directory's
lock: it moves them to where the log names them, and takes milliseconds.

Why a lock at all: deltalake 1.6 commits on a local disk by link(2), which never replaces a file. Spark's HDFSLogStore,
which Delta 4.4 uses there, asks whether the file exists and then renames over it: what another writer commits between
these two steps is lost without a word.
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
from spinney.tables import external_sort
from spinney.tables.sorted_files import FileWriter, Written
from spinney.tables.table_files import TableFile, arrow_schema_of, files, folder

WORK = "_rewriting"
"""Below a table's folder. Readers of Delta and Parquet pass over names that begin with an underscore."""


class Interrupted(Exception):  # noqa: N818
    """The process is about to stop; nothing was changed."""


@dataclass(frozen=True)
class Source:
    """Files to be rewritten together.

    is_sorted: their rows, file after file, are one sorted sequence already. drop: path -> of each row in the file
    whether to leave it out.
    """

    files: tuple[TableFile, ...]
    is_sorted: bool = False
    drop: Mapping[str, pa.BooleanArray] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        return sum(mask.true_count for mask in self.drop.values())


@dataclass(frozen=True)
class Target:
    """What the new files are like.

    sort_by: columns, none to keep the rows as they come. prefix: of their names. schema: None for the table's own.
    old_names: of columns that are called otherwise in the files that are there.
    """

    sort_by: tuple[str, ...]
    prefix: str
    schema: pa.Schema | None = None
    old_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewrite:
    """New files, ready to take the place of others; all of one partition."""

    old: tuple[TableFile, ...]
    new: tuple[Written, ...]
    partition: dict[str, str | None] = field(default_factory=dict)
    dropped: int = 0

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.new)


@contextmanager
def workspace(table: DeltaTable) -> Iterator[Path]:
    """A hidden folder for new files, without what a crash left there. Only for whoever holds the directory's lease."""
    place = folder(table) / WORK
    shutil.rmtree(place, ignore_errors=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def rewrite(
    table: DeltaTable, sources: Sequence[Source], target: Target, place: Path, interrupted: Callable[[], bool]
) -> Rewrite:
    """Write the rows of these files, all of one partition, into new files; nothing is committed.

    place: a `workspace`. Raises Interrupted once `interrupted` says so, StoreError when rows got lost on the way.
    """
    old = tuple(file for source in sources for file in source.files)
    partitions = {tuple(file.partition.items()) for file in old}
    if len(partitions) != 1:
        raise StoreError(f"table at {folder(table)}: expected files of one partition; got {len(partitions)}")
    schema = target.schema or arrow_schema_of(table)
    schema = pa.schema([each for each in schema if each.name not in old[0].partition])
    inputs = [_Input(folder(table), source, schema, target.old_names) for source in sources]
    # One folder a rewrite: names of new files are unique, spills are removed when it is done.
    writer = FileWriter(place, f"{target.prefix}{uuid.uuid4().hex[:12]}", schema)
    if target.sort_by:
        ordered = [each.batches() for each in inputs if each.is_sorted]
        loose = (batch for each in inputs if not each.is_sorted for batch in each.batches())
        merged = external_sort.merged(ordered, loose, target.sort_by, place / uuid.uuid4().hex)
    else:
        merged = (batch for each in inputs for batch in each.batches())
    with writer:
        for part in merged:
            if interrupted():
                raise Interrupted
            writer.write(part)
    dropped = sum(source.dropped for source in sources)
    expected, new = sum(each.rows for each in inputs) - dropped, tuple(writer.written)
    if expected != sum(each.rows for each in new):
        raise StoreError(
            f"table at {folder(table)}: {expected} rows of {len(old)} files became {sum(each.rows for each in new)} "
            f"rows of {len(new)} new ones; nothing was changed. This is a fault of Spinney; please report it"
        )
    return Rewrite(old, new, {name: _text(value) for name, value in old[0].partition.items()}, dropped)


def _text(value: Any) -> str | None:
    """A partition's value as the log has it; those of this project's tables are dates."""
    return None if value is None else str(value)


class _Input:
    """The rows of a source, a few megabytes at a time. rows: that its files hold."""

    BATCH_BYTES = 4 * 1024**2

    def __init__(self, base: Path, source: Source, schema: pa.Schema, old_names: Mapping[str, str]) -> None:
        self._files = [base / file.path for file in source.files]
        self._drop = {base / path: mask for path, mask in source.drop.items()}
        self._schema = schema
        self._names = {each.name: old_names.get(each.name, each.name) for each in schema}
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
        """In the columns and types wanted: a file may hold texts as views, or lack a column that was added later.

        Raises StoreError for a value that the type wanted does not have.
        """
        columns = []
        for each in self._schema:
            name = self._names[each.name]
            if name not in rows.schema.names:
                columns.append(pa.chunked_array([pa.nulls(len(rows), each.type)]))
                continue
            try:
                columns.append(rows.column(name).cast(each.type))
            except pa.ArrowInvalid as error:
                raise StoreError(
                    f"{file}: column {name}: expected values that are exact as {each.type}; got one that is not: "
                    f"{error}. Nothing was changed"
                ) from error
        return pa.table(columns, schema=self._schema)


def commit(table: DeltaTable, prepared: Rewrite, reason: str) -> bool:
    """Put the new files into the old ones' place; whether it was done.

    It is not when one of the old files is no part of the table any more. Only for who may write the directory now:
    nobody else commits meanwhile. reason: for the log.
    """
    table.update_incremental()
    there = set(pa.table(table.get_add_actions(flatten=True)).column("path").to_pylist())
    if not there.issuperset(file.path for file in prepared.old):
        return False
    now, changes = int(time.time() * 1000), prepared.dropped > 0
    actions: list[AddAction | RemoveAction] = [*_put_in_place(table, prepared, now)]
    actions += [RemoveAction(gone.path, changes, now, gone.bytes, prepared.partition) for gone in prepared.old]
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
    """Move the new files to where the log is about to name them. now: milliseconds since 1970."""
    below = Path(prepared.old[0].path).parent
    for file in prepared.new:
        name = str(below / file.path.name)
        file.path.rename(folder(table) / name)
        yield AddAction(name, file.bytes, prepared.partition, now, prepared.dropped > 0, json.dumps(file.stats))


def commit_whole(table: DeltaTable, prepared: Sequence[Rewrite], schema: pa.Schema, said: Mapping[str, Any]) -> None:
    """Put new files with other columns into the place of all that the table has: one commit.

    schema: of the table from then on. said: of the commit, for the log. Only for whoever holds the lease of the
    directory. Raises StoreError when the files are not those that were rewritten.
    """
    there = {file.path for file in files(table)}
    old = {file.path for each in prepared for file in each.old}
    if there != old:
        raise StoreError(
            f"table at {folder(table)}: expected the {len(old)} files that were rewritten; got {len(there)}, for "
            "another process wrote there meanwhile. Nothing was changed; run it again"
        )
    now = int(time.time() * 1000)
    actions = [action for each in prepared for action in _put_in_place(table, each, now)]
    table.create_write_transaction(
        actions,
        "overwrite",
        Schema.from_arrow(schema),
        list(table.metadata().partition_columns) or None,
        commit_properties=CommitProperties(custom_metadata={"userMetadata": json.dumps(dict(said))}),
        post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
    )


def checkpoint_if_due(table: DeltaTable) -> None:
    """Make the checkpoint of the log that `commit` has left out."""
    table.update_incremental()
    every = int(table.metadata().configuration.get("delta.checkpointInterval", "10"))
    if table.version() and table.version() % every == 0:
        table.create_checkpoint()
