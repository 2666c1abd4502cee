"""Records which dead letters were sent again, in files below the fleet's root, so that none is sent twice.

Before a replay sends its first record, it lists all of them in ``<id>.sending.parquet``. Once the broker has
acknowledged all, ``<id>.parquet`` replaces that file. For a replay that was interrupted, the topics show what arrived:
each record has a header with the replay's id and its row in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from spinney.core.stored_formats import REPLAY
from spinney.operations.dead_letters.letters import IDENTITY, identities
from spinney.storage import atomic_files
from spinney.storage.layout import FleetStore

if TYPE_CHECKING:
    from spinney.kafka.topic_reading import Offsets

FOLDER = "replays"
_SENDING, _SENT = ".sending.parquet", ".parquet"
_BEGINNINGS = b"spinney.beginnings"


@dataclass(frozen=True)
class Replay:
    """A started replay.

    rows: the columns IDENTITY of its records. beginnings: topic -> partition -> offset; its records are at or after it.
    """

    replay_id: str
    rows: pa.Table
    beginnings: Offsets


def read_replayed(store: FleetStore) -> pa.Array:
    """Return the identities of all dead letters that were sent again."""
    place = _ledger_folder(store)
    files = [file for file in place.glob(f"*{_SENT}") if not file.name.endswith(_SENDING)]
    texts = [identities(_read(file, list(IDENTITY))) for file in sorted(files)]
    return pa.concat_arrays(texts) if texts else pa.array([], pa.string())


def begin_replay(store: FleetStore, replay: Replay) -> None:
    """Store what a replay is about to send."""
    offsets_as_text = {
        topic: {str(at): offset for at, offset in offsets.items()} for topic, offsets in replay.beginnings.items()
    }
    metadata = {**REPLAY.metadata, _BEGINNINGS: json.dumps(offsets_as_text).encode()}
    rows = replay.rows.replace_schema_metadata(metadata)
    atomic_files.replace_file(_ledger_folder(store) / f"{replay.replay_id}{_SENDING}", _bytes(rows))


def unfinished_replays(store: FleetStore) -> list[Replay]:
    """Return the interrupted replays, of which it is not known what arrived."""
    found = []
    for file in sorted(_ledger_folder(store).glob(f"*{_SENDING}")):
        if file.with_name(file.name.removesuffix(_SENDING) + _SENT).exists():
            continue  # killed between the last two steps of `end`
        rows = _read(file)
        stored = json.loads(rows.schema.metadata[_BEGINNINGS])
        beginnings = {topic: {int(at): offset for at, offset in offsets.items()} for topic, offsets in stored.items()}
        found.append(Replay(file.name.removesuffix(_SENDING), rows, beginnings))
    return found


def end_replay(store: FleetStore, replay: Replay, arrived: Iterable[int]) -> None:
    """Store which records of a replay arrived. arrived: numbers of its rows."""
    kept = replay.rows.take(pa.array(sorted(arrived), pa.int64())).replace_schema_metadata(REPLAY.metadata)
    atomic_files.replace_file(_ledger_folder(store) / f"{replay.replay_id}{_SENT}", _bytes(kept))
    (_ledger_folder(store) / f"{replay.replay_id}{_SENDING}").unlink(missing_ok=True)


def _read(file: Path, columns: list[str] | None = None) -> pa.Table:
    """Read columns of a replay's file. Raises UnknownFormat."""
    REPLAY.check_metadata(pq.read_schema(file).metadata, file)
    return pq.read_table(file, columns=columns)


def _bytes(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    return bytes(sink.getvalue())


def _ledger_folder(store: FleetStore) -> Path:
    return store.folder / FOLDER
