"""Read which rows and files were added to a table by commits, from its log alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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

    query, batch_id: None if the commit was not made by a `DirectoryWriter`. rows: their number; None if the log lacks
    it. nulls: column -> number of rows without a value, for the columns of which the log has it.
    """

    version: int
    query: str | None
    batch_id: int | None
    rows: int | None
    nulls: Mapping[str, int] = field(default_factory=dict)


def read_appends(directory: Directory, first: int, last: int) -> Iterator[Append]:
    """Yield the appends among these versions, both ends included. Compactions and deletions do not count as appends.

    Raises FileNotFoundError if a version is no longer in the log.
    """
    for version in range(first, last + 1):
        actions = _actions(_commit_file(directory, version))
        added = _added(actions)
        if added and not _drops_rows(actions):
            yield Append(version, *_batch(actions), _rows(added), _nulls(added))


def read_new_files(directory: Directory, after: int) -> tuple[int, list[str]]:
    """Return the newest version, and the files that commits after a version added, as paths below the table's folder.

    after: the version that was read last. If nothing was committed since, this takes one call of the file system and
    opens no file. Compactions are left out. Rewrites that dropped rows are included, so some rows may have been read
    before.
    """
    paths: list[str] = []
    while (file := _commit_file(directory, after + 1)).exists():
        after += 1
        paths += _added_paths(_actions(file))
    return after, paths


@dataclass(frozen=True)
class AppendedFiles:
    """The files with the rows that a commit appended, in the commit's order; no files if it also dropped rows.

    query: None if the commit was not made by a `DirectoryWriter`.
    """

    committed_at: datetime
    query: str | None
    files: list[Path]


def read_appended_files(directory: Directory, version: int) -> AppendedFiles:
    """Return what a commit appended; nothing for a compaction.

    Raises FileNotFoundError if the commit is not in the log.
    """
    actions, folder = _actions(_commit_file(directory, version)), local_folder(directory.uri)
    files = [] if _drops_rows(actions) else [folder / path for path in _added_paths(actions)]
    return AppendedFiles(_committed_at(actions), _batch(actions)[0], files)


def files_appended_since(
    directory: Directory, since: datetime, newest: int, query: str | None = None
) -> list[Path] | None:
    """Return the files that were appended since a time, oldest commit first, as they were written.

    newest: the last version that counts. query: only commits of this query count; None: all. Compactions leave replaced
    files on disk for a while. Returns None if the log does not reach back to that time, or if one of the files no
    longer exists.
    """
    commits: list[list[Path]] = []
    for version in range(newest, -1, -1):
        try:
            commit = read_appended_files(directory, version)
        except FileNotFoundError:
            return None
        if commit.committed_at < since:
            break
        if query in (None, commit.query):
            commits.append(commit.files)
    found = [file for files in reversed(commits) for file in files]
    return found if all(file.exists() for file in found) else None


def has_newer_commit(directory: Directory, version: int) -> bool:
    """Whether the log has the commit after this version. Takes one call of the file system."""
    return _commit_file(directory, version + 1).exists()


def _commit_file(directory: Directory, version: int) -> Path:
    return local_folder(directory.uri) / "_delta_log" / f"{version:020d}.json"


def _actions(commit: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in commit.read_bytes().splitlines() if line]


def _added(actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the files that a commit added, either with new rows or rewritten with fewer rows."""
    return [action["add"] for action in actions if action.get("add", {}).get("dataChange")]


def _added_paths(actions: list[dict[str, Any]]) -> list[str]:
    return [unquote(added["path"]) for added in _added(actions)]


def _drops_rows(actions: list[dict[str, Any]]) -> bool:
    return any(action.get("remove", {}).get("dataChange") for action in actions)


def _committed_at(actions: list[dict[str, Any]]) -> datetime:
    """Return the time of a commit; the latest possible if it does not say."""
    times = [action["commitInfo"]["timestamp"] for action in actions if "timestamp" in action.get("commitInfo", {})]
    return from_microseconds(times[0] * 1000) if times else datetime.max.replace(tzinfo=UTC)


def _rows(added: list[dict[str, Any]]) -> int | None:
    counts = [json.loads(action.get("stats") or "{}").get("numRecords") for action in added]
    return None if None in counts else sum(counts)


def _nulls(added: list[dict[str, Any]]) -> dict[str, int]:
    counts: list[dict[str, int]] = [json.loads(action.get("stats") or "{}").get("nullCount", {}) for action in added]
    names = set.intersection(*map(set, counts)) if counts else set()
    return {name: sum(count[name] for count in counts) for name in names}


def _batch(actions: list[dict[str, Any]]) -> tuple[str | None, int | None]:
    """Return query and batch of a commit; None for both if it is not a step.

    Spark and delta-rs store both in the same form.
    """
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    try:
        notes = json.loads(info.get("userMetadata") or "{}")
        return str(notes["query"]), int(notes["batch_id"])
    except (ValueError, KeyError, TypeError):
        return None, None
