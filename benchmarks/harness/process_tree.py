"""Measure a process with all its descendants: wall seconds, CPU seconds and memory (without Linux: wall seconds).

Memory is PSS, which counts a page that n processes share as 1/n in each, so that the sum over a tree is its memory.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.scale.memory import pss_mb

SAMPLE_INTERVAL_S = 1.0
STOP_TIMEOUT_S = 180

ONLY_WHEN_ASKED_S = 86_400.0
"""Interval without samples but those of `measure`. To sample reads /proc for every process, some milliseconds in which
a client in the same interpreter waits.
"""

QUOTED_LINES = 15
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PROJECT = Path(__file__).parents[2]

DRIVER, JVM, WORKERS = "driver", "JVM", "Python workers"
KINDS = (DRIVER, JVM, WORKERS)
"""What the processes of a tree are: the command itself, Java, and everything else, which Spark starts."""

Samples = tuple[tuple[float, float], ...]
"""(seconds since the start, MB) at each sample."""


@dataclass(frozen=True)
class Usage:
    """Cost of a process tree.

    cpu_s: user and system seconds. memory: of the whole tree. memory_by_kind: the same by KINDS; empty where it was not
    sampled.
    """

    wall_s: float
    cpu_s: float
    memory: Samples
    memory_by_kind: Mapping[str, Samples] = field(default_factory=dict)

    @property
    def peak_mb(self) -> float:
        """Greatest sampled memory."""
        return peak_mb(self.memory)


def peak_mb(samples: Samples) -> float:
    """Return the greatest of some samples; 0 without any."""
    return max((mb for _, mb in samples), default=0.0)


class Process:
    """A command in a session of its own, sampled until it ends. Leaving the context kills the whole tree.

    folder: where it runs, and where ``NAME.out`` and ``NAME.err`` take its output. environment: added to this process'
    own; the project comes first on PYTHONPATH. interval_s: seconds between samples.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
        interval_s: float = SAMPLE_INTERVAL_S,
    ) -> None:
        self.name, self._interval_s = name, interval_s
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        self.began = time.monotonic()
        known = {**os.environ, **(environment or {})}
        known["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), known.get("PYTHONPATH")]))
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self._process = subprocess.Popen(
                list(command), cwd=folder, env=known, stdout=out, stderr=err, start_new_session=True
            )
        self._memory: list[tuple[float, dict[str, float]]] = []
        self._cpu: dict[int, float] = {}
        self._ended_s = 0.0
        self._measuring = threading.Lock()
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(self, seconds: float | None = None) -> Usage:
        """Wait for its end and return its cost. Raises RuntimeError with its last lines: it failed; TimeoutExpired."""
        code = self._process.wait(seconds)
        self._over.set()
        self._ended_s = self._ended_s or time.monotonic() - self.began
        self._sampler.join()
        if code != 0:
            raise RuntimeError(f"{self.name}: exit code {code}; its last lines:\n{last_lines(self.err)}")
        return self.usage()

    def stop(self) -> Usage:
        """End it with SIGTERM and wait. Returns and raises as `wait`."""
        if self.runs:
            self._process.terminate()
        return self.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """Kill it and its descendants. Does nothing if it has ended."""
        if not self.runs:
            return
        for pid in descendants(self._process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        self._over.set()
        self._sampler.join()

    def measure(self) -> Usage:
        """Measure it now instead of at the next sample, and return the cost until now."""
        self._measure()
        return self.usage()

    def usage(self) -> Usage:
        """Return the cost until the last sample, or until its end."""
        samples = tuple(self._memory)
        return Usage(
            self._ended_s or time.monotonic() - self.began,
            sum(self._cpu.values()),
            tuple((at, sum(mb.values())) for at, mb in samples),
            {kind: tuple((at, mb[kind]) for at, mb in samples) for kind in KINDS},
        )

    def _sample(self) -> None:
        while self.runs:
            self._measure()
            self._over.wait(self._interval_s)

    def _measure(self) -> None:
        with self._measuring:
            pids = descendants(self._process.pid)
            for pid in pids:
                self._cpu[pid] = max(self._cpu.get(pid, 0.0), cpu_seconds(pid))
            mb = dict.fromkeys(KINDS, 0.0)
            for pid in pids:
                mb[kind_of(pid, self._process.pid)] += pss_mb(pid)
            if any(mb.values()):
                self._memory.append((time.monotonic() - self.began, mb))


def run(
    command: Sequence[str],
    folder: Path,
    *,
    name: str,
    environment: Mapping[str, str] | None = None,
    interval_s: float = SAMPLE_INTERVAL_S,
) -> Usage:
    """Run a command to its end and return its cost, as `Process` does. Raises RuntimeError: it failed."""
    before = _waited_for()
    with Process(command, folder, name=name, environment=environment, interval_s=interval_s) as process:
        usage = process.wait()
    # Samples miss the time after the last one; the kernel's sum misses children that were not waited for.
    return replace(usage, cpu_s=max(usage.cpu_s, _waited_for() - before))


def python(*words: str) -> list[str]:
    """Return the command that runs this Python with arguments."""
    return [sys.executable, *words]


def last_lines(file: Path) -> str:
    """Return the last QUOTED_LINES of a file."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-QUOTED_LINES:])


def descendants(root: int) -> list[int]:
    """Return `root` and its descendants; `root` alone without /proc."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        if fields := _stat(pid):
            children.setdefault(int(fields[1]), []).append(pid)
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def kind_of(pid: int, root: int) -> str:
    """Return what a process of the tree of `root` is, of KINDS."""
    if pid == root:
        return DRIVER
    try:
        is_java = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip() == "java"
    except OSError:
        is_java = False
    return JVM if is_java else WORKERS


def cpu_seconds(pid: int) -> float:
    """Return user and system seconds of one process, without its children."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND if fields else 0.0


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command's name: state, parent, …; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _waited_for() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
