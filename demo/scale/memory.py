"""Memory of this process with all its descendants while something runs (Linux; elsewhere nothing is sampled).

PSS counts a page that n processes share as 1/n in each, so that the sum over a tree is what it takes.
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
    """Samples in the background, as a context manager.

    without: ids of processes that are left out, with all below them. samples: (seconds since the epoch, MB).
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
        self._excluded.add(pid)

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_INTERVAL_S):
            if mb := sum(map(pss_mb, process_tree(os.getpid(), self._excluded))):
                self.samples.append((time.time(), mb))


def process_tree(root: int, excluded: Iterable[int] = ()) -> list[int]:
    """`root` and all below it; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        parent = _parent(pid)
        if parent is not None:
            children.setdefault(parent, []).append(pid)
    left_out, found, todo = set(excluded), [], [root] if children else []
    while todo:
        pid = todo.pop()
        if pid not in left_out:
            found.append(pid)
            todo += children.get(pid, [])
    return found


def pss_mb(pid: int) -> float:
    """Of one process; 0 when it has ended."""
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
    """None when it has ended. The command's name, in brackets, may hold anything: the last bracket ends it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[1])
