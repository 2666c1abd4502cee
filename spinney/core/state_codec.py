"""Streaming state as bytes: Arrow tables in one binary column.

Array and map fields in a state schema break on later Spark versions, so a state is scalars and one blob whose first
byte is the version of its format. A checkpoint outlives an update of Spinney, so the versions before are read too.

Columns are compressed by the calling thread. To hand such small columns to Arrow's threads takes longer than to
compress them, and a worker would wait until a core is free.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from spinney.core.errors import Corrupt
from spinney.core.stored_formats import FIRST, StoredFormat

REMEDY = "Restore the fleet's root from a backup, or start the fleet again under another storage.root"

Body = bytes | memoryview


@dataclass(frozen=True)
class StateCodec:
    """A state's bytes: one byte with the version of its format, then the body.

    upgrades: version -> function from a body of that version to a body of the next. Every earlier version has an entry.
    """

    format: StoredFormat
    upgrades: Mapping[int, Callable[[Body], Body]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [number for number in range(FIRST, self.format.version) if number not in self.upgrades]
        if missing:
            raise ValueError(f"{self.format.name}: expected a function that upgrades each of the versions {missing}")

    def pack(self, body: bytes) -> bytes:
        """Return the bytes to store."""
        return bytes([self.format.version]) + body

    def unpack(self, blob: Body) -> memoryview:
        """Return the body in the current version, without a copy unless it is upgraded.

        Raises UnknownFormat for a version that this Spinney cannot read, Corrupt for empty bytes.
        """
        if not len(blob):
            raise Corrupt(f"{self.format.name}: expected a format; got no bytes. {REMEDY}")
        body: Body = memoryview(blob)[1:]
        for version in range(self.format.check(blob[0], self.format.name), self.format.version):
            body = self.upgrades[version](body)
        return memoryview(body)


def encode_batch(batch: pa.RecordBatch, *, compression: str | None = None) -> bytes:
    """Return the batch as an Arrow IPC stream.

    compression: Arrow's codec for the columns; None: not compressed. Readers need not know it.
    """
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def decode_batch(blob: bytes | memoryview, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch of an Arrow IPC stream. Raises Corrupt if it is not one batch of this schema."""
    batch = _read_batch(blob)
    _require_schema(batch, schema)
    return batch


def _require_schema(batch: pa.RecordBatch, schema: pa.Schema) -> None:
    if not batch.schema.equals(schema):
        expected, got = (
            ", ".join(f"{field.name} {field.type}" for field in columns) for columns in (schema, batch.schema)
        )
        raise Corrupt(f"state: expected columns {expected}; got {got}. {REMEDY}")


def _read_batch(blob: Body) -> pa.RecordBatch:
    try:
        with pa.ipc.open_stream(pa.py_buffer(blob), options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
            return reader.read_next_batch()
    except (pa.ArrowInvalid, OSError, StopIteration) as error:
        raise Corrupt(f"state: expected an Arrow stream of one batch; got {error or 'none'}. {REMEDY}") from error


def add_missing_columns(blob: Body, schema: pa.Schema, initial: Mapping[str, Any]) -> bytes:
    """Return the Arrow stream of an earlier version as one of this schema.

    initial: name -> value for each column that the earlier version may lack; None for null.

    Raises Corrupt if any other column is missing, or a column is unknown or of another type.
    """
    batch = _read_batch(blob)
    lacking = initial.keys() - set(batch.schema.names)
    _require_schema(batch, pa.schema([column for column in schema if column.name not in lacking]))
    added = {name: pa.array([initial[name]] * batch.num_rows, schema.field(name).type) for name in lacking}
    columns = [added[name] if name in lacking else batch.column(name) for name in schema.names]
    return encode_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def join_sections(sections: Sequence[bytes]) -> bytes:
    """Join up to 255 blobs into one: their number, their lengths, then the blobs."""
    lengths = struct.pack(f"<B{len(sections)}Q", len(sections), *(len(section) for section in sections))
    return lengths + b"".join(sections)


def split_sections(blob: bytes | memoryview) -> list[memoryview]:
    """Return the blobs that `join_sections` joined, without copying. Raises Corrupt if the lengths do not add up."""
    view = memoryview(blob)
    try:
        lengths = struct.unpack_from(f"<{view[0]}Q", view, 1)
    except (IndexError, struct.error) as error:
        raise Corrupt(f"state: expected the lengths of its sections; got {error}. {REMEDY}") from error
    at = 1 + 8 * len(lengths)
    if at + sum(lengths) != len(view):
        raise Corrupt(f"state: expected {at + sum(lengths)} bytes; got {len(view)}. {REMEDY}")
    sections = []
    for length in lengths:
        sections.append(view[at : at + length])
        at += length
    return sections
