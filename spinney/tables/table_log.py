"""Read which rows and files were added to a table by commits, from its log alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from spinney.core.timestamps import from_microseconds
from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import Directory


@dataclass(frozen=True)
class Append:
    """A commit that appended rows.

    query, batch_id: None if no `DirectoryWriter` wrote it. rows: their number; None if the log does not have it.
    """

    version: int
    query: str | None
    batch_id: int | None
    rows: int | None


def read_appends(directory: Directory, first: int, last: int) -> Iterator[Append]:
    """Yield the appends among these versions, both ends included. Compactions and deletions are no appends.

    Raises FileNotFoundError: a version is no longer in the log.
    """
    for version in range(first, last + 1):
        actions = _actions(_commit_file(directory, version))
        added = [action["add"] for action in actions if action.get("add", {}).get("dataChange")]
        if added and not any(action.get("remove", {}).get("dataChange") for action in actions):
            yield Append(version, *_batch(actions), _rows(added))


def read_new_files(directory: Directory, after: int) -> tuple[int, list[str]]:
    """Return the newest version, and the files that commits after a version added, as paths below the table's folder.

    after: the version that was read last. Where nothing was committed since, it asks the file system once and opens
    nothing. Compactions are left out. A rewrite that dropped rows is not, so some of its rows may have been read
    before.
    """
    paths: list[str] = []
    while (file := _commit_file(directory, after + 1)).exists():
        after += 1
        added = (action["add"] for action in _actions(file) if action.get("add", {}).get("dataChange"))
        paths += [unquote(action["path"]) for action in added]
    return after, paths


def files_appended_since(directory: Directory, query: str, since: datetime, newest: int) -> list[Path] | None:
    """Return the files that a query's commits appended since a time, newest commit first, as they were written.

    newest: version to begin with. Compactions leave them on disk for a while. None if the log does not reach back to
    that time, or if one of the files is gone.
    """
    folder, found = local_folder(directory.uri), []
    for version in range(newest, -1, -1):
        try:
            actions = _actions(_commit_file(directory, version))
        except FileNotFoundError:
            return None
        if _committed_at(actions) < since:
            break
        paths = [action["add"]["path"] for action in actions if action.get("add", {}).get("dataChange")]
        if _batch(actions)[0] == query:
            found += [folder / unquote(path) for path in paths]
    return found if all(path.exists() for path in found) else None


@dataclass(frozen=True)
class AppendedFiles:
    """The files with the rows that a commit appended, in its order; none if it also dropped rows."""

    committed_at: datetime
    files: list[Path]


def read_appended_files(directory: Directory, version: int) -> AppendedFiles:
    """Return what a commit appended. Compactions append nothing. Raises FileNotFoundError: it is not in the log."""
    actions, folder = _actions(_commit_file(directory, version)), local_folder(directory.uri)
    if any(action.get("remove", {}).get("dataChange") for action in actions):
        return AppendedFiles(_committed_at(actions), [])
    paths = [action["add"]["path"] for action in actions if action.get("add", {}).get("dataChange")]
    return AppendedFiles(_committed_at(actions), [folder / unquote(path) for path in paths])


def has_newer_commit(directory: Directory, version: int) -> bool:
    """Whether the log has the commit after a version, by one look at the file system."""
    return _commit_file(directory, version + 1).exists()


def _commit_file(directory: Directory, version: int) -> Path:
    return local_folder(directory.uri) / "_delta_log" / f"{version:020d}.json"


def _actions(commit: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in commit.read_bytes().splitlines() if line]


def _committed_at(actions: list[dict[str, Any]]) -> datetime:
    """Return the time of a commit; the latest possible if it does not say."""
    times = [action["commitInfo"]["timestamp"] for action in actions if "timestamp" in action.get("commitInfo", {})]
    return from_microseconds(times[0] * 1000) if times else datetime.max.replace(tzinfo=UTC)


def _rows(added: list[dict[str, Any]]) -> int | None:
    counts = [json.loads(action.get("stats") or "{}").get("numRecords") for action in added]
    return None if None in counts else sum(counts)


def _batch(actions: list[dict[str, Any]]) -> tuple[str | None, int | None]:
    """Return query and batch of a commit; None for both if it is no step. Spark and delta-rs store them alike."""
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    try:
        notes = json.loads(info.get("userMetadata") or "{}")
        return str(notes["query"]), int(notes["batch_id"])
    except (ValueError, KeyError, TypeError):
        return None, None
