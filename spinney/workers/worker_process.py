"""A child process that does what may go wrong: a fork of this one, under a deadline and a memory limit.

Forking costs a few milliseconds and gives the child every row without a copy. It hands back what it makes over a pipe;
whose turn it is stands in shared memory, with the time at which it began. The pipe is read without ever waiting for
the rest of a message, so a child that dies or stops in the middle of one holds nobody up.
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
"""How often the parent looks whether the child still lives, and its deadline."""

IDLE = "while it had nothing to do"
"""What is done while a child waits for its parent, for as long as that takes: its time begins when it is asked."""

TIMED_OUT = TimedOut.__name__
FAULTS = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")
_READ_BYTES = 1 << 20
_LENGTH = struct.Struct("=Q")
_TURN = struct.Struct("=dq48s")
_AT = 1
"""Where the turn stands; the byte before it is odd while it is written."""
_NOBODY = -1
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Limits:
    """seconds: of one turn, on the wall clock. memory_bytes: of address space that the child may take besides."""

    seconds: float = 30.0
    memory_bytes: int = 2 << 30

    @classmethod
    def of(cls, config: Config) -> Limits:
        recipe = config.recipe
        return cls(recipe.time_limit.total_seconds(), recipe.memory_limit_mib << 20)


@dataclass(eq=False)
class Died(Exception):  # noqa: N818 - said as what is so
    """The child ended before its work did. at, doing: the turn that it ended in; at: None if it was nobody's own.

    ms: how long the turn had lasted. error_class, text: what happened, and what to do.
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
    """What the work gave."""
    RAISED = auto()
    """An error that is no turn's own: it goes on in the parent."""
    BROKE = auto()
    """What a turn raised that no guard of a fit holds: class and text."""
    DONE = auto()


class Line:
    """The child's end. Only the child itself is heard: a process that it forks in turn ends where it would speak."""

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
        """A turn begins, and with it the deadline anew."""
        self._check()
        self.at, self.doing, self._count = at, doing, (self._count + 2) % 256
        self._turns[0] = self._count + 1
        _TURN.pack_into(self._turns, _AT, time.monotonic(), _NOBODY if at is None else at, doing.encode())
        self._turns[0] = self._count

    def send(self, made: Any) -> None:
        """Hand something over to the parent. It ends the turn."""
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
    """Do `work` in a child, and give what it sends. Raises what it raises, and Died when the child ends before it.

    keeps: open files that the child has, too.
    """
    turns = mmap.mmap(-1, _AT + _TURN.size)
    _TURN.pack_into(turns, _AT, time.monotonic(), _NOBODY, b"")
    reading, writing = os.pipe()
    line, parent = Line(writing, turns), os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child starts none of them again
        pid = os.fork()
    if pid == 0:
        _live(work, line, limits, _Of(parent, {writing, *keeps}))
    process = _Process(pid)
    try:
        os.close(writing)
        with suppress(OSError):
            os.setpgid(pid, pid)  # the child does it too: whoever comes first
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
        status = process.status()  # before the pipe is read: what a dead child said is there
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
    """Read all that is there. False at the end of the pipe, which a grandchild may keep open."""
    with suppress(BlockingIOError):
        while came := os.read(reading, _READ_BYTES):
            buffer += came
        return False
    return True


def _messages(buffer: bytearray) -> Iterator[tuple[_Kind, Any]]:
    """Those that are whole; taken from the buffer."""
    while len(buffer) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
        if len(buffer) < end:
            return
        told = bytes(buffer[_LENGTH.size : end])
        del buffer[:end]
        yield pickle.loads(told)  # noqa: S301 - by our own fork


@dataclass
class _Process:
    """The child, as its parent has it. ended: with what, where that can be known only by reaping it."""

    pid: int
    ended: int | None = None

    def status(self) -> int | None:
        """What it ended with: a code, or minus a signal. None while it lives."""
        if self.ended is not None:
            return self.ended
        try:
            if not hasattr(os, "waitid"):  # macOS before Python 3.13
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.ended = os.waitstatus_to_exitcode(status) if pid else None
                return self.ended
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # somebody else has reaped it
            return 0
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def end(self) -> None:
        """Kill it with all that it has started, then reap it: until then its number is nobody else's."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.ended is None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)


@dataclass(frozen=True)
class _Turn:
    """Whose it is, what is done, and since when."""

    since: float
    at: int | None
    doing: str

    def died(self, error_class: str, text: str) -> Died:
        return Died(self.at, self.doing, (time.monotonic() - self.since) * 1e3, error_class, text)


def _turn(turns: mmap.mmap) -> _Turn | None:
    """None while it is being written: half of it would name the wrong one, or a time long ago."""
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
    """What a child has of its parent: its number and the files that it keeps."""

    parent: int
    files: Collection[int]


def _live(work: Callable[[Line], None], line: Line, limits: Limits, of: _Of) -> NoReturn:
    """The child's whole life. It never returns into what the parent was doing, and runs none of its exits."""
    try:
        line.open()
        _leash(of.parent)
        _shut(of.files)
        _limit(limits)
        gc.freeze()  # what was there before is shared as long as nobody visits it
        work(line)
        line.say(_Kind.DONE)
    except BaseException as error:
        with suppress(BaseException):
            _unlimit()
            line.say(*_report(error, line))
    finally:
        os._exit(1)


def _report(error: BaseException, line: Line) -> tuple[_Kind, Any]:
    """An error of ours, or one that came in nobody's turn, goes on in the parent; anything else is the turn's."""
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
    """End with the parent (Linux), die first when memory is short, and be one group with all that is started here."""
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
    """Nothing is read or shown, and nothing of the parent's is held open: a socket, a lock, a file."""
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
