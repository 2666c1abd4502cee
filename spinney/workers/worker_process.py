"""A forked worker process with a time limit per group and a memory limit.

A fork takes a few milliseconds and shares the parent's rows without copying them. The worker sends results over a
pipe. It writes its status (which group, which activity, since when) to shared memory. The parent never blocks on the
rest of a message, so a worker that dies or hangs while sending does not block it.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import pickle
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NoReturn

from spinney.core.config import Config
from spinney.core.errors import SpinneyError, TimedOut

POLL_SECONDS = 0.05
"""Seconds between the parent's checks that the worker is alive and within its time limit."""

IDLE = "while it had nothing to do"
"""Activity of a worker that waits for its next request. Its time limit starts when the request is sent."""

TIMED_OUT = TimedOut.__name__
FAULTS = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")
_READ_BYTES = 1 << 20
_LENGTH = struct.Struct("=Q")
_TURN = struct.Struct("=dq48s")
_AT = 1
"""Offset of the status in the shared memory. The byte before it is a version: odd while the status is being written."""
_NOBODY = -1
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Limits:
    """Limits of a worker.

    time_limit_s: wall-clock seconds for one group. memory_limit_bytes: address space beyond what the parent had mapped
    when the worker was forked.
    """

    seconds: float = 30.0
    memory_bytes: int = 2 << 30

    @classmethod
    def of(cls, config: Config) -> Limits:
        recipe = config.recipe
        return cls(recipe.time_limit.total_seconds(), recipe.memory_limit_mib << 20)


@dataclass(eq=False)
class Died(Exception):  # noqa: N818 - an event, not a fault of the caller
    """The worker ended before its work was done.

    place, activity: the group it was working on and what it did; place is None if it was not working on one group.
    elapsed_ms: how long it had worked on that. error_class, text: what happened and what to do.
    """

    at: int | None
    doing: str
    ms: float
    error_class: str
    text: str

    @property
    def timed_out(self) -> bool:
        return self.error_class == TIMED_OUT


class _Kind(Enum):
    MADE = auto()
    """A result of the work."""
    RAISED = auto()
    """An error that concerns no single group: the parent raises it again."""
    BROKE = auto()
    """An error outside of a fit's own error handling, while the worker was working on a group: class and text."""
    DONE = auto()


class Line:
    """The worker's end of the connection to its parent. A process that the worker forks exits when it uses it."""

    def __init__(self, fd: int, turns: mmap.mmap) -> None:
        self.fd = fd
        self.at: int | None = None
        self.doing = ""
        self._turns = turns
        self._count = 0
        self._pid = 0

    def open(self) -> None:
        self._pid = os.getpid()

    def turn(self, at: int | None, doing: str) -> None:
        """Report that work on a group begins. The time limit starts again.

        place: the group's position in its block; None for work that concerns no single group.
        """
        self._check()
        self.at, self.doing, self._count = at, doing, (self._count + 2) % 256
        self._turns[0] = self._count + 1
        _TURN.pack_into(self._turns, _AT, time.monotonic(), _NOBODY if at is None else at, doing.encode())
        self._turns[0] = self._count

    def send(self, made: Any) -> None:
        """Send a result to the parent and end the work on the current group."""
        self.say(_Kind.MADE, made)
        self.turn(None, "")

    def say(self, kind: _Kind, content: Any = None) -> None:
        self._check()
        told = pickle.dumps((kind, content), protocol=5)
        view = memoryview(_LENGTH.pack(len(told)) + told)
        while view:
            view = view[os.write(self.fd, view) :]

    def _check(self) -> None:
        if os.getpid() != self._pid:
            os._exit(0)


def supervised(work: Callable[[Line], None], limits: Limits, keeps: Collection[int] = ()) -> Generator[Any, None, None]:
    """Run `work` in a forked worker and yield what it sends.

    inherited_fds: file descriptors that stay open in the worker. Raises what `work` raises, and WorkerDied if the
    worker ends before `work` returns.
    """
    turns = mmap.mmap(-1, _AT + _TURN.size)
    _TURN.pack_into(turns, _AT, time.monotonic(), _NOBODY, b"")
    reading, writing = os.pipe()
    line, parent = Line(writing, turns), os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the worker does not use the parent's
        pid = os.fork()
    if pid == 0:
        _live(work, line, limits, _Of(parent, {writing, *keeps}))
    process = _Process(pid)
    try:
        os.close(writing)
        with suppress(OSError):
            os.setpgid(pid, pid)  # the worker does it too; whichever runs first
        yield from _heard(process, reading, turns, limits)
    finally:
        process.end()
        os.close(reading)
        turns.close()


def _heard(process: _Process, reading: int, turns: mmap.mmap, limits: Limits) -> Iterator[Any]:
    os.set_blocking(reading, False)
    buffer, is_open, asked = bytearray(), True, time.monotonic()
    turn = _Turn(asked, None, "")
    while True:
        wait([reading] if is_open else [], POLL_SECONDS)
        status = process.status()  # before reading the pipe: all that a dead worker sent is in it
        is_open = is_open and _fill(buffer, reading)
        now = _turn(turns)
        turn = now or turn
        for kind, content in _messages(buffer):
            if kind is _Kind.DONE:
                return
            if kind is _Kind.RAISED:
                raise content
            if kind is _Kind.BROKE:
                raise turn.died(*content)
            yield content
            asked, now = time.monotonic(), None
        if status is not None:
            raise turn.died(*_ended(status, turn.doing))
        since = max(turn.since, asked) if turn.doing == IDLE else turn.since
        if now is not None and time.monotonic() - since > limits.seconds:
            raise turn.died(TIMED_OUT, _overdue(limits, turn.doing))


