"""Counts of the gateway in the text format of Prometheus. No label has a value that grows with the fleet.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from threading import Lock

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PREFIX = "spinney_gateway_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Gauge = tuple[str, str, str, float | Mapping[str, float]]
"""A measurement that is counted elsewhere: name without PREFIX, kind, meaning, value. A mapping has a value per query.
"""


class Metrics:
    """Counts since the start. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._rows: Counter[str] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request. route: the path with the names of its parts, not their values."""
        with self._lock:
            self._requests[route, status] += 1
            self._seconds[route] += seconds
            buckets = self._buckets.setdefault(route, [0] * (len(BUCKETS_S) + 1))
            buckets[bisect_left(BUCKETS_S, seconds)] += 1

    def count_rows(self, answered_by: Iterable[str]) -> None:
        """Count answered rows. answered_by: own, parent, global, none, or invalid."""
        found = Counter(answered_by)
        with self._lock:
            self._rows.update(found)

    def text(self, gauges: Iterable[Gauge]) -> str:
        """Return everything in the text format."""
        with self._lock:
            lines = [*self._request_lines(), *self._duration_lines(), *self._row_lines()]
        for name, kind, meaning, value in gauges:
            lines += _head(name, kind, meaning)
            if isinstance(value, Mapping):
                lines += [_line(name, {"query": query}, of_query) for query, of_query in value.items()]
            else:
                lines.append(f"{PREFIX}{name} {value!r}")
        return "\n".join(lines) + "\n"

    def _request_lines(self) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Answered requests.")
        for (route, status), count in sorted(self._requests.items()):
            yield _line("requests_total", {"route": route, "code": str(status)}, count)

    def _duration_lines(self) -> Iterator[str]:
        name = "request_duration_seconds"
        yield from _head(name, "histogram", "From a request's head to the end of its answer.")
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for most, count in zip((*map(str, BUCKETS_S), "+Inf"), buckets, strict=True):
                total += count
                yield _line(f"{name}_bucket", {"route": route, "le": most}, total)
            yield _line(f"{name}_sum", {"route": route}, self._seconds[route])
            yield _line(f"{name}_count", {"route": route}, total)

    def _row_lines(self) -> Iterator[str]:
        yield from _head("rows_total", "counter", "Rows by which model answered; invalid ones have none.")
        for answered_by, count in sorted(self._rows.items()):
            yield _line("rows_total", {"answered_by": answered_by}, count)


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {meaning}", f"# TYPE {PREFIX}{name} {kind}"]


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    # Values of labels are our own routes and closed lists: none has a quote, a backslash or a newline.
    listed = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{PREFIX}{name}{{{listed}}} {value!r}"  # with all digits: a counter that is rounded seems to stand still
