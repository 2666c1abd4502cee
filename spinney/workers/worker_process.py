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

from spinney.core.config import sections
from spinney.core.errors import SpinneyError, TimedOut

POLL_INTERVAL_S = 0.05
"""Seconds between the parent's checks that the worker is alive and within its time limit."""

IDLE = "while it had nothing to do"
"""Activity of a worker that waits for its next request. Its time limit starts when the request is sent."""

TIMED_OUT_CLASS = TimedOut.__name__
FAULT_SIGNALS = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")
_READ_BYTES = 1 << 20
_LENGTH = struct.Struct("=Q")
_STATUS = struct.Struct("=dq48s")
_STATUS_OFFSET = 1
"""Offset of the status in the shared memory. The byte before it is a version: odd while the status is being written."""
_NO_GROUP = -1
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Limits:
    """Limits of a worker.

    time_limit_s: wall-clock seconds for one group. memory_limit_bytes: address space beyond what the parent had mapped
    when the worker was forked.
    """

    time_limit_s: float = 30.0
    memory_limit_bytes: int = 2 << 30

    @classmethod
    def of(cls, recipe: sections.Recipe) -> Limits:
        """Return the limits that the section [recipe] sets."""
        return cls(recipe.time_limit.total_seconds(), recipe.memory_limit_mib << 20)


@dataclass(eq=False)
class WorkerDied(Exception):  # noqa: N818 - an event, not a fault of the caller
    """The worker ended before its work was done.

    place, activity: position of the group that it was working on, and what it did; place is None if it was not working
    on a single group. elapsed_ms: how long it had worked on this group. error_class, text: what happened and what to
    do.
    """

    place: int | None
    activity: str
    elapsed_ms: float
    error_class: str
    text: str

    @property
    def has_timed_out(self) -> bool:
        """Whether the worker was killed because it exceeded the time limit."""
        return self.error_class == TIMED_OUT_CLASS


class _MessageType(Enum):
    RESULT = auto()
    """A result of the work."""
    ERROR = auto()
    """An error that concerns no single group: the parent raises it again."""
    GROUP_FAILED = auto()
    """An error outside of a fit's own error handling, while the worker was working on a group: class and text."""
    DONE = auto()


class WorkerChannel:
    """The worker's end of the connection to its parent. A process that the worker forks exits when it uses this."""

    def __init__(self, fd: int, status_memory: mmap.mmap) -> None:
        self.fd = fd
        self.place: int | None = None
        self.activity = ""
        self._status_memory = status_memory
        self._version = 0
        self._pid = 0

    def open(self) -> None:
        """Bind the channel to this process: call it in the worker."""
        self._pid = os.getpid()

    def begin(self, place: int | None, activity: str) -> None:
        """Report that work on a group begins. The time limit starts again.

        place: the group's position in its block; None for work that concerns no single group.
        """
        self._exit_if_forked()
        self.place, self.activity, self._version = place, activity, (self._version + 2) % 256
        self._status_memory[0] = self._version + 1
        _STATUS.pack_into(
            self._status_memory,
            _STATUS_OFFSET,
            time.monotonic(),
            _NO_GROUP if place is None else place,
            activity.encode(),
        )
        self._status_memory[0] = self._version

    def send(self, result: Any) -> None:
        """Send a result to the parent and end the work on the current group."""
        self.send_message(_MessageType.RESULT, result)
        self.begin(None, "")

    def send_message(self, message_type: _MessageType, content: Any = None) -> None:
        """Send a message of any type to the parent."""
        self._exit_if_forked()
        message = pickle.dumps((message_type, content), protocol=5)
        view = memoryview(_LENGTH.pack(len(message)) + message)
        while view:
            view = view[os.write(self.fd, view) :]

    def _exit_if_forked(self) -> None:
        if os.getpid() != self._pid:
            os._exit(0)


