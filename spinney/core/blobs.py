"""State as bytes: Arrow tables in one binary column.

Array and map fields in a state schema break on later Spark versions, so a state is scalars and one blob whose first
byte is its format.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyarrow as pa


def ipc_bytes(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def ipc_batch(blob: bytes | memoryview) -> pa.RecordBatch:
    with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
        batches = list(reader)
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=reader.schema)


def join(sections: Sequence[bytes]) -> bytes:
    """Several blobs as one: their lengths, then they."""
    lengths = struct.pack(f"<B{len(sections)}Q", len(sections), *(len(section) for section in sections))
    return lengths + b"".join(sections)


def split(blob: bytes | memoryview) -> list[memoryview]:
    view = memoryview(blob)
    count = view[0]
    lengths = struct.unpack_from(f"<{count}Q", view, 1)
    at = 1 + 8 * count
    sections = []
    for length in lengths:
        sections.append(view[at : at + length])
        at += length
    return sections
