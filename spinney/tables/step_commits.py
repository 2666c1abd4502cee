"""Steps of queries as the commits of tables record them: which query wrote what, in which batch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltalake import CommitProperties

from spinney.core.stored_formats import COMMIT, KEY
from spinney.storage.layout import Directory


@dataclass(frozen=True)
class StepCommit:
    """A step as its commit records it. notes: added by the writer. part: of a step written in parts, from 0 on."""

    query: str
    step: str
    batch_id: int
    checkpoint: str
    notes: Mapping[str, Any]
    part: int = 0


def read_steps(directory: Directory, history: Sequence[Mapping[str, Any]]) -> Iterator[StepCommit]:
    """Yield the commits of a history that are steps, in its order. Raises UnknownFormat."""
    for entry in history:
        where = f"table {directory.name}, version {entry.get('version')}"
        if (commit := _decode(entry.get("userMetadata"), where)) is not None:
            yield commit


def commit_properties(commit: StepCommit) -> CommitProperties:
    """Return the commit in the field of the log that Spark's option `userMetadata` writes."""
    return CommitProperties(custom_metadata={"userMetadata": encode_commit(commit)})


def encode_commit(commit: StepCommit) -> str:
    """Return the text that the log stores for a step."""
    return json.dumps({KEY: COMMIT.version, **commit.__dict__}, separators=(",", ":"), default=str)


def _decode(text: str | None, where: str) -> StepCommit | None:
    """Return the step that a commit records; None if it is not a step (creation, compaction). Raises UnknownFormat."""
    try:
        content = json.loads(text or "")
        if isinstance(content, dict) and "query" in content:  # others are not ours
            COMMIT.check_object(content, where)
        named = (content["query"], content["step"], int(content["batch_id"]), content["checkpoint"])
        return StepCommit(*named, content.get("notes", {}), int(content.get("part", 0)))
    except (ValueError, KeyError, TypeError):
        return None
