"""Spark's checkpoints, as far as we look into them: whose they are and which batch is unfinished.

A checkpoint is a folder with ``metadata`` (the query's id), ``offsets/N`` (batch N was begun) and ``commits/N`` (it
ended).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from spinney.core.timestamps import from_microseconds
from spinney.storage.atomic_files import create, folder, replace

METADATA = "metadata"


def identity(location: str) -> str:
    """The id of the query that owns this checkpoint; a new one, which is not written yet, when there is none."""
    file = folder(location) / METADATA
    return str(json.loads(file.read_text())["id"]) if file.is_file() else str(uuid.uuid4())


def keep(location: str, name: str) -> None:
    """Write the id of a checkpoint that has none yet.

    Spark takes the id from ``metadata`` when that is there, so writing it first lets tables name their checkpoint from
    the first batch on. Not before the tables agree to it: a checkpoint that is refused must stay free to be put back.
    """
    create(folder(location) / METADATA, json.dumps({"id": name}, separators=(",", ":")).encode())


def newest(location: str, log: str) -> int | None:
    """The greatest batch in ``offsets`` or ``commits``; None before the first."""
    place = folder(location) / log
    names = os.listdir(place) if place.is_dir() else ()
    return max((int(name) for name in names if name.isdigit()), default=None)


@dataclass(frozen=True)
class Begun:
    """A batch of a checkpoint. at: its timestamp; watermark: what came before it is late; ended: it was committed."""

    batch_id: int
    at: datetime
    watermark: datetime
    ended: bool


def newest_begun(location: str) -> Begun | None:
    """The newest batch that was begun; None before the first."""
    batch_id = newest(location, "offsets")
    return None if batch_id is None else begun(location, batch_id)


def begun(location: str, batch_id: int) -> Begun:
    """A batch that was begun."""
    said = json.loads(_lines(location, batch_id)[1])
    at, watermark = (from_microseconds(int(said[name]) * 1000) for name in ("batchTimestampMs", "batchWatermarkMs"))
    ended = newest(location, "commits")
    return Begun(batch_id, at, watermark, ended is not None and ended >= batch_id)


def offsets(location: str, batch_id: int) -> list[str | None]:
    """The end offsets of each source of a batch, as the JSON text that the source wrote; None for an untouched one."""
    # "-" stands for no offset.
    return [None if line == "-" else line for line in _lines(location, batch_id)[2:]]


def _lines(location: str, batch_id: int) -> list[str]:
    """A version line, the batch's own metadata, then one line a source."""
    return (folder(location) / "offsets" / str(batch_id)).read_text(encoding="utf-8").splitlines()


def kafka_offsets(location: str, topic: str) -> dict[str, int] | None:
    """Partition -> end offset of the newest batch begun; None when no batch has touched the topic."""
    batch_id = newest(location, "offsets")
    for text in offsets(location, batch_id) if batch_id is not None else ():
        if text and _is_of(topic, text):
            return {str(partition): int(offset) for partition, offset in json.loads(text)[topic].items()}
    return None


def rewind(location: str, topic: str, to: Mapping[str, int]) -> None:
    """Let the next batch read `topic` from these offsets on, and all else from where it stands. Safe to repeat.

    to: partition -> offset. Only for who holds the query's lease. The query keeps its state, its identity and the
    offsets of other sources; a batch that was begun and not ended is replayed without records of the topic.
    """
    for file, before_sources in _offset_files(location):
        lines = file.read_text(encoding="utf-8").split("\n")
        rewound = [*lines[:before_sources]]
        rewound += [
            json.dumps({topic: dict(to)}, separators=(",", ":")) if _is_of(topic, line) else line
            for line in lines[before_sources:]
        ]
        # Hadoop compares a file on a local disk with this one where it is there.
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
        replace(file, "\n".join(rewound).encode())


def _offset_files(location: str) -> Iterator[tuple[Path, int]]:
    """The files Spark starts a query from, each with the number of its lines before those of sources."""
    place, last = folder(location), newest(location, "offsets")
    for batch_id in (last - 1, last) if last is not None else ():
        if (file := place / "offsets" / str(batch_id)).is_file():
            yield file, 2
    for file in sorted(place.glob("sources/*/0")):  # what each source began with
        yield file, 1


def _is_of(topic: str, text: str) -> bool:
    """Whether these are Kafka's offsets of this topic; a source reads one."""
    try:
        said = json.loads(text)
    except ValueError:  # "-", or an empty line at the end
        return False
    return isinstance(said, dict) and said.keys() == {topic} and isinstance(said[topic], dict)
