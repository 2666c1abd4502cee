"""`spinney` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from shop import Shops

from spinney.stores import crashpoints

SECONDS = 180
PROJECT = Path(__file__).parents[2]


def command(shops: Shops, verb: str, *words: str) -> list[str]:
    run = "from spinney.cli import main; main()"
    return [sys.executable, "-c", run, verb, "--config", str(shops.file), *words]


def environment(crash_at: str = "") -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, crashpoints.VARIABLE: crash_at}


def spinney(shops: Shops, verb: str, *words: str, crash_at: str = "") -> subprocess.CompletedProcess[str]:
    """Run it to its end. crash_at: a crash point that kills it with SIGKILL."""
    return subprocess.run(
        command(shops, verb, *words),
        env=environment(crash_at),
        cwd=shops.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
