"""A supervised worker process that is reused for one block after the other.

A fork for each block would copy every page that is touched, which takes half of the time of a block of 0.1 s. So the
worker is kept, and the tables of each block are written into memory that it shares.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import pyarrow as pa

from spinney.workers.worker_process import IDLE, Limits, WorkerChannel, run_supervised

MIN_SHARED_BYTES = 32 << 20
"""Smallest size of the memory shared with a worker. The system allocates its pages when they are first written."""

_REQUEST_LENGTH = struct.Struct("=Q")

Work = Callable[[WorkerChannel, Iterator[list[pa.Table]]], None]
"""Function that the worker runs: it sends one result for the tables of each call of `run`."""


class PersistentWorker:
    """A worker that starts at the first call of `run` and is replaced after it died."""

    def __init__(self, work: Work, limits: Limits) -> None:
        self._work = work
        self._limits = limits
        self._capacity_bytes = 0
        self._results: Generator[Any, None, None] | None = None
        self._shared_memory: mmap.mmap | None = None
        self._request_reader = self._request_writer = -1

    def run(self, *tables: pa.Table) -> Any:
        """Send tables to the worker and return its result. Raises the errors of `run_supervised`.

        After an error the next call starts a new worker.
        """
        counted = pa.MockOutputStream()
        _write_tables(counted, tables)
        length = counted.size()
        if self._results is None or length > self._capacity_bytes:
            self.close()
            self._open(max(MIN_SHARED_BYTES, 2 * length))
        assert self._results is not None
        assert self._shared_memory is not None
        _write_tables(pa.FixedSizeBufferWriter(pa.py_buffer(self._shared_memory)), tables)
        try:
            os.write(self._request_writer, _REQUEST_LENGTH.pack(length))
            return next(self._results)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the worker. It may be called again."""
        if self._results is not None:
            self._results.close()
            for end in (self._request_reader, self._request_writer):
                os.close(end)
        if self._shared_memory is not None:
            self._shared_memory.close()
        self._results = self._shared_memory = None

    def _open(self, capacity_bytes: int) -> None:
        memory, self._capacity_bytes = mmap.mmap(-1, capacity_bytes), capacity_bytes
        reader, writer = os.pipe()
        work = self._work
        self._shared_memory, self._request_reader, self._request_writer = memory, reader, writer
        self._results = run_supervised(
            lambda channel: work(channel, _received_tables(channel, reader, memory)),
            self._limits,
            inherited_fds=[reader],
        )


def _write_tables(sink: pa.NativeFile, tables: Sequence[pa.Table]) -> None:
    """Write the tables as Arrow streams, one after the other."""
    for table in tables:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)


def _received_tables(channel: WorkerChannel, reader: int, memory: mmap.mmap) -> Iterator[list[pa.Table]]:
    """Yield the tables of each call of `run`.

    They are valid until the next tables are read, which use the same memory.
    """
    channel.begin(None, IDLE)
    while packed := os.read(reader, _REQUEST_LENGTH.size):
        channel.begin(None, "")
        (length,) = _REQUEST_LENGTH.unpack(packed)
        source, tables = pa.BufferReader(pa.py_buffer(memory).slice(0, length)), []
        while source.tell() < length:
            tables.append(pa.ipc.open_stream(source).read_all())
        yield tables
        channel.begin(None, IDLE)
