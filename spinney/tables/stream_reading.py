"""Which files of a table a Spark stream has read, from the offset in its checkpoint."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

import pyarrow as pa
from deltalake import DeltaTable

from spinney.core.errors import StoreError
from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import Directory
from spinney.tables.table_log import files_appended_since, has_newer_commit, read_appended_files


@dataclass(frozen=True)
class TableOffset:
    """The end of a batch in a Delta table that is read as a stream.

    table_id: Delta's id of the table. version, files: the stream has read all versions before `version`, and the first
    `files` files of `version`. is_snapshot: a stream begins by reading the whole table at one version; while it does
    so, `files` counts the files of the whole table.
    """

    table_id: str
    version: int
    files: int
    is_snapshot: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return an offset that Spark's Delta source wrote (`DeltaSourceOffset`).

        Its index is that of the last file that was read, counted from 0; a negative one stands for none.
        """
        content = json.loads(text)
        files = max(int(content["index"]) + 1, 0)
        return cls(content["reservoirId"], int(content["reservoirVersion"]), files, content["isStartingVersion"])


def files_read(directory: Directory, offset: TableOffset, since: datetime) -> list[Path]:
    """Return files that together have every row that the stream has read and that was appended since a time.

    The files may also have earlier rows, but no rows that were not read. They are the files as they were appended,
    oldest commit first, as long as these exist: they are removed some time after a compaction. Otherwise they are the
    files of the table at that version, in no order. Raises StoreError if neither exist any more.
    """
    folder = local_folder(directory.uri)
    if offset.is_snapshot:
        return _existing(
            directory, [folder / path for path in _snapshot_paths(directory, offset.version)[: offset.files]]
        )
    found = _appended(directory, offset, since)
    if found is not None:
        return found
    whole = [folder / path for path in _snapshot_paths(directory, offset.version - 1)] if offset.version else []
    begun = read_appended_files(directory, offset.version).files[: offset.files] if offset.files else []
    return _existing(directory, [*whole, *begun])


def has_unread_files(directory: Directory, offset: TableOffset | None) -> bool:
    """Whether the table has files that a stream of appended rows has not read.

    offset: None if it has read none. Also True while the stream reads the whole table, as it does at its beginning.
    """
    if offset is None:
        offset = TableOffset("", 0, 0, is_snapshot=False)
    if offset.is_snapshot:
        return True
    version, read = offset.version, offset.files
    while has_newer_commit(directory, version - 1):
        if len(read_appended_files(directory, version).files) > read:
            return True
        version, read = version + 1, 0
    return False


def oldest_unread(directory: Directory, offset: TableOffset, newest: int) -> datetime | None:
    """Return the time of the oldest commit that a stream of appended rows has not read completely; None without one.

    While a stream reads the whole table at one version, as it does at its beginning, that version's commit counts.
    Commits that are no longer in the log are passed over: no stream can read them. newest: the table's version.
    """
    version, read = offset.version, offset.files
    if offset.is_snapshot:
        with suppress(FileNotFoundError, StoreError):
            if read < len(_snapshot_paths(directory, version)):
                return read_appended_files(directory, version).committed_at
        version, read = version + 1, 0
    for at in range(version, newest + 1):
        with suppress(FileNotFoundError):
            commit = read_appended_files(directory, at)
            if len(commit.files) > (read if at == version else 0):
                return commit.committed_at
    return None


def last_commit_read(directory: Directory, offset: TableOffset) -> datetime | None:
    """Return the time of the newest commit with rows that a stream has read; None if no such commit is in the log."""
    for version in range(offset.version - (not offset.files), -1, -1):
        try:
            commit = read_appended_files(directory, version)
        except FileNotFoundError:
            return None
        if commit.files:
            return commit.committed_at
    return None


def _appended(directory: Directory, offset: TableOffset, since: datetime) -> list[Path] | None:
    """Return the files as they were appended; None if the log does not reach back so far, or a
    file no longer exists.
    """
    try:
        begun = read_appended_files(directory, offset.version).files[: offset.files] if offset.files else []
    except FileNotFoundError:
        return None
    whole = files_appended_since(directory, since, offset.version - 1)
    return [*whole, *begun] if whole is not None and all(file.exists() for file in begun) else None


def _snapshot_paths(directory: Directory, version: int) -> list[str]:
    """Return the files of the table at a version, in the order in which Spark's Delta reads them."""
    try:
        table = DeltaTable(directory.uri, version, dict(directory.storage_options) or None)
    except Exception as error:
        raise StoreError(
            f"table {directory.name}: expected version {version}, which a query has read; it cannot be opened: {error}"
            ". Restore the table's log from a backup"
        ) from error
    actions = pa.table(table.get_add_actions(flatten=True)).select(["modification_time", "path"])
    return [row["path"] for row in sorted(actions.to_pylist(), key=lambda row: (row["modification_time"], row["path"]))]


def _existing(directory: Directory, files: list[Path]) -> list[Path]:
    gone = next((file for file in files if not file.exists()), None)
    if gone is not None:
        raise StoreError(
            f"table {directory.name}: expected {gone}, which a query has read; it is not there any more. Restore it "
            "from a backup"
        )
    return files
