"""What the queries did, told to a person or a program."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from spinney.operations.dead_letters.letters import Kind

Write = Callable[[str], None]


@dataclass(frozen=True)
class QueryReport:
    """What one query did since the report before. counts: what -> how many. dead: rejected records, by kind."""

    query: str
    counts: Mapping[str, int]
    dead: tuple[Kind, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not any(self.counts.values())


class Reporter(Protocol):
    """Who is told."""

    def ready(self, names: Sequence[str]) -> None:
        """These queries run."""

    def nothing_to_do(self) -> None:
        """All is read, and Spark is not started."""

    def progress(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """The newest batch of each query, as Spark reports it; every few seconds."""

    def did(self, reports: Sequence[QueryReport]) -> None:
        """What the queries did; every minute, and at the end."""


@dataclass(frozen=True)
class TextReporter:
    """Lines for people. write: takes one line."""

    write: Write

    def ready(self, names: Sequence[str]) -> None:
        self.write(f"stream: ready: {', '.join(names)}; Ctrl-C stops between batches")

    def nothing_to_do(self) -> None:
        self.write("stream: nothing to do: all topics and tables are read, and every batch has ended")

    def progress(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Nothing: where lines stay, a minute's report says enough."""

    def did(self, reports: Sequence[QueryReport]) -> None:
        for report in reports:
            for line in lines(report):
                self.write(line)


@dataclass(frozen=True)
class JsonReporter:
    """One JSON object a line. write: takes one line."""

    write: Write

    def ready(self, names: Sequence[str]) -> None:
        self._say({"event": "ready", "queries": list(names)})

    def nothing_to_do(self) -> None:
        self._say({"event": "nothing_to_do"})

    def progress(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Nothing: a minute's report says enough."""

    def did(self, reports: Sequence[QueryReport]) -> None:
        for each in reports:
            dead = {"dead_letters": [asdict(kind) for kind in each.dead]} if each.dead else {}
            self._say({"event": "report", "query": each.query, **each.counts, **dead})

    def _say(self, what: Mapping[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self.write(json.dumps({"at": now, **what}, ensure_ascii=False, default=_text))


def _text(value: object) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def lines(report: QueryReport) -> list[str]:
    """A line of counts, and one for each kind of dead letter with one of them as an example."""
    counts = ", ".join(f"{what.replace('_', ' ')} {count:,}" for what, count in report.counts.items())
    found = [f"{report.query}: {counts}"]
    for kind in report.dead:
        about = f" ({kind.field})" if kind.field else ""
        found.append(f"{report.query}: {kind.count:,} dead from {kind.source}: {kind.reason}{about}: {kind.example}")
    if report.dead:
        remedy = "`spinney dead-letters show` has them whole; after a fix, `replay` sends them again"
        found.append(f"{report.query}: {remedy}")
    return found
