"""A supervised worker process that is reused for one block after the other.

Forking for each block costs a copy of every page that is touched, half of the time of a block that takes 0.1 s. So the
worker is kept, and the rows of each block are passed to it in shared memory.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pyarrow as pa

from spinney.workers.worker_process import IDLE, Limits, Line, supervised

LEAST_ROOM = 32 << 20
"""Smallest size of the memory shared with a worker. The system allocates its pages when they are first written."""

_LENGTH = struct.Struct("=Q")

Work = Callable[[Line, Iterator[pa.Table]], None]
"""What the worker runs: it sends one result for each table."""


class Steady:
    """A worker that starts at the first call of `run` and is replaced after it died."""

    def __init__(self, work: Work, limits: Limits) -> None:
        self._work = work
        self._limits = limits
        self._room = 0
        self._made: Generator[Any, None, None] | None = None
        self._shared: mmap.mmap | None = None
        self._asked = self._asking = -1

    def ask(self, table: pa.Table) -> Any:
        """Send a table to the worker and return its result. Raises what `run_supervised` raises.

        After an error the next call starts a new worker.
        """
        told = _written(table)
        if self._made is None or len(told) > self._room:
            self.close()
            self._open(max(LEAST_ROOM, 2 * len(told)))
        assert self._made is not None
        assert self._shared is not None
        self._shared[: len(told)] = told
        try:
            os.write(self._asking, _LENGTH.pack(len(told)))
            return next(self._made)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the worker. It may be called again."""
        if self._made is not None:
            self._made.close()
            for end in (self._asked, self._asking):
                os.close(end)
        if self._shared is not None:
            self._shared.close()
        self._made = self._shared = None

    def _open(self, room: int) -> None:
        shared, self._room = mmap.mmap(-1, room), room
        asked, asking = os.pipe()
        work = self._work
        self._shared, self._asked, self._asking = shared, asked, asking
        self._made = supervised(lambda line: work(line, _tables(line, asked, shared)), self._limits, keeps=[asked])


def _written(table: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def _tables(line: Line, asked: int, shared: mmap.mmap) -> Iterator[pa.Table]:
    """Yield each table that the parent sends. A table is valid until the next one: they share the memory."""
    line.turn(None, IDLE)
    while told := os.read(asked, _LENGTH.size):
        line.turn(None, "")
        whole = pa.py_buffer(shared).slice(0, _LENGTH.unpack(told)[0])
        yield pa.ipc.open_stream(whole).read_all()
        line.turn(None, IDLE)
