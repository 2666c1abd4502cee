"""Reports of `spinney stream` on a terminal, in a log or for a program."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from streaming.reporting import JsonReporter, QueryReport, Reporter, TextReporter

_CLEAR = "\r\x1b[K"


@dataclass(frozen=True)
class TerminalReporter:
    """Shows each query's newest batch on one line that is overwritten; reports are lines that stay."""

    lines: TextReporter

    def ready(self, names: Sequence[str]) -> None:
        """Print that the queries are running."""
        self.lines.ready(names)

    def nothing_to_do(self) -> None:
        """Print that there is nothing to do."""
        self.lines.nothing_to_do()

    def progress(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Overwrite the line with the newest batches. batches: Spark's progress objects."""
        parts = []
        for batch in batches:
            seconds = (batch.get("durationMs") or {}).get("triggerExecution", 0) / 1000
            rate = batch.get("processedRowsPerSecond") or 0.0
            parts.append(f"{batch.get('name')} {rate:,.0f} rows/s, batches of {seconds:.1f} s")
        click.echo(f"{_CLEAR}{' · '.join(parts)}", err=True, nl=False)

    def report(self, reports: Sequence[QueryReport]) -> None:
        """Print what the queries did."""
        self.lines.report(reports)


def reporter_for(*, as_json: bool) -> Reporter:
    """JSON lines on standard output; else lines on standard error, with the newest batches where that is a terminal."""
    if as_json:
        return JsonReporter(click.echo)
    if sys.stderr.isatty():
        return TerminalReporter(TextReporter(lambda line: click.echo(f"{_CLEAR}{line}", err=True)))
    return TextReporter(lambda line: click.echo(line, err=True))
