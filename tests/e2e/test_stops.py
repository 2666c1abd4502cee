"""`spinney stream` as a process: how it stops, how it dies, what it leaves, and that there is only one of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ledger
import pytest
import shop
from fork_server import ForkedProcess
from shop import Shops
from spinney_process import SECONDS, called, command, environment, running_stream

from schemas import tables
from streaming.app import Application

OF_A_WAVE = 40


def eventually(what: Callable[[], bool], process: subprocess.Popen[bytes] | ForkedProcess, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.3)


class Story:
    """Killed, started again, asked to stop, drained; then its checkpoint is lost."""

    def __init__(self, spark: Any, shops: Shops) -> None:
        self.shops, self.waves = shops, 0
        shops.init()
        log = shops.folder / "stream.log"
        self.wave()
        with running_stream(shops, log, "--only", "ingest", "--only", "score") as process:
            eventually(self.answered, process, log)
            self.wave()  # whatever of it is under way when the process dies
            process.send_signal(signal.SIGKILL)
            self.killed = process.wait()
        with running_stream(shops, log) as process:
            eventually(self.answered, process, log)
            self.wave()
            self.second = self.drained()
            self.first_lives = process.poll() is None
            self.wave()
            process.terminate()
            self.terminated = process.wait(SECONDS)
            self.last_words = log.read_text()
        Application(spark, shops.config).drain()
        self.found = ledger.differences(shops)
        self.answers = len(shops.table(tables.PREDICTIONS))
        shutil.rmtree(shops.root / "checkpoints" / "ingest")
        self.versions = shops.versions()
        self.lost = self.drained()

    def wave(self) -> None:
        self.waves += 1
        rows = [shop.sale(f"w{self.waves}-{i}", "north", i % 4, 1.0, float(self.waves)) for i in range(OF_A_WAVE)]
        self.shops.events(rows)
        self.shops.outcomes(rows[::2])
        self.shops.bad([(b"hello", "not_json")])

    def drained(self) -> subprocess.CompletedProcess[str]:
        return called(["stream", "--once", "--config", str(self.shops.file)], self.shops.folder)

    def answered(self) -> bool:
        return len(self.shops.table(tables.PREDICTIONS)) == self.waves * OF_A_WAVE


@pytest.fixture(scope="module")
def story(spark: Any, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(spark, Shops(tmp_path_factory.mktemp("stops"), broker))


def test_a_killed_stream_leaves_no_lease_behind_and_the_next_one_goes_on(story: Story) -> None:
    assert story.killed == -signal.SIGKILL
    assert story.first_lives


def test_a_second_stream_on_one_root_is_refused_in_one_sentence(story: Story) -> None:
    assert story.second.returncode == 1
    (sentence,) = [line for line in story.second.stderr.splitlines() if line.startswith("spinney:")]
    assert "query ingest of fleet shops: another process runs it (pid " in sentence
    assert "stop that one first" in sentence
    assert "Traceback" not in story.second.stderr


def test_a_stream_that_is_asked_to_stop_ends_with_0(story: Story) -> None:
    assert story.terminated == 0, story.last_words[-3000:]
    assert "Traceback" not in story.last_words


def test_after_a_kill_a_stop_and_a_drain_everything_is_there_once(story: Story) -> None:
    assert story.found == []
    assert story.answers == story.waves * OF_A_WAVE


def test_a_lost_checkpoint_is_refused_with_what_to_do_and_nothing_is_written(story: Story) -> None:
    assert story.lost.returncode == 1
    (sentence,) = [line for line in story.lost.stderr.splitlines() if line.startswith("spinney:")]
    assert "was written from checkpoint" in sentence
    assert "Put the checkpoint back, or start the fleet again under another storage.root" in sentence
    assert story.shops.versions() == story.versions
    # Room for the folder that is put back.
    assert not (story.shops.root / "checkpoints" / "ingest").exists()


def commands_of(group: int) -> list[str]:
    """The command lines of the processes of a group that live."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            state, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if folder.name.isdigit() and int(of) == group and state != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile, or is none
            continue
    return found


def test_a_ctrl_c_while_java_starts_leaves_no_java(tmp_path: Path, broker: str) -> None:
    """The terminal sends it to the whole group: Python hears it, Java ignores it."""
    shops, log = Shops(tmp_path, broker), tmp_path / "stream.log"
    shops.init()
    with log.open("wb") as out:
        words = {"env": environment(), "cwd": tmp_path, "stdout": out, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command(shops, "stream"), **words, start_new_session=True)
    try:
        eventually(lambda: any("pyspark-shell" in each for each in commands_of(process.pid)), process, log)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(SECONDS) == 1
        until = time.monotonic() + SECONDS
        while commands_of(process.pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert commands_of(process.pid) == []
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
