"""What both kinds of demo share: timed stages on the console, and publishing the report and the summary."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType


@dataclass
class StageTimer:
    """Prints and times the stages of a demo. began: monotonic seconds. seconds: stage -> duration."""

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


@dataclass(frozen=True)
class Published:
    """The result of a demo in three forms. report: HTML. text: for the terminal."""

    summary: Mapping[str, Any]
    report: str
    text: RenderableType


def publish(result: Published, file: Path, work: Path, console: Console, *, as_json: bool) -> None:
    """Write the report to `file` and the summary to `work`, and print the text and the report's address.

    console: of standard error. as_json: standard output is left to the JSON, so the text goes to standard error.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(result.report, encoding="utf-8")
    (work / "summary.json").write_text(json.dumps(result.summary, indent=1, default=str), encoding="utf-8")
    (console if as_json else Console(file=sys.stdout)).print(result.text)
    console.print(f"Report: {file.resolve().as_uri()}", highlight=False)
