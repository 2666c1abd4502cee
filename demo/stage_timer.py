"""Time the stages of a demo."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console


@dataclass
class StageTimer:
    """Prints and times the stages of a demo.

    began: monotonic seconds at its start. seconds: stage -> duration in seconds.
    """

    console: Console
    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Print the name of a stage and measure how long it takes."""
        started = time.monotonic()
        self.console.print(f"{name} …", style="dim", highlight=False)
        yield
        self.seconds[name] = time.monotonic() - started
