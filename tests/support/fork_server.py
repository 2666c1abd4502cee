"""Run commands of `spinney`, each in a process of its own that is forked from one that has imported what they import.

Importing takes 2.5 s of CPU time, as long as the rest of such a command. A forked process can be killed like any other.
As a script this file is the process that forks: it reads a request a line and answers with the exit code.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

IMPORTED = (
    "spinney.cli.stream_reporter",
    "spinney.local.setup",
    "spinney.testing.crash",
    "streaming.app",
    "streaming.pending_work",
    "batch.weekly",
)


class ForkServer:
    """A process that forks one for each command. It ends with the process that started it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        words: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        timeout_s: float,
        crash_at: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end. crash_at: the step after which it is killed with SIGKILL."""
        assert self._process.stdin is not None
        with TemporaryDirectory() as place:
            out, err = Path(place) / "out", Path(place) / "err"
            request = {"words": list(words), "crash_at": crash_at, "folder": str(folder), "out": str(out)}
            request |= {"err": str(err), "environment": dict(environment)}
            self._process.stdin.write(f"{json.dumps(request)}\n")
            self._process.stdin.flush()
            pid, timed_out = self._answer(), threading.Event()
            timer = threading.Timer(timeout_s, lambda: (timed_out.set(), os.kill(pid, signal.SIGKILL)))
            timer.start()
            code = self._answer()
            timer.cancel()
            if timed_out.is_set():
                raise TimeoutError(f"{words}: expected an end within {timeout_s:g} s; got {err.read_text('utf-8')}")
            return subprocess.CompletedProcess(words, code, out.read_text("utf-8"), err.read_text("utf-8"))

    def _answer(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended; its error is above"
        return int(line)


def main() -> None:
    """Fork for each request until the input closes. Returns in the forked process once its command has returned."""
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            return _run(json.loads(line))
        _answer(pid)
        _answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return None


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _run(request: Mapping[str, Any]) -> None:
    for number, file, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT),
        (2, request["err"], os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(file, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [each for each in path if each and each not in sys.path]
    if request["crash_at"]:
        import_module("spinney.testing.crash").run([request["crash_at"], *request["words"]])
    else:
        import_module("spinney.cli").main(request["words"], prog_name="spinney")


if __name__ == "__main__":
    main()
