"""The progress of the demo on the terminal: a line per query, and how much of the stream is processed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from demo.paced_sending import PacedSender
from demo.scenario import Scenario
from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.app import Application

LINE_INTERVAL_S = 10.0
"""Interval of the lines that are printed where the output is no terminal."""

POLL_INTERVAL_S = 3.0
"""Seconds between two readings of Spark's progress. Reading the last 100 batches of a query is slow: done at every
turn, it took a third of this process' time.
"""


@dataclass
class ProgressMonitor:
    """Collects the progress of every micro-batch and shows the newest of each query.

    batches: (query, batch id) -> progress. fits: groups fitted so far, by the recorded rounds.
    """

    application: Application
    console: Console
    batches: dict[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)
    fits: int = 0
    _live: Live | None = None
    _printed_at: float = 0.0
    _polled_at: float = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def poll(self, *, last: bool = False) -> None:
        """Read the queries' progress, unless it was read within POLL_INTERVAL_S. last: read it in any case."""
        if not last and time.monotonic() - self._polled_at < POLL_INTERVAL_S:
            return
        self._polled_at = time.monotonic()
        self.fits = self._count_fits()
        for query in list(self.application.running.values()):
            for progress in query.spark_query.recentProgress:
                if progress.batchId >= 0 and progress.durationMs.get("addBatch") is not None:
                    self.batches[str(progress.name), int(progress.batchId)] = _batch(progress)

    def show(self, where: str) -> None:
        """Show the newest batches. where: how much of the stream is processed, as text."""
        if self._live is not None:
            self._live.update(self._table(where))
        elif time.monotonic() - self._printed_at > LINE_INTERVAL_S:
            self._printed_at = time.monotonic()
            self.console.print(self._status_line(where), highlight=False)

    def _table(self, where: str) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("query", "rows/s", "behind", "batch"):
            table.add_column(name, justify="left" if name == "query" else "right")
        for name in self.application.names:
            last = self._newest(name)
            if last is None:
                table.add_row(name, "", "", "starting")
            else:
                behind = "" if last["behind"] is None else f"{last['behind']:,.0f}"
                rate = last["rows"] / last["seconds"] if last["seconds"] else 0.0
                table.add_row(name, f"{rate:,.0f}", behind, f"{last['seconds']:.1f} s")
        table.caption = where
        table.caption_justify = "left"
        return table

    def _status_line(self, where: str) -> str:
        parts = []
        for name in self.application.names:
            last = self._newest(name)
            parts.append(f"{name} {'starting' if last is None else format(last['seconds'], '.1f') + ' s'}")
        return f"{where} | {', '.join(parts)}"

    def _count_fits(self) -> int:
        table = delta.open_table(FleetStore.of(self.application.config).directory(tables.ROUNDS, "stream"))
        return 0 if table is None else sum(delta.open_dataset(table).to_table(["fitted"]).column("fitted").to_pylist())

    def _newest(self, name: str) -> Mapping[str, Any] | None:
        numbers = [batch for query, batch in self.batches if query == name]
        return self.batches[name, max(numbers)] if numbers else None


def describe_replay(sender: PacedSender, scenario: Scenario, passed: float, fits: int) -> str:
    """Return how much of a replay is processed. passed: seconds since it began."""
    processed_until = sender.finished_until or scenario.stream_start
    share = (processed_until - scenario.stream_start) / (scenario.stream_end - scenario.stream_start)
    left = f"{passed / share - passed:,.0f} s left" if share > 0.05 else "time left: soon known"
    day = f"{processed_until:%Y-%m-%d %H:%M} of {scenario.stream_end:%Y-%m-%d}"
    return f"{day}, {sum(sender.sent.values()):,} records sent, {fits:,} refits, {left}"


def _batch(progress: Any) -> Mapping[str, Any]:
    """Return one micro-batch in the form that `run_summary.summarize_batches` takes.

    behind: number of records not read yet.
    """
    phases = {str(name): ms / 1000 for name, ms in progress.durationMs.items() if name != "triggerExecution"}
    behind = [source.metrics.get("maxOffsetsBehindLatest") for source in progress.sources]
    known = [float(records) for records in behind if records is not None]
    return {
        "query": str(progress.name),
        "batch_id": int(progress.batchId),
        "rows": int(progress.numInputRows),
        "seconds": progress.durationMs.get("triggerExecution", 0) / 1000,
        "phases": phases,
        "behind": sum(known) if known else None,
    }
