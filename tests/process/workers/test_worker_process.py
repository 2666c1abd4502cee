"""Whatever a worker process does, its messages arrive complete or not at all, and no process is left."""

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
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spinney.core.errors import ContractError
from spinney.workers import worker_process
from spinney.workers.worker_process import IDLE, Limits, WorkerChannel, WorkerDied, run_supervised

LIMITS = Limits(time_limit_s=60.0, memory_limit_bytes=256 << 20)
ORPHAN = """
import os, sys, time
from spinney.workers.worker_process import Limits, run_supervised
def work(channel):
    channel.send(os.getpid())
    time.sleep(3600)
for pid in run_supervised(work, Limits()):
    print(pid, flush=True)
"""


def results_of(work: Callable[[WorkerChannel], None], limits: Limits = LIMITS) -> list[Any]:
    return list(run_supervised(work, limits))


def lives(pid: int) -> bool:
    """A zombie does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def ends(pid: int) -> bool:
    until = time.monotonic() + 60
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not lives(pid)


def test_results_of_any_length_arrive_in_order() -> None:
    def work(channel: WorkerChannel) -> None:
        for size in (0, 1, 5_000_000):
            channel.send(b"x" * size)

    assert [len(each) for each in results_of(work)] == [0, 1, 5_000_000]


def test_results_sent_before_a_death_arrive_before_it() -> None:
    def work(channel: WorkerChannel) -> None:
        channel.send(b"x" * 300_000)
        channel.begin(7, "while it was tested")
        os.kill(os.getpid(), signal.SIGKILL)

    results = run_supervised(work, LIMITS)
    assert len(next(results)) == 300_000
    with pytest.raises(WorkerDied) as died:
        next(results)
    assert (died.value.place, died.value.activity, died.value.error_class) == (7, "while it was tested", "Killed")


@pytest.mark.parametrize("holds_pipe", [False, True])
def test_a_death_in_the_middle_of_a_message_does_not_block_the_parent(monkeypatch, holds_pipe: bool) -> None:
    """Not even where another process still holds the pipe open."""

    def work(channel: WorkerChannel) -> None:
        if holds_pipe and os.fork() == 0:
            os.setsid()
            time.sleep(5)
            os._exit(0)
        os.write(channel.fd, (1 << 20).to_bytes(8, sys.byteorder) + b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerDied):
        results_of(work)


def test_spinney_errors_and_errors_outside_of_a_group_are_raised_in_the_parent_with_their_origin() -> None:
    def work(channel: WorkerChannel) -> None:
        channel.begin(1, "while it was tested")
        raise ContractError("rows: expected some; got none")

    def outside_of_a_group(channel: WorkerChannel) -> None:
        channel.begin(None, "")
        raise KeyError("x")

    with pytest.raises(ContractError, match="rows: expected some; got none") as raised:
        results_of(work)
    assert "in work" in raised.value.__notes__[0]
    with pytest.raises(KeyError, match="x"):
        results_of(outside_of_a_group)


def test_an_error_that_cannot_be_pickled_arrives_as_text() -> None:
    class Local(Exception):  # noqa: N818 - of a class that no other module knows
        pass

    def work(channel: WorkerChannel) -> None:
        raise Local("not to be pickled")

    with pytest.raises(RuntimeError, match="Local: not to be pickled"):
        results_of(work)


def test_the_worker_and_the_processes_it_started_are_gone_when_it_is_done() -> None:
    def work(channel: WorkerChannel) -> None:
        left = os.fork()
        if left == 0:
            time.sleep(3600)
        channel.send((os.getpid(), left))

    ((child, left),) = results_of(work)
    assert ends(child)
    assert ends(left)


def test_a_process_that_the_worker_forks_cannot_send_in_its_name() -> None:
    def work(channel: WorkerChannel) -> None:
        twin = os.fork()
        if twin == 0:
            channel.begin(5, "while it was the twin")
            channel.send("the twin's")
        os.waitpid(twin, 0)
        channel.send((channel.place, "its own"))

    assert results_of(work) == [(None, "its own")]


def test_the_worker_is_gone_when_its_results_are_not_read_any_more() -> None:
    def work(channel: WorkerChannel) -> None:
        channel.send(os.getpid())
        time.sleep(3600)

    results: Iterator[int] = run_supervised(work, LIMITS)
    pid = next(results)
    assert lives(pid)
    results.close()  # type: ignore[attr-defined]
    assert not lives(pid)


def test_the_worker_ends_with_its_parent_however_that_ends() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert lives(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert ends(pid)


def test_the_worker_has_no_file_of_its_parent_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    here, there = socket.socketpair()

    def work(channel: WorkerChannel) -> None:
        sys.stdout.write("out")
        sys.stdout.flush()
        os.write(1, b"out")
        os.write(2, b"err")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(here.fileno())
        channel.send((os.read(0, 1), len(os.listdir("/dev/fd"))))

    with here, there:
        ((read, open_files),) = results_of(work)
    assert read == b""
    assert open_files <= 7  # three that lead nowhere, that which they are copies of, the pipe, and two of this listing
    assert capfd.readouterr() == ("", "")


def test_the_time_limit_applies_to_each_group() -> None:
    def work(channel: WorkerChannel) -> None:
        for at in range(8):
            channel.begin(at, "while it was tested")
            time.sleep(0.25)
        channel.begin(8, "while it was tested")
        time.sleep(3600)

    with pytest.raises(WorkerDied) as died:
        results_of(work, Limits(time_limit_s=1.5))
    assert (died.value.place, died.value.has_timed_out) == (8, True)
    assert died.value.elapsed_ms > 1500


def test_a_half_written_status_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is emptied before it is filled: a parent that looks then would read of place 0, since the beginning."""

    class Slow(struct.Struct):
        def pack_into(self, buffer: Any, offset: int, *values: Any) -> None:
            buffer[offset : offset + self.size] = bytes(self.size)
            time.sleep(3 * worker_process.POLL_INTERVAL_S)
            super().pack_into(buffer, offset, *values)

    def work(channel: WorkerChannel) -> None:
        channel.begin(3, "while it was tested")
        channel.send("in time")

    monkeypatch.setattr(worker_process, "_STATUS", Slow(worker_process._STATUS.format))
    limits = replace(LIMITS, time_limit_s=20.0)
    assert time.monotonic() > limits.time_limit_s
    assert results_of(work, limits) == ["in time"]


