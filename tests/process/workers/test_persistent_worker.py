"""A worker that is reused for many blocks; waiting for the next one does not count against its time limit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest

from spinney.workers import persistent_worker
from spinney.workers.persistent_worker import PersistentWorker
from spinney.workers.worker_process import Limits, WorkerChannel, WorkerDied

LIMITS = Limits(time_limit_s=60.0, memory_limit_bytes=256 << 20)
IMPATIENT = replace(LIMITS, time_limit_s=2.0)


def report_tables(channel: WorkerChannel, blocks: Iterator[list[pa.Table]]) -> None:
    for tables in blocks:
        values = [value for table in tables for value in table.column("n").to_pylist()]
        if values == ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if values == ["hang"]:
            time.sleep(3600)
        channel.send((os.getpid(), len(values), values[0]))


def table(*values: str) -> pa.Table:
    return pa.table({"n": list(values)})


@pytest.fixture
def worker() -> Iterator[PersistentWorker]:
    made = PersistentWorker(report_tables, LIMITS)
    yield made
    made.close()


@pytest.fixture
def impatient() -> Iterator[PersistentWorker]:
    made = PersistentWorker(report_tables, IMPATIENT)
    yield made
    made.close()


def test_one_worker_takes_block_after_block(worker: PersistentWorker) -> None:
    pid, *first = worker.run(table("a"))
    assert first == [1, "a"]
    assert worker.run(table("bb", "c")) == (pid, 2, "bb")
    assert pid != os.getpid()


def test_tables_of_any_schema_and_slices_of_them_arrive_together(worker: PersistentWorker) -> None:
    other = pa.table({"n": pa.array([7, None, 8]), "more": [b"x", None, b"z"]})
    assert worker.run(table("a", "b", "c").slice(1), other)[1:] == (5, "b")
    assert worker.run(other.slice(1, 1), table("a"))[1:] == (2, None)


def test_time_between_blocks_does_not_count(impatient: PersistentWorker) -> None:
    pid, *_ = impatient.run(table("a"))
    time.sleep(1.2 * IMPATIENT.time_limit_s)
    assert impatient.run(table("b")) == (pid, 1, "b")


def test_after_a_death_a_new_worker_is_started(impatient: PersistentWorker) -> None:
    pid, *_ = impatient.run(table("a"))
    for deadly, error_class in (("die", "Killed"), ("hang", "TimedOut")):
        with pytest.raises(WorkerDied) as died:
            impatient.run(table(deadly))
        assert died.value.error_class == error_class
    other, *_ = impatient.run(table("b"))
    assert other != pid


def test_a_death_between_blocks_is_noticed(worker: PersistentWorker) -> None:
    pid, *_ = worker.run(table("a"))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        worker.run(table("b"))
    assert worker.run(table("b"))[1:] == (1, "b")


def test_a_block_that_exceeds_the_shared_memory_gets_a_new_worker(
    worker: PersistentWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistent_worker, "MIN_SHARED_BYTES", 1024)
    pid, *_ = worker.run(table("a"))
    assert worker.run(table("b" * 100_000))[1:] == (1, "b" * 100_000)
    other, *_ = worker.run(table("c" * 100_000))
    assert other != pid


def test_close_leaves_no_process_and_no_open_file(worker: PersistentWorker) -> None:
    before = set(os.listdir("/dev/fd"))
    pid, *_ = worker.run(table("a"))
    worker.close()
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert set(os.listdir("/dev/fd")) <= before  # others may close theirs meanwhile
