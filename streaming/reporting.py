"""Reports of what the queries did, for people or programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from spinney.operations.dead_letters.letters import LetterGroup

WriteLine = Callable[[str], None]


@dataclass(frozen=True)
class QueryReport:
    """The activity of one query since the last report.

    counts: by name. dead_letters: rejected records, by kind. without_values: columns of which no stored event has a
    value -> their field in messages.
    """

    query: str
    counts: Mapping[str, int]
    dead_letters: tuple[LetterGroup, ...] = ()
    without_values: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether every count is zero."""
        return not any(self.counts.values())


class Reporter(Protocol):
    """Receives what happens to the queries."""

    def ready(self, names: Sequence[str]) -> None:
        """Report that these queries run."""

    def nothing_to_do(self) -> None:
        """Report that no work is pending, so that Spark is not started."""

    def progress(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Show the newest batch of each query, as Spark reports it. Called every few seconds."""

    def report(self, reports: Sequence[QueryReport]) -> None:
        """Report what the queries did. Called every minute and at the end."""


@dataclass(frozen=True)
class TextReporter:
    """Writes lines for people. write: called with each line."""

    write: WriteLine

    def ready(self, names: Sequence[str]) -> None:
        """Write which queries run."""
        self.write(f"stream: ready: {', '.join(names)}; Ctrl-C stops between batches")

    def nothing_to_do(self) -> None:
        """Write that no work is pending."""
        self.write("stream: nothing to do: all topics and tables are read, and every batch has ended")

    def progress(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Print nothing: a log gets the report of every minute only."""

    def report(self, reports: Sequence[QueryReport]) -> None:
        """Write what each query did."""
        for report in reports:
            for line in format_report(report):
                self.write(line)


@dataclass(frozen=True)
class JsonReporter:
    """Writes one JSON object per line. write: called with each line."""

    write: WriteLine

    def ready(self, names: Sequence[str]) -> None:
        """Write which queries run."""
        self._write_event({"event": "ready", "queries": list(names)})

    def nothing_to_do(self) -> None:
        """Write that no work is pending."""
        self._write_event({"event": "nothing_to_do"})

    def progress(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Print nothing: programs get the report of every minute only."""

    def report(self, reports: Sequence[QueryReport]) -> None:
        """Write what each query did."""
        for report in reports:
            letters = {"dead_letters": [asdict(kind) for kind in report.dead_letters]} if report.dead_letters else {}
            without = {"without_values": report.without_values} if report.without_values else {}
            self._write_event({"event": "report", "query": report.query, **report.counts, **letters, **without})

    def _write_event(self, fields: Mapping[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self.write(json.dumps({"at": now, **fields}, ensure_ascii=False, default=_json_text))


def _json_text(value: object) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def format_report(report: QueryReport) -> list[str]:
    """Return a line of counts, one with an example for each kind of dead letter, one about columns without values."""
    counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in report.counts.items())
    lines = [f"{report.query}: {counts}"]
    for kind in report.dead_letters:
        about = f" ({kind.field})" if kind.field else ""
        lines.append(f"{report.query}: {kind.count:,} dead from {kind.source}: {kind.reason}{about}: {kind.example}")
    if report.dead_letters:
        remedy = "`spinney dead-letters show` has them whole; after a fix, `replay` sends them again"
        lines.append(f"{report.query}: {remedy}")
    if report.without_values:
        lines.append(f"{report.query}: {_describe_empty_columns(report.without_values)}")
    return lines


def _describe_empty_columns(fields: Mapping[str, str]) -> str:
    """Return a sentence about columns without values. fields: column -> its field in messages."""
    names = [name if field == name else f"{name} (field {field})" for name, field in fields.items()]
    return (
        f"no event had a value of {', '.join(names)}. If messages have one under another name, set it in [fleet.fields]"
    )
