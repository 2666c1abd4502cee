"""The figures of the report at scale, each from the summary alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from demo import svg, words
from demo.svg import Canvas, Scale, tag, text, title

LINES = {"changed": "fleet", "as_busy": "daily", "others": "never"}
"""Kind of group -> class of its line in the style sheet."""

LABELS = {"changed": "changed", "as_busy": "as busy", "others": "others"}
Points = Sequence[Sequence[float]]


def errors(summary: Mapping[str, Any]) -> str:
    """Mean error every few seconds, a line for each kind of group; the change is marked."""
    lines = summary["errors"]["line"]
    canvas = Canvas(1040, 330, right=120, top=34)
    x, y = _scales(canvas, [line for line in lines.values() if line])
    parts = canvas.grid(y, "mean absolute error") + _seconds(canvas, x) + _change(canvas, x)
    named = [kind for kind in reversed(LINES) if lines[kind]]
    for kind in named:
        parts.append(svg.path([(x(at), y(loss)) for at, loss in lines[kind]], f"line {LINES[kind]}"))
    for kind, place in zip(named, svg.apart([y(lines[kind][-1][1]) for kind in named], 17), strict=True):
        at = canvas.width - canvas.right + 10
        parts.append(text(at, place + 4, LABELS[kind], class_=f"end {LINES[kind]}"))
    return canvas.drawing(parts, "Mean error of changed and unchanged groups over the stream")


def latency(summary: Mapping[str, Any]) -> str:
    """Median and 95th percentile of the latency of the events sent every few seconds."""
    line = summary["latency"]["line"]
    canvas = Canvas(640, 300, right=70, top=34)
    lines = {"median": [(at, p50) for at, p50, _ in line], "95 %": [(at, p95) for at, _, p95 in line]}
    x, y = _scales(canvas, list(lines.values()))
    parts = canvas.grid(y, "seconds") + _seconds(canvas, x) + _change(canvas, x)
    for (name, points), kind in zip(lines.items(), ("fleet", "weekly"), strict=True):
        parts.append(svg.path([(x(at), y(value)) for at, value in points], f"line {kind}"))
        if points:
            place = canvas.width - canvas.right + 8
            parts.append(text(place, y(points[-1][1]) + 4, name, class_=f"end {kind}"))
    return canvas.drawing(parts, "Seconds from an event to its prediction over the stream")


def memory(summary: Mapping[str, Any]) -> str:
    """Memory of the process tree over the stream."""
    line = [(at, mb / 1024) for at, mb in summary["memory"]["line"]]
    canvas = Canvas(380, 300, top=34)
    x, y = _scales(canvas, [line])
    parts = canvas.grid(y, "GB") + _seconds(canvas, x)
    parts.append(svg.path([(x(at), y(gb)) for at, gb in line], "line fleet"))
    return canvas.drawing(parts, "Memory of the process tree over the stream")


def to_answer(summary: Mapping[str, Any]) -> str:
    """A distribution over the changed groups: seconds from the change to the new champion's first answer."""
    bins = summary["refits"]["histogram"]
    canvas = Canvas(1040, 260, top=34)
    if not bins:
        return canvas.drawing([text(20, 60, "No new champion of a changed group has answered yet.")], "No data")
    x, y = canvas.x(0, bins[-1]["to"]), canvas.y(max(one["count"] for one in bins) * 1.06)
    parts = canvas.grid(y, "groups") + _seconds(canvas, x)
    for one in bins:
        tip = title(f"{words.seconds(one['from'])} to {words.seconds(one['to'])}: {words.count(one['count'])} groups")
        place = {"x": x(one["from"]) + 0.5, "width": max(x(one["to"]) - x(one["from"]) - 1, 0.5)}
        parts.append(tag("rect", tip, **place, y=y(one["count"]), height=y(0) - y(one["count"]), class_="bar fleet"))
    return canvas.drawing(parts, "Seconds from the change to the first answer of a new champion")


def _scales(canvas: Canvas, lines: Sequence[Points]) -> tuple[Scale, Scale]:
    at = [point[0] for line in lines for point in line] or [0.0]
    values = [point[1] for line in lines for point in line] or [1.0]
    return canvas.x(min(at), max(at)), canvas.y(max(values) * 1.06)


def _seconds(canvas: Canvas, x: Scale) -> list[str]:
    """Labels of the time axis; 0 is the change."""
    marks = svg.ticks(x.low, x.high, 6)
    return [text(x(value), canvas.height - 8, f"{value:g} s", anchor="middle") for value in marks]


def _change(canvas: Canvas, x: Scale) -> list[str]:
    top, low = canvas.top - 12, canvas.height - canvas.bottom
    line = tag("line", x1=x(0), x2=x(0), y1=top, y2=low, class_="change")
    return [line, text(x(0) + 6, top + 8, "change", class_="said")]
