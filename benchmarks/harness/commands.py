"""The `spinney` command of this checkout, as a process whose cost is measured."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from harness.fleet import KEY
from harness.process_tree import PROJECT, Process, Usage, python, run

SPINNEY = "from spinney.cli import main; main()"
ENVIRONMENT = {"SPINNEY_SIGNING_KEY": KEY, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
OF_MODULES = {
    **ENVIRONMENT,
    "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT / "benchmarks"), os.environ.get("PYTHONPATH")])),
}
"""Environment of processes that import this package; `spinney` itself runs as for a user."""


class Running(Protocol):
    """A process that was started: `Process`, or its stand-in in tests."""

    began: float

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        ...

    def stop(self) -> Usage:
        """End it in order and return its cost."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class Spinney:
    """Runs `spinney` commands for one fleet. file: its configuration; logs go to the same folder."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._count = 0

    def run(self, *words: str) -> tuple[Usage, str]:
        """Run a command to its end. Returns its cost and standard output. Raises RuntimeError: it failed."""
        name = self._name(words[0])
        usage = run(self._command(words), self.file.parent, name=name, environment=ENVIRONMENT)
        return usage, (self.file.parent / f"{name}.out").read_text(encoding="utf-8")

    def start(self, *words: str) -> Running:
        """Start a command that runs until it is stopped."""
        return Process(self._command(words), self.file.parent, name=self._name(words[0]), environment=ENVIRONMENT)

    def run_module(self, module: str, *words: str) -> tuple[Usage, str]:
        """Run ``python -m module``, as `run`."""
        name = self._name(module)
        usage = run(python("-m", module, *words), self.file.parent, name=name, environment=OF_MODULES)
        return usage, (self.file.parent / f"{name}.out").read_text(encoding="utf-8")

    def start_module(self, module: str, *words: str) -> Running:
        """Start ``python -m module``, as `start`."""
        return Process(python("-m", module, *words), self.file.parent, name=self._name(module), environment=OF_MODULES)

    def _name(self, verb: str) -> str:
        self._count += 1
        return f"{verb}-{self._count}"

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return python("-c", SPINNEY, *words, "--config", str(self.file))


Commands = Callable[[Path], Spinney]
"""How a benchmark runs commands: `Spinney`; in the tests, within their own Spark session."""