def run_supervised(
    work: Callable[[WorkerChannel], None], limits: Limits, inherited_fds: Collection[int] = ()
) -> Generator[Any, None, None]:
    """Run `work` in a forked worker and yield what it sends.

    inherited_fds: file descriptors that stay open in the worker. Raises what `work` raises, and WorkerDied if the
    worker ends before `work` returns.
    """
    status_memory = mmap.mmap(-1, _STATUS_OFFSET + _STATUS.size)
    _STATUS.pack_into(status_memory, _STATUS_OFFSET, time.monotonic(), _NO_GROUP, b"")
    reader, writer = os.pipe()
    channel, parent_pid = WorkerChannel(writer, status_memory), os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the worker does not use the parent's
        pid = os.fork()
    if pid == 0:
        _run_child(work, channel, limits, _Inherited(parent_pid, {writer, *inherited_fds}))
    process = _Process(pid)
    try:
        os.close(writer)
        with suppress(OSError):
            os.setpgid(pid, pid)  # the worker does it too; whichever runs first
        yield from _receive(process, reader, status_memory, limits)
    finally:
        process.end()
        os.close(reader)
        status_memory.close()


def _receive(process: _Process, reader: int, status_memory: mmap.mmap, limits: Limits) -> Iterator[Any]:
    os.set_blocking(reader, False)
    buffer, is_open, last_received = bytearray(), True, time.monotonic()
    last_status = _Status(last_received, None, "")
    while True:
        wait([reader] if is_open else [], POLL_INTERVAL_S)
        exit_status = process.exit_status()  # before reading the pipe: all that a dead worker sent is in it
        is_open = is_open and _read_available(buffer, reader)
        current_status = _read_status(status_memory)
        last_status = current_status or last_status
        for message_type, content in _complete_messages(buffer):
            if message_type is _MessageType.DONE:
                return
            if message_type is _MessageType.ERROR:
                raise content
            if message_type is _MessageType.GROUP_FAILED:
                raise last_status.worker_died(*content)
            yield content
            last_received, current_status = time.monotonic(), None
        if exit_status is not None:
            raise last_status.worker_died(*_exit_text(exit_status, last_status.activity))
        since = max(last_status.since, last_received) if last_status.activity == IDLE else last_status.since
        if current_status is not None and time.monotonic() - since > limits.time_limit_s:
            raise last_status.worker_died(TIMED_OUT_CLASS, _timeout_text(limits, last_status.activity))


def _read_available(buffer: bytearray, reader: int) -> bool:
    """Append what the pipe holds to the buffer. Return False at its end, which a grandchild may delay."""
    with suppress(BlockingIOError):
        while chunk := os.read(reader, _READ_BYTES):
            buffer += chunk
        return False
    return True


def _complete_messages(buffer: bytearray) -> Iterator[tuple[_MessageType, Any]]:
    """Remove the complete messages from the buffer and yield them."""
    while len(buffer) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
        if len(buffer) < end:
            return
        message = bytes(buffer[_LENGTH.size : end])
        del buffer[:end]
        yield pickle.loads(message)  # noqa: S301 - by our own fork


@dataclass
class _Process:
    """The worker process, seen from its parent.

    reaped_status: its exit status, on systems where it can only be read by reaping the process.
    """

    pid: int
    reaped_status: int | None = None

    def exit_status(self) -> int | None:
        """Return the worker's exit code, or minus the signal that killed it; None while it runs."""
        if self.reaped_status is not None:
            return self.reaped_status
        try:
            if not hasattr(os, "waitid"):  # macOS before Python 3.13
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.reaped_status = os.waitstatus_to_exitcode(status) if pid else None
                return self.reaped_status
            state = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # another part of this program has reaped it
            return 0
        if state is None:
            return None
        return state.si_status if state.si_code == os.CLD_EXITED else -state.si_status

    def end(self) -> None:
        """Kill the worker and its process group, then reap it. Until then no other process gets its id."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.reaped_status is None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)


@dataclass(frozen=True)
class _Status:
    """The position of the group that a worker works on, its activity, and its start in monotonic seconds."""

    since: float
    place: int | None
    activity: str

    def worker_died(self, error_class: str, text: str) -> WorkerDied:
        return WorkerDied(self.place, self.activity, (time.monotonic() - self.since) * 1e3, error_class, text)


def _read_status(status_memory: mmap.mmap) -> _Status | None:
    """The worker's status; None while it is being written, when its fields may not belong together."""
    version = status_memory[0]
    since, place, activity = _STATUS.unpack_from(status_memory, _STATUS_OFFSET)
    if version % 2 or status_memory[0] != version:
        return None
    return _Status(since, None if place == _NO_GROUP else place, activity.rstrip(b"\0").decode())


