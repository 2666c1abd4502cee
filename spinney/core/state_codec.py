"""State as bytes: Arrow tables in one binary column.

Array and map fields in a state schema break on later Spark versions, so a state is scalars and one blob whose first
byte is its format.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyarrow as pa

from spinney.core.errors import Corrupt

REMEDY = "Start from a new checkpoint"


def ipc_bytes(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def ipc_batch(blob: bytes | memoryview, schema: pa.Schema) -> pa.RecordBatch:
    """Raises Corrupt when these are not the bytes of one batch of this schema."""
    try:
        with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
            batch = reader.read_next_batch()
    except (pa.ArrowInvalid, OSError, StopIteration) as error:
        raise Corrupt(f"state: expected an Arrow stream of one batch; got {error or 'none'}. {REMEDY}") from error
    if not batch.schema.equals(schema):
        got = ", ".join(f"{field.name} {field.type}" for field in batch.schema)
        raise Corrupt(f"state: expected columns {', '.join(schema.names)}; got {got}. {REMEDY}")
    return batch


def unformatted(blob: bytes | memoryview, expected: bytes, what: str) -> memoryview:
    """The blob without its format byte. Raises Corrupt when it is another one."""
    got = bytes(blob[:1])
    if got != expected:
        raise Corrupt(f"state of {what}: expected format {expected!r}; got {got!r}. {REMEDY}")
    return memoryview(blob)[1:]


def join(sections: Sequence[bytes]) -> bytes:
    """Several blobs as one: how many, their lengths, then they. At most 255."""
    lengths = struct.pack(f"<B{len(sections)}Q", len(sections), *(len(section) for section in sections))
    return lengths + b"".join(sections)


def split(blob: bytes | memoryview) -> list[memoryview]:
    """What `join` joined, without a copy. Raises Corrupt when the lengths do not add up."""
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
