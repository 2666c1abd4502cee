"""Publish the report and the summary of a demo."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType


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
