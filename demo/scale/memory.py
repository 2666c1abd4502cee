"""Sample the memory of this process and all its descendants (Linux only; elsewhere there are no samples).

PSS counts a page that n processes share as 1/n for each, so that the sum over a process tree is the tree's memory.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

SAMPLE_INTERVAL_S = 2.0


class MemorySampler:
    """Samples the memory (PSS) of this process tree every SAMPLE_INTERVAL_S, in a thread, while its context is open.

    excluded: ids of processes that are not counted, with their descendants. samples: (seconds since 1970, MB).
    """

    def __init__(self, excluded: Iterable[int] = ()) -> None:
        self.samples: list[tuple[float, float]] = []
        self._excluded = set(excluded)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def exclude(self, pid: int) -> None:
        """Do not count this process and its descendants from now on."""
        self._excluded.add(pid)

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_INTERVAL_S):
            if mb := sum(map(pss_mb, process_tree(os.getpid(), self._excluded))):
                self.samples.append((time.time(), mb))


def process_tree(root: int, excluded: Iterable[int] = ()) -> list[int]:
    """Return the ids of `root` and its descendants, without `excluded` processes and their descendants; empty without
    /proc.
    """
    children: dict[int, list[int]] = {}
    for pid in _pids():
        parent = _parent(pid)
        if parent is not None:
            children.setdefault(parent, []).append(pid)
    left_out, members, todo = set(excluded), [], [root] if children else []
    while todo:
        pid = todo.pop()
        if pid not in left_out:
            members.append(pid)
            todo += children.get(pid, [])
    return members


def pss_mb(pid: int) -> float:
    """Return the proportional set size of a process in MB; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _parent(pid: int) -> int | None:
    """Return the parent's id; None if the process has ended.

    The fields after the last bracket are read, since the command's name, in brackets, may contain brackets.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[1])
