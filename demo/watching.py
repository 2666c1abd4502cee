"""What the demo shows while it runs: a line for each query, and how far the stream has come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from demo.pacing import Sender
from demo.story import Story
from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.app import Application

LINES_EVERY_SECONDS = 10.0
"""On a pipe: one line so often, so that nobody wonders whether it is alive."""

LOOKS_EVERY_SECONDS = 3.0
"""Spark hands over a query's last 100 batches one by one: asked for at each turn, that was a third of this process."""


@dataclass
class Watch:
    """Collects the progress of every batch, and shows the newest."""

    application: Application
    console: Console
    batches: dict[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)
    fits: int = 0
    _live: Live | None = None
    _said: float = 0.0
    _looked: float = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def look(self, *, last: bool = False) -> None:
        """Take in what the queries report since the last look, unless that was a moment ago. last: in any case."""
        if not last and time.monotonic() - self._looked < LOOKS_EVERY_SECONDS:
            return
        self._looked = time.monotonic()
        self.fits = self._fits()
        for query in list(self.application.running.values()):
            for progress in query.spark_query.recentProgress:
                if progress.batchId >= 0 and progress.durationMs.get("addBatch") is not None:
                    self.batches[str(progress.name), int(progress.batchId)] = _batch(progress)

    def show(self, where: str) -> None:
        """where: how far the stream has come, in words."""
        if self._live is not None:
            self._live.update(self._table(where))
        elif time.monotonic() - self._said > LINES_EVERY_SECONDS:
            self._said = time.monotonic()
            self.console.print(self._sentence(where), highlight=False)

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

    def _sentence(self, where: str) -> str:
        parts = []
        for name in self.application.names:
            last = self._newest(name)
            parts.append(f"{name} {'starting' if last is None else format(last['seconds'], '.1f') + ' s'}")
        return f"{where} | {', '.join(parts)}"

    def _fits(self) -> int:
        table = delta.open_table(FleetStore.of(self.application.config).directory(tables.ROUNDS, "stream"))
        return 0 if table is None else sum(delta.open_dataset(table).to_table(["fitted"]).column("fitted").to_pylist())

    def _newest(self, name: str) -> Mapping[str, Any] | None:
        numbers = [batch for query, batch in self.batches if query == name]
        return self.batches[name, max(numbers)] if numbers else None


def replayed(sender: Sender, story: Story, passed: float, fits: int) -> str:
    """How far a replay has come. passed: seconds since it began."""
    seen = sender.finished or story.start
    share = (seen - story.start) / (story.end - story.start)
    left = f"{passed / share - passed:,.0f} s left" if share > 0.05 else "time left: soon known"
    day = f"{seen:%Y-%m-%d %H:%M} of {story.end:%Y-%m-%d}"
    return f"{day}, {sum(sender.sent.values()):,} records sent, {fits:,} refits, {left}"


def _batch(progress: Any) -> Mapping[str, Any]:
    """One micro-batch as `measures` asks for it; behind: records that the query has not read yet."""
    phases = {str(name): ms / 1000 for name, ms in progress.durationMs.items() if name != "triggerExecution"}
    behind = [source.metrics.get("maxOffsetsBehindLatest") for source in progress.sources]
    known = [float(each) for each in behind if each is not None]
    return {
        "query": str(progress.name),
        "batch_id": int(progress.batchId),
        "rows": int(progress.numInputRows),
        "seconds": progress.durationMs.get("triggerExecution", 0) / 1000,
        "phases": phases,
        "behind": sum(known) if known else None,
    }
