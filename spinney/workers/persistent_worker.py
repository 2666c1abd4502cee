"""A supervised child that takes one block after the other, for as long as it lives.

A fork pays for every page that it touches anew: for a block that takes a tenth of a second, half as much again. So the
rows of each block are handed over in shared memory, and the child is kept.
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
"""Bytes shared with a child at least. None of them is taken before it is used."""

_LENGTH = struct.Struct("=Q")

Work = Callable[[Line, Iterator[pa.Table]], None]
"""What the child does: it sends one result for each table."""


class Steady:
    """One child, made when it is first asked."""

    def __init__(self, work: Work, limits: Limits) -> None:
        self._work = work
        self._limits = limits
        self._room = 0
        self._made: Generator[Any, None, None] | None = None
        self._shared: mmap.mmap | None = None
        self._asked = self._asking = -1

    def ask(self, table: pa.Table) -> Any:
        """What the child makes of this. Raises what `supervised` raises; the next one is then asked of a new child."""
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
        """End the child."""
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
    """Each table as it is asked about; they share the memory, so each holds until the next one."""
    line.turn(None, IDLE)
    while told := os.read(asked, _LENGTH.size):
        line.turn(None, "")
        whole = pa.py_buffer(shared).slice(0, _LENGTH.unpack(told)[0])
        yield pa.ipc.open_stream(whole).read_all()
        line.turn(None, IDLE)