def _timeout_text(limits: Limits, activity: str) -> str:
    return (
        f"no end within {limits.time_limit_s:g} s (recipe.time_limit) {activity}; its process was killed. Mend the "
        "estimator for such rows, or raise the limit"
    )


def _exit_text(status: int, activity: str) -> tuple[str, str]:
    if status >= 0:
        text = f"its process ended with code {status} {activity}. An estimator must raise an error, not exit"
        return "Exited", text
    name = signal.Signals(-status).name
    if name == "SIGKILL":
        cause = "out of memory, or by itself. Fit fewer rows, lower recipe.memory_limit_mib, or mend the estimator"
    elif name in FAULT_SIGNALS:
        cause = "a fault in compiled code. Mend the estimator for such rows, or its library"
    else:
        cause = "by itself or by hand. Mend the estimator for such rows"
    return "Killed", f"its process was killed by {name} {activity}: {cause}"


@dataclass(frozen=True)
class _Inherited:
    """Things that a worker inherits: the parent's process id and the file descriptors that stay open."""

    parent_pid: int
    fds: Collection[int]


def _run_child(
    work: Callable[[WorkerChannel], None], channel: WorkerChannel, limits: Limits, inherited: _Inherited
) -> NoReturn:
    """Run the worker and exit. It never returns into the parent's code and runs none of its exit handlers."""
    try:
        channel.open()
        _tie_to_parent(inherited.parent_pid)
        _close_inherited_files(inherited.fds)
        _limit_memory(limits)
        gc.freeze()  # collecting the parent's objects would copy their pages
        work(channel)
        channel.send_message(_MessageType.DONE)
    except BaseException as error:
        with suppress(BaseException):
            _lift_memory_limit()
            channel.send_message(*_failure_message(error, channel))
    finally:
        os._exit(1)


def _failure_message(error: BaseException, channel: WorkerChannel) -> tuple[_MessageType, Any]:
    """Return the message about an error that ended the work.

    A SpinneyError, and an error while no group was worked on, are raised again in the parent. Any other error becomes
    the error of the group.
    """
    name, activity = type(error).__name__, channel.activity
    if isinstance(error, MemoryError):
        return _MessageType.GROUP_FAILED, (
            "MemoryError",
            f"no more memory {activity}. Fit fewer rows, or raise recipe.memory_limit_mib",
        )
    if not isinstance(error, Exception):
        text = f"{name}({str(error)[:200]}) was raised {activity}. An estimator must raise an error, not exit"
        return _MessageType.GROUP_FAILED, (name, text)
    if channel.place is not None and not isinstance(error, SpinneyError):
        return _MessageType.GROUP_FAILED, (name, f"{str(error)[:300]} ({activity})")
    trace = "".join(traceback.format_exception(error))
    try:
        error.add_note(f"in the child:\n{trace}")
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        error = RuntimeError(f"in the child:\n{trace}")
    return _MessageType.ERROR, error


def _tie_to_parent(parent_pid: int) -> None:
    """Make the kernel kill this process with its parent, and before others when memory is short (Linux only).

    It becomes the leader of a process group, so that the processes it starts are killed with it.
    """
    os.setpgid(0, 0)
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if os.getppid() != parent_pid:
        os._exit(1)
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _close_inherited_files(kept_fds: Collection[int]) -> None:
    """Redirect the standard streams to /dev/null and close the parent's sockets, locks and files."""
    null_fd = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null_fd, fd)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end
    for fd in map(int, os.listdir("/dev/fd")):
        if fd > 2 and fd not in {*kept_fds, null_fd, sys.stdout.fileno()}:
            with suppress(OSError):
                os.close(fd)


def _limit_memory(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":  # elsewhere the size at the start is not known, nor is the limit enforced
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit, hard = (
            pages * resource.getpagesize() + limits.memory_limit_bytes,
            resource.getrlimit(resource.RLIMIT_AS)[1],
        )
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))


def _lift_memory_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
