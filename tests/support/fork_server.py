"""Run commands of `spinney`, each in a process of its own that is forked from one that has imported what they import.

Importing takes 2.5 s of CPU time, as long as the rest of such a command. A forked process can be killed like any other.
The process from which Spark forks its Python workers imports the same, so it is forked too (`forked_daemon.py`).
As a script this file is the process that forks: it reads a request a line and answers each by a line.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import forked_daemon

IMPORTED = (
    "pyspark.daemon",
    "pyspark.worker",
    "spinney.cli.stream_reporter",
    "spinney.local.python_daemon",
    "spinney.local.java_and_jars",
    "spinney.testing.crash",
    "streaming.app",
    "streaming.ingest_rows",
    "streaming.pending_work",
    "batch.weekly",
)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""As Spark's Python workers have it (`spinney/spark/session.py`); read when linear algebra is imported."""

POLL_S = 0.02


class ForkServer:
    """A process that forks one for each command. It ends with the process that started it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._place = TemporaryDirectory(prefix="fork-server-")
        path = os.pathsep.join([str(Path(__file__).parent), environment["PYTHONPATH"]])
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__)), self._place.name],
            env={**environment, **ONE_THREAD, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        words: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        out: Path,
        err: Path,
        crash_at: str = "",
    ) -> ForkedProcess:
        """Start a command. out, err: files to which it writes. crash_at: the step after which it is killed."""
        request = {"words": list(words), "crash_at": crash_at, "folder": str(folder), "out": str(out), "err": str(err)}
        return ForkedProcess(self, self.ask(fork={**request, "environment": dict(environment)}))

    def run(
        self,
        words: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        timeout_s: float,
        crash_at: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. crash_at: the step after which it is killed with SIGKILL."""
        with TemporaryDirectory() as place:
            out, err = Path(place) / "out", Path(place) / "err"
            process = self.start(words, folder=folder, environment=environment, out=out, err=err, crash_at=crash_at)
            try:
                code = process.wait(timeout_s)
            finally:
                process.kill()
            return subprocess.CompletedProcess(words, code, out.read_text("utf-8"), err.read_text("utf-8"))

    def ask(self, **request: Any) -> Any:
        """Send a request and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended; its error is above"
        return json.loads(line)


@dataclass
class ForkedProcess:
    """A command that a ForkServer has started, with methods like those of `subprocess.Popen`."""

    server: ForkServer
    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, minus the signal that killed it; None while it runs."""
        if self.returncode is None:
            self.returncode = self.server.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout_s: float | None = None) -> int:
        """Return the exit code once it has ended."""
        deadline = time.monotonic() + (timeout_s or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid}: expected an end within {timeout_s} s")
            time.sleep(POLL_S)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to stop."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it unless it has ended."""
        self.send_signal(signal.SIGKILL)


def main(place: Path) -> None:
    """Fork for each request until the input closes. Returns in the forked process once its command has returned."""
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    python = forked_daemon.start(place)
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            _answer(os.waitstatus_to_exitcode(status) if pid else None)
            continue
        pid = os.fork()
        if pid == 0:
            sys.executable = str(python)  # what Spark's JVM starts
            return _run(request["fork"])
        _answer(pid)
    return None


def _answer(number: int | None) -> None:
    sys.stdout.write(f"{json.dumps(number)}\n")
    sys.stdout.flush()


def _run(request: Mapping[str, Any]) -> None:
    for number, file, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        opened = os.open(file, flags)
        os.dup2(opened, number)
        os.close(opened)
    forked_daemon.become(request["environment"], Path(request["folder"]))
    if request["crash_at"]:
        import_module("spinney.testing.crash").run([request["crash_at"], *request["words"]])
    else:
        import_module("spinney.cli").main(request["words"], prog_name="spinney")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
