"""What commits appended to a table, from the files of its log: no file of data is opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spinney.storage.atomic_files import folder
from spinney.storage.layout import Directory


@dataclass(frozen=True)
class Appended:
    """A commit that appended rows. query, batch_id: who wrote it and in which batch, where that was a `Writer`.

    rows: None where the log does not say.
    """

    version: int
    query: str | None
    batch_id: int | None
    rows: int | None


def appended(directory: Directory, first: int, last: int) -> Iterator[Appended]:
    """Yield the appends among these versions, both ends included.

    Files put together in another way, and rows forgotten, are no appends.
    Raises FileNotFoundError: a version is in the log no more.
    """
    log = folder(directory.uri) / "_delta_log"
    for version in range(first, last + 1):
        actions = [json.loads(line) for line in (log / f"{version:020d}.json").read_bytes().splitlines() if line]
        added = [each["add"] for each in actions if each.get("add", {}).get("dataChange")]
        if added and not any(each.get("remove", {}).get("dataChange") for each in actions):
            yield Appended(version, *_batch(actions), _rows(added))


def _rows(added: list[dict[str, Any]]) -> int | None:
    counts = [json.loads(each.get("stats") or "{}").get("numRecords") for each in added]
    return None if None in counts else sum(counts)


def _batch(actions: list[dict[str, Any]]) -> tuple[str | None, int | None]:
    """Query and batch. Spark and delta-rs keep the writer's words under the same name."""
    info: dict[str, Any] = next((each["commitInfo"] for each in actions if "commitInfo" in each), {})
    try:
        said = json.loads(info.get("userMetadata") or "{}")
        return str(said["query"]), int(said["batch_id"])
    except (ValueError, KeyError, TypeError):
        return None, None