def _fill(buffer: bytearray, reading: int) -> bool:
    """Append what the pipe holds to the buffer. Return False at its end, which a grandchild may delay."""
    with suppress(BlockingIOError):
        while came := os.read(reading, _READ_BYTES):
            buffer += came
        return False
    return True


def _messages(buffer: bytearray) -> Iterator[tuple[_Kind, Any]]:
    """Remove the complete messages from the buffer and yield them."""
    while len(buffer) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
        if len(buffer) < end:
            return
        told = bytes(buffer[_LENGTH.size : end])
        del buffer[:end]
        yield pickle.loads(told)  # noqa: S301 - by our own fork


@dataclass
class _Process:
    """The worker process, seen from its parent.

    reaped_status: its exit status, on systems where it can only be read by reaping the process.
    """

    pid: int
    ended: int | None = None

    def status(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""
        if self.ended is not None:
            return self.ended
        try:
            if not hasattr(os, "waitid"):  # macOS before Python 3.13
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.ended = os.waitstatus_to_exitcode(status) if pid else None
                return self.ended
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # another part of this program has reaped it
            return 0
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def end(self) -> None:
        """Kill it and its process group, then reap it. Until it is reaped, no other process gets its id."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.ended is None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)


@dataclass(frozen=True)
class _Turn:
    """What the worker is doing: for which group, and since when (monotonic seconds)."""

    since: float
    at: int | None
    doing: str

    def died(self, error_class: str, text: str) -> Died:
        return Died(self.at, self.doing, (time.monotonic() - self.since) * 1e3, error_class, text)


def _turn(turns: mmap.mmap) -> _Turn | None:
    """The worker's status; None while it is being written, when its fields may not belong together."""
    count = turns[0]
    since, at, doing = _TURN.unpack_from(turns, _AT)
    if count % 2 or turns[0] != count:
        return None
    return _Turn(since, None if at == _NOBODY else at, doing.rstrip(b"\0").decode())


def _overdue(limits: Limits, doing: str) -> str:
    return (
        f"no end within {limits.seconds:g} s (recipe.time_limit) {doing}; its process was killed. Mend the estimator "
        "for such rows, or raise the limit"
    )


def _ended(status: int, doing: str) -> tuple[str, str]:
    if status >= 0:
        text = f"its process ended with code {status} {doing}. An estimator must raise an error, not exit"
        return "Exited", text
    name = signal.Signals(-status).name
    if name == "SIGKILL":
        cause = "out of memory, or by itself. Fit fewer rows, lower recipe.memory_limit_mib, or mend the estimator"
    elif name in FAULTS:
        cause = "a fault in compiled code. Mend the estimator for such rows, or its library"
    else:
        cause = "by itself or by hand. Mend the estimator for such rows"
    return "Killed", f"its process was killed by {name} {doing}: {cause}"


@dataclass(frozen=True)
class _Of:
    """What a worker has from its parent: the parent's process id and the file descriptors that stay open."""

    parent: int
    files: Collection[int]


def _live(work: Callable[[Line], None], line: Line, limits: Limits, of: _Of) -> NoReturn:
    """Run the worker and exit. It never returns into the parent's code and runs none of its exit handlers."""
    try:
        line.open()
        _leash(of.parent)
        _shut(of.files)
        _limit(limits)
        gc.freeze()  # collecting the parent's objects would copy their pages
        work(line)
        line.say(_Kind.DONE)
    except BaseException as error:
        with suppress(BaseException):
            _unlimit()
            line.say(*_report(error, line))
    finally:
        os._exit(1)


def _report(error: BaseException, line: Line) -> tuple[_Kind, Any]:
    """The message about an error that ended the work.

    A SpinneyError, or an error outside of the work on a group, is raised again in the parent. Any other is the group's.
    """
    name, doing = type(error).__name__, line.doing
    if isinstance(error, MemoryError):
        return _Kind.BROKE, ("MemoryError", f"no more memory {doing}. Fit fewer rows, or raise recipe.memory_limit_mib")
    if not isinstance(error, Exception):
        text = f"{name}({str(error)[:200]}) was raised {doing}. An estimator must raise an error, not exit"
        return _Kind.BROKE, (name, text)
    if line.at is not None and not isinstance(error, SpinneyError):
        return _Kind.BROKE, (name, f"{str(error)[:300]} ({doing})")
    trace = "".join(traceback.format_exception(error))
    try:
        error.add_note(f"in the child:\n{trace}")
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        error = RuntimeError(f"in the child:\n{trace}")
    return _Kind.RAISED, error


def _leash(parent: int) -> None:
    """Make the kernel kill this process with its parent, and first when memory is short (both on Linux only).

    It becomes the leader of a process group, so that the processes it starts are killed with it.
    """
    os.setpgid(0, 0)
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if os.getppid() != parent:
        os._exit(1)
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _shut(kept: Collection[int]) -> None:
    """Redirect the standard streams to /dev/null and close the parent's sockets, locks and files."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end
    for fd in map(int, os.listdir("/dev/fd")):
        if fd > 2 and fd not in {*kept, nowhere, sys.stdout.fileno()}:
            with suppress(OSError):
                os.close(fd)


def _limit(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":  # elsewhere the size at the start is not known, nor is the limit enforced
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        wanted, hard = pages * resource.getpagesize() + limits.memory_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))


def _unlimit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
