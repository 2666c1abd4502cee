"""What a child does is its own affair: it is heard whole or not at all, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from spinney.core.errors import ContractError
from spinney.workers import worker_process
from spinney.workers.worker_process import IDLE, Limits, WorkerChannel, WorkerDied, run_supervised

LIMITS = Limits(time_limit_s=20.0, memory_limit_bytes=256 << 20)
ORPHAN = """
import os, sys, time
from spinney.workers.worker_process import Limits, run_supervised
def work(line):
    line.send(os.getpid())
    time.sleep(3600)
for pid in run_supervised(work, Limits()):
    print(pid, flush=True)
"""


def told(work: Callable[[WorkerChannel], None], limits: Limits = LIMITS) -> list[Any]:
    return list(run_supervised(work, limits))


def lives(pid: int) -> bool:
    """A zombie does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def ends(pid: int) -> bool:
    until = time.monotonic() + 20
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not lives(pid)


def test_all_that_it_sends_arrives_in_order_however_long() -> None:
    def work(line: WorkerChannel) -> None:
        for size in (0, 1, 5_000_000):
            line.send(b"x" * size)

    assert [len(each) for each in told(work)] == [0, 1, 5_000_000]


def test_what_was_sent_before_a_death_arrives_and_then_the_death() -> None:
    def work(line: WorkerChannel) -> None:
        line.send(b"x" * 300_000)
        line.begin(7, "while it was tested")
        os.kill(os.getpid(), signal.SIGKILL)

    came = run_supervised(work, LIMITS)
    assert len(next(came)) == 300_000
    with pytest.raises(WorkerDied) as died:
        next(came)
    assert (died.value.place, died.value.activity, died.value.error_class) == (7, "while it was tested", "Killed")


@pytest.mark.parametrize("holds_pipe", [False, True])
def test_a_death_in_the_middle_of_a_message_holds_nobody_up(monkeypatch, holds_pipe: bool) -> None:
    """Not even where another process still holds the pipe open."""

    def work(line: WorkerChannel) -> None:
        if holds_pipe and os.fork() == 0:
            os.setsid()
            time.sleep(5)
            os._exit(0)
        os.write(line.fd, (1 << 20).to_bytes(8, sys.byteorder) + b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerDied):
        told(work)


def test_errors_of_ours_and_those_in_nobodys_turn_go_on_with_where_they_were_raised() -> None:
    def work(line: WorkerChannel) -> None:
        line.begin(1, "while it was tested")
        raise ContractError("rows: expected some; got none")

    def in_nobodys_turn(line: WorkerChannel) -> None:
        line.begin(None, "")
        raise KeyError("x")

    with pytest.raises(ContractError, match="rows: expected some; got none") as raised:
        told(work)
    assert "in work" in raised.value.__notes__[0]
    with pytest.raises(KeyError, match="x"):
        told(in_nobodys_turn)


def test_an_error_that_cannot_travel_is_told_in_words() -> None:
    class Local(Exception):  # noqa: N818 - of a class that no other module knows
        pass

    def work(line: WorkerChannel) -> None:
        raise Local("not to be pickled")

    with pytest.raises(RuntimeError, match="Local: not to be pickled"):
        told(work)


def test_it_and_all_that_it_has_started_are_gone_when_it_is_done() -> None:
    def work(line: WorkerChannel) -> None:
        left = os.fork()
        if left == 0:
            time.sleep(3600)
        line.send((os.getpid(), left))

    ((child, left),) = told(work)
    assert ends(child)
    assert ends(left)


def test_a_process_that_it_forks_is_not_heard_in_its_name() -> None:
    def work(line: WorkerChannel) -> None:
        twin = os.fork()
        if twin == 0:
            line.begin(5, "while it was the twin")
            line.send("the twin's")
        os.waitpid(twin, 0)
        line.send((line.place, "its own"))

    assert told(work) == [(None, "its own")]


def test_it_is_gone_when_nobody_listens_any_more() -> None:
    def work(line: WorkerChannel) -> None:
        line.send(os.getpid())
        time.sleep(3600)

    came: Iterator[int] = run_supervised(work, LIMITS)
    pid = next(came)
    assert lives(pid)
    came.close()  # type: ignore[attr-defined]
    assert not lives(pid)


