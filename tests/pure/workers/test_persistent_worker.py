"""A child that is kept: each block is its own, and an idle one is never late."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest

from spinney.workers import persistent_worker
from spinney.workers.persistent_worker import PersistentWorker
from spinney.workers.worker_process import Limits, WorkerChannel, WorkerDied

LIMITS = Limits(time_limit_s=0.4, memory_limit_bytes=256 << 20)


def told_back(line: WorkerChannel, tables: Iterator[pa.Table]) -> None:
    for table in tables:
        values = table.column("n").to_pylist()
        if values == ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if values == ["hang"]:
            time.sleep(3600)
        line.send((os.getpid(), len(values), values[0]))


def table(*values: str) -> pa.Table:
    return pa.table({"n": list(values)})


@pytest.fixture
def child() -> Iterator[PersistentWorker]:
    made = PersistentWorker(told_back, LIMITS)
    yield made
    made.close()


def test_one_child_takes_block_after_block(child: PersistentWorker) -> None:
    pid, *first = child.run(table("a"))
    assert first == [1, "a"]
    assert child.run(table("bb", "c")) == (pid, 2, "bb")
    assert pid != os.getpid()


def test_a_wait_between_blocks_is_nobodys_turn(child: PersistentWorker) -> None:
    pid, *_ = child.run(table("a"))
    time.sleep(3 * LIMITS.time_limit_s)
    assert child.run(table("b")) == (pid, 1, "b")


def test_after_a_death_another_one_is_asked(child: PersistentWorker) -> None:
    pid, *_ = child.run(table("a"))
    for deadly, error_class in (("die", "Killed"), ("hang", "TimedOut")):
        with pytest.raises(WorkerDied) as died:
            child.run(table(deadly))
        assert died.value.error_class == error_class
    other, *_ = child.run(table("b"))
    assert other != pid


def test_one_that_died_while_it_waited_is_noticed(child: PersistentWorker) -> None:
    pid, *_ = child.run(table("a"))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        child.run(table("b"))
    assert child.run(table("b"))[1:] == (1, "b")


def test_a_block_that_has_no_room_is_given_to_a_child_that_has(
    child: PersistentWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistent_worker, "MIN_SHARED_BYTES", 1024)
    pid, *_ = child.run(table("a"))
    assert child.run(table("b" * 100_000))[1:] == (1, "b" * 100_000)
    other, *_ = child.run(table("c" * 100_000))
    assert other != pid


def test_nothing_of_it_stays(child: PersistentWorker) -> None:
    before = len(os.listdir("/dev/fd"))
    pid, *_ = child.run(table("a"))
    child.close()
    child.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert len(os.listdir("/dev/fd")) == before
