"""Read Spark's checkpoints: the query's id, and which batches were started and committed.

A checkpoint is a folder with ``metadata`` (the query's id), ``offsets/N`` (batch N was started) and ``commits/N`` (it
was committed).
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from spinney.core.timestamps import from_microseconds
from spinney.storage.atomic_files import create_file, local_folder, replace_file

METADATA = "metadata"


def query_id(location: str) -> str:
    """Return the id of the query that owns this checkpoint; if it has none, a new id, which is not written."""
    file = local_folder(location) / METADATA
    return str(json.loads(file.read_text())["id"]) if file.is_file() else str(uuid.uuid4())


def write_query_id(location: str, name: str) -> None:
    """Write the query's id unless the checkpoint has one.

    Spark takes the id from ``metadata`` if that exists, so writing it first lets tables record their checkpoint from
    the first batch on. Call it after the writers have accepted the id: a refused checkpoint must stay untouched, so
    that the right one can be put back.
    """
    create_file(local_folder(location) / METADATA, json.dumps({"id": name}, separators=(",", ":")).encode())


def remove_state(location: str, operator: int) -> None:
    """Remove the state of a stateful operator that the query does not have any more, if there is one."""
    place = local_folder(location) / "state" / str(operator)
    if place.is_dir():
        shutil.rmtree(place)


def has_begun(location: str) -> bool:
    """Whether the query of this checkpoint was started before, so that the id of the checkpoint is stored."""
    return (local_folder(location) / METADATA).is_file()


def newest_batch_id(location: str, log: str) -> int | None:
    """Return the greatest batch id in a log; None before the first. log: ``offsets`` or ``commits``."""
    place = local_folder(location) / log
    names = os.listdir(place) if place.is_dir() else ()
    return max((int(name) for name in names if name.isdigit()), default=None)


@dataclass(frozen=True)
class StartedBatch:
    """A batch of a checkpoint.

    started_at: its timestamp. is_committed: it has ended.
    """

    batch_id: int
    started_at: datetime
    is_committed: bool


def newest_started_batch(location: str) -> StartedBatch | None:
    """Return the newest batch that was started; None before the first."""
    batch_id = newest_batch_id(location, "offsets")
    return None if batch_id is None else started_batch(location, batch_id)


def started_batch(location: str, batch_id: int) -> StartedBatch:
    """Return a batch that was started. Raises FileNotFoundError: Spark keeps the files of about 100 batches."""
    metadata = json.loads(_offset_file_lines(location, batch_id)[1])
    started_at = from_microseconds(int(metadata["batchTimestampMs"]) * 1000)
    committed = newest_batch_id(location, "commits")
    return StartedBatch(batch_id, started_at, committed is not None and committed >= batch_id)


def unfinished_since(location: str) -> datetime | None:
    """Return the timestamp of the batch that was started and is not committed; None if there is none.

    After a stop the batch is repeated with the same timestamp, however late.
    """
    newest = newest_started_batch(location)
    return None if newest is None or newest.is_committed else newest.started_at


def previous_start(location: str, batch_id: int) -> datetime:
    """Return when the batch before this one began; if the checkpoint has no earlier batch, when this one began."""
    names = os.listdir(local_folder(location) / "offsets")
    earlier = max((int(name) for name in names if name.isdigit() and int(name) < batch_id), default=batch_id)
    return started_batch(location, earlier).started_at


@dataclass(frozen=True)
class BatchTime:
    """When a batch began and ended, by the wall clock. ended_at: None while it runs, or if it was killed."""

    batch_id: int
    started_at: datetime
    ended_at: datetime | None


def batch_times(location: str, limit: int) -> tuple[BatchTime, ...]:
    """Return the newest batches that were started, oldest first; empty before the first. limit: largest number of
    batches.

    A batch counts as ended at the time when its commit file was written.
    """
    place = local_folder(location)
    names = os.listdir(place / "offsets") if (place / "offsets").is_dir() else []
    found = []
    for batch_id in sorted(int(name) for name in names if name.isdigit())[-limit:]:
        with suppress(FileNotFoundError):  # Spark removes files of old batches meanwhile
            began = started_batch(location, batch_id).started_at
            found.append(BatchTime(batch_id, began, _written_at(place / "commits" / str(batch_id))))
    return tuple(found)


def _written_at(file: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def end_offsets(location: str, batch_id: int) -> list[str | None]:
    """Return the end offsets of a batch: for each source the JSON text that it wrote, None for a source without an
    offset.
    """
    # Spark writes "-" for no offset.
    return [None if line == "-" else line for line in _offset_file_lines(location, batch_id)[2:]]


def _offset_file_lines(location: str, batch_id: int) -> list[str]:
    """Return a version line, the batch's metadata, then one line per source."""
    return (local_folder(location) / "offsets" / str(batch_id)).read_text(encoding="utf-8").splitlines()


def kafka_end_offsets(location: str, topic: str) -> dict[str, int] | None:
    """Return partition -> end offset of the newest started batch; None if no batch has read the topic."""
    batch_id = newest_batch_id(location, "offsets")
    for text in end_offsets(location, batch_id) if batch_id is not None else ():
        if text and _has_only_topic(topic, text):
            return {str(partition): int(offset) for partition, offset in json.loads(text)[topic].items()}
    return None


def newest_kafka_offsets(location: str, log: str) -> dict[str, dict[str, int]]:
    """Return topic -> partition -> end offset of the newest batch in a log, for each topic that the query reads.

    log: ``offsets`` for the newest started batch, ``commits`` for the newest ended one. Empty before the first batch.
    """
    batch_id = newest_batch_id(location, log)
    found: dict[str, dict[str, int]] = {}
    for text in end_offsets(location, batch_id) if batch_id is not None else ():
        offsets = json.loads(text or "{}")
        if all(isinstance(partitions, dict) for partitions in offsets.values()):  # not those of a Delta table
            found |= offsets
    return found


def rewind(location: str, topic: str, to: Mapping[str, int]) -> None:
    """Let the next batch read `topic` from these offsets on. Safe to repeat.

    to: partition -> offset. The caller must hold the query's lease. The query keeps its state, its id and the offsets
    of other sources. A batch that was started and not committed is replayed without records of the topic.
    """
    for file, before_sources in _offset_files(location):
        lines = file.read_text(encoding="utf-8").split("\n")
        rewound = [*lines[:before_sources]]
        rewound += [
            json.dumps({topic: dict(to)}, separators=(",", ":")) if _has_only_topic(topic, line) else line
            for line in lines[before_sources:]
        ]
        # Hadoop checks a file on a local disk against this checksum if it exists.
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
        replace_file(file, "\n".join(rewound).encode())


def _offset_files(location: str) -> Iterator[tuple[Path, int]]:
    """Yield the files from which Spark starts a query, each with the number of lines before the
    lines of its sources.
    """
    place, last = local_folder(location), newest_batch_id(location, "offsets")
    for batch_id in (last - 1, last) if last is not None else ():
        if (file := place / "offsets" / str(batch_id)).is_file():
            yield file, 2
    for file in sorted(place.glob("sources/*/0")):  # the initial offsets of each source
        yield file, 1


def _has_only_topic(topic: str, text: str) -> bool:
    """Whether these are Kafka offsets of this topic; a source reads only one."""
    try:
        data = json.loads(text)
    except ValueError:  # "-", or an empty line at the end
        return False
    return isinstance(data, dict) and data.keys() == {topic} and isinstance(data[topic], dict)