def test_it_ends_with_its_parent_however_that_ends() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert lives(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert ends(pid)


def test_it_holds_nothing_of_its_parents_and_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    here, there = socket.socketpair()

    def work(line: WorkerChannel) -> None:
        sys.stdout.write("out")
        sys.stdout.flush()
        os.write(1, b"out")
        os.write(2, b"err")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(here.fileno())
        line.send((os.read(0, 1), len(os.listdir("/dev/fd"))))

    with here, there:
        ((read, open_files),) = told(work)
    assert read == b""
    assert open_files <= 7  # three that lead nowhere, that which they are copies of, the pipe, and two of this listing
    assert capfd.readouterr() == ("", "")


def test_a_turn_that_ends_in_time_is_never_late_however_many_there_are() -> None:
    def work(line: WorkerChannel) -> None:
        for at in range(8):
            line.begin(at, "while it was tested")
            time.sleep(0.1)
        line.begin(8, "while it was tested")
        time.sleep(3600)

    with pytest.raises(WorkerDied) as died:
        told(work, Limits(time_limit_s=0.6))
    assert (died.value.place, died.value.has_timed_out) == (8, True)
    assert died.value.elapsed_ms > 600


def test_a_turn_that_is_half_written_is_nobodys_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is emptied before it is filled: a parent that looks then would read of place 0, since the beginning."""

    class Slow(struct.Struct):
        def pack_into(self, buffer: Any, offset: int, *values: Any) -> None:
            buffer[offset : offset + self.size] = bytes(self.size)
            time.sleep(3 * worker_process.POLL_INTERVAL_S)
            super().pack_into(buffer, offset, *values)

    def work(line: WorkerChannel) -> None:
        line.begin(3, "while it was tested")
        line.send("in time")

    monkeypatch.setattr(worker_process, "_STATUS", Slow(worker_process._STATUS.format))
    assert time.monotonic() > LIMITS.time_limit_s
    assert told(work) == ["in time"]


def test_one_that_waits_is_late_once_it_is_asked_and_does_not_begin() -> None:
    def work(line: WorkerChannel) -> None:
        line.begin(None, IDLE)
        line.send("ready")
        line.begin(None, IDLE)
        time.sleep(3)
        line.send("late")

    came = run_supervised(work, Limits(time_limit_s=0.5))
    assert next(came) == "ready"
    time.sleep(1)  # nobody asks
    began = time.monotonic()
    with pytest.raises(WorkerDied) as died:
        next(came)
    assert (died.value.place, died.value.activity, died.value.has_timed_out) == (None, IDLE, True)
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize(("error_class", "end"), [("Exited", lambda: os._exit(3)), ("Killed", os.abort)])
def test_what_it_ended_with_is_known_where_that_takes_reaping_it(
    monkeypatch: pytest.MonkeyPatch, error_class: str, end: Callable[[], None]
) -> None:
    """As on macOS before Python 3.13."""
    monkeypatch.delattr(os, "waitid")
    with pytest.raises(WorkerDied) as died:
        told(lambda line: end())
    assert died.value.error_class == error_class
    (pid,) = told(lambda line: line.send(os.getpid()))
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_the_memory_limit_is_what_it_takes_besides_what_there_was() -> None:
    ballast = bytearray(300 << 20)

    def work(line: WorkerChannel) -> None:
        line.send(len(bytearray(150 << 20)))
        with pytest.raises(MemoryError):
            bytearray(300 << 20)
        line.send("refused")

    assert told(work) == [150 << 20, "refused"]
    assert len(ballast) == 300 << 20


def test_no_more_memory_outside_of_any_guard_is_a_death_and_no_error_of_the_parents() -> None:
    def work(line: WorkerChannel) -> None:
        line.begin(3, "while it was tested")
        bytearray(1 << 40)

    with pytest.raises(WorkerDied) as died:
        told(work)
    assert (died.value.place, died.value.error_class) == (3, "MemoryError")
    assert died.value.text.endswith("Fit fewer rows, or raise recipe.memory_limit_mib")
