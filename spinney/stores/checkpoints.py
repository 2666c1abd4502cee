"""Spark's checkpoints, as far as we look into them: whose they are and which batch is unfinished.

A checkpoint is a folder with ``metadata`` (the query's id), ``offsets/N`` (batch N was begun) and ``commits/N`` (it
ended).
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from pyarrow import fs

from spinney.stores.storage import filesystem


def identity(location: str) -> str:
    """The id of the query that owns this checkpoint; a new one is made, and kept, when there is none.

    Spark takes the id from ``metadata`` when that is there, so writing it first lets tables name their checkpoint from
    the first batch on.
    """
    store, path = filesystem(location)
    file = f"{path}/metadata"
    if store.get_file_info(file).type == fs.FileType.File:
        with store.open_input_stream(file) as stream:
            return str(json.loads(stream.read())["id"])
    name = str(uuid.uuid4())
    store.create_dir(path, recursive=True)
    with store.open_output_stream(file) as stream:
        stream.write(json.dumps({"id": name}, separators=(",", ":")).encode())
    return name


def newest(location: str, log: str) -> int | None:
    """The greatest batch in ``offsets`` or ``commits``; None before the first."""
    store, path = filesystem(location)
    selector = fs.FileSelector(f"{path}/{log}", allow_not_found=True)
    batches = [int(info.base_name) for info in store.get_file_info(selector) if info.base_name.isdigit()]
    return max(batches, default=None)


@dataclass(frozen=True)
class Begun:
    """The newest batch of a checkpoint. at: its timestamp; ended: whether it was committed."""

    batch_id: int
    at: datetime
    ended: bool


def newest_begun(location: str) -> Begun | None:
    """The newest batch that was begun; None before the first."""
    batch_id = newest(location, "offsets")
    if batch_id is None:
        return None
    store, path = filesystem(location)
    with store.open_input_stream(f"{path}/offsets/{batch_id}") as stream:
        said = json.loads(stream.read().decode().splitlines()[1])
    ended = newest(location, "commits")
    at = datetime.fromtimestamp(int(said["batchTimestampMs"]) / 1000, UTC)
    return Begun(batch_id, at, ended is not None and ended >= batch_id)


def offsets(location: str, batch_id: int) -> list[str | None]:
    """The end offsets of each source of a batch, as the JSON text that the source wrote; None for an untouched one."""
    store, path = filesystem(location)
    with store.open_input_stream(f"{path}/offsets/{batch_id}") as stream:
        lines = stream.read().decode().splitlines()
    # A version line, the batch's own metadata, then one line a source; "-" stands for no offset.
    return [None if line == "-" else line for line in lines[2:]]
