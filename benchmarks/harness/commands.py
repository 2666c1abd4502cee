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
"""Of processes that import this package; `spinney` itself runs as a user has it."""


class Running(Protocol):
    """What is started and stopped: `Process`."""

    began: float

    @property
    def runs(self) -> bool: ...

    def stop(self) -> Usage: ...

    def kill(self) -> None: ...


class Spinney:
    """Runs its verbs for one fleet. file: the fleet's configuration; logs go beside it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._count = 0

    def run(self, *words: str) -> tuple[Usage, str]:
        """One whole command. Returns its cost and its standard output. Raises RuntimeError when it fails."""
        name = self._name(words[0])
        usage = run(self._command(words), self.file.parent, name=name, environment=ENVIRONMENT)
        return usage, (self.file.parent / f"{name}.out").read_text(encoding="utf-8")

    def start(self, *words: str) -> Running:
        """A command that runs until it is stopped."""
        return Process(self._command(words), self.file.parent, name=self._name(words[0]), environment=ENVIRONMENT)

    def run_module(self, module: str, *words: str) -> tuple[Usage, str]:
        """``python -m module``, as `run`."""
        name = self._name(module)
        usage = run(python("-m", module, *words), self.file.parent, name=name, environment=OF_MODULES)
        return usage, (self.file.parent / f"{name}.out").read_text(encoding="utf-8")

    def start_module(self, module: str, *words: str) -> Running:
        return Process(python("-m", module, *words), self.file.parent, name=self._name(module), environment=OF_MODULES)

    def _name(self, verb: str) -> str:
        self._count += 1
        return f"{verb}-{self._count}"

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return python("-c", SPINNEY, *words, "--config", str(self.file))


Commands = Callable[[Path], Spinney]
"""How a benchmark runs commands: `Spinney`; in the tests, within their own Spark session."""