def test_an_idle_worker_has_its_time_limit_from_its_next_request() -> None:
    def work(channel: WorkerChannel) -> None:
        channel.begin(None, IDLE)
        channel.send("ready")
        channel.begin(None, IDLE)
        time.sleep(60)
        channel.send("late")

    results = run_supervised(work, Limits(time_limit_s=1.5))
    assert next(results) == "ready"
    time.sleep(2)  # nobody asks
    began = time.monotonic()
    with pytest.raises(WorkerDied) as died:
        next(results)
    assert (died.value.place, died.value.activity, died.value.has_timed_out) == (None, IDLE, True)
    assert time.monotonic() - began >= 1.5


@pytest.mark.parametrize(("error_class", "end"), [("Exited", lambda: os._exit(3)), ("Killed", os.abort)])
def test_the_exit_status_is_known_where_that_takes_reaping_the_process(
    monkeypatch: pytest.MonkeyPatch, error_class: str, end: Callable[[], None]
) -> None:
    """As on macOS before Python 3.13."""
    monkeypatch.delattr(os, "waitid")
    with pytest.raises(WorkerDied) as died:
        results_of(lambda channel: end())
    assert died.value.error_class == error_class
    (pid,) = results_of(lambda channel: channel.send(os.getpid()))
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_the_memory_limit_is_beyond_what_the_parent_had_mapped() -> None:
    ballast = bytearray(300 << 20)

    def work(channel: WorkerChannel) -> None:
        channel.send(len(bytearray(150 << 20)))
        with pytest.raises(MemoryError):
            bytearray(300 << 20)
        channel.send("refused")

    assert results_of(work) == [150 << 20, "refused"]
    assert len(ballast) == 300 << 20


def test_out_of_memory_outside_of_a_fit_is_a_death_and_not_an_error_of_the_parent() -> None:
    def work(channel: WorkerChannel) -> None:
        channel.begin(3, "while it was tested")
        bytearray(1 << 40)

    with pytest.raises(WorkerDied) as died:
        results_of(work)
    assert (died.value.place, died.value.error_class) == (3, "MemoryError")
    assert died.value.text.endswith("Fit fewer rows, or raise recipe.memory_limit_mib")
