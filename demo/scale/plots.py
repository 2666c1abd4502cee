"""The charts of the report at scale, each drawn from the summary alone and returned as an SVG element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from demo.formatting import format_number, format_seconds
from demo.plots import CHART, LINES, NARROW, WIDE, draw_histogram, empty_chart
from spinney.core.reporting.palette import GREEN, ORANGE
from spinney.local.reports.svg_chart import Chart

KIND_LINES = {"changed": LINES["fleet"], "as_busy": LINES["daily"], "others": LINES["never"]}
"""How the line of each kind of group is drawn."""

KIND_LABELS = {"changed": "changed", "as_busy": "as busy", "others": "others"}
Points = Sequence[Sequence[float]]


def draw_errors(summary: Mapping[str, Any]) -> str:
    """Draw the mean error every few seconds as SVG, a line for each kind of group; the change is marked."""
    lines = {kind: summary["errors"]["line"][kind] for kind in KIND_LINES if summary["errors"]["line"][kind]}
    chart = Chart(WIDE, 340, right=120)
    _set_scales(chart, list(lines.values()), "mean absolute error")
    for kind in reversed(lines):
        chart.axes.plot(*zip(*lines[kind], strict=True), **KIND_LINES[kind])
    chart.label_line_ends({KIND_LABELS[kind]: (line[-1][1], KIND_LINES[kind]["color"]) for kind, line in lines.items()})
    chart.mark_moment(0, "change")
    values = ", ".join(f"{KIND_LABELS[kind]} {format_number(line[-1][1])}" for kind, line in lines.items())
    return chart.svg(f"Mean error of changed and unchanged groups over the stream. At the end: {values}")


def draw_latency(summary: Mapping[str, Any]) -> str:
    """Draw the median and 95th percentile of the latency of the events of every few seconds, as SVG."""
    line = summary["latency"]["line"]
    chart = Chart(CHART, 300, right=74, top=40)
    lines = {"median": [(at, p50) for at, p50, _ in line], "95 %": [(at, p95) for at, _, p95 in line]}
    colours = {"median": GREEN, "95 %": ORANGE}
    _set_scales(chart, list(lines.values()), "seconds")
    for name, points in lines.items():
        if points:
            chart.axes.plot(*zip(*points, strict=True), color=colours[name], linewidth=2.4)
    chart.label_line_ends({name: (points[-1][1], colours[name]) for name, points in lines.items() if points})
    chart.mark_moment(0, "change")
    p50, p99 = summary["latency"]["p50"], summary["latency"]["p99"]
    return chart.svg(
        f"Seconds from an event to its prediction over the stream: median {format_seconds(p50)}, "
        f"99 % within {format_seconds(p99)}"
    )


def draw_memory(summary: Mapping[str, Any]) -> str:
    """Draw the memory of the process tree over the stream, as SVG."""
    line = [(at, mb / 1024) for at, mb in summary["memory"]["line"]]
    chart = Chart(NARROW, 300, top=40)
    _set_scales(chart, [line], "GB")
    seconds, gigabytes = [at for at, _ in line], [size for _, size in line]
    chart.axes.plot(seconds, gigabytes, color=GREEN, linewidth=2.4)
    chart.axes.fill_between(seconds, gigabytes, color=GREEN, alpha=0.12, linewidth=0)
    return chart.svg(f"Memory of the process tree over the stream: peak {summary['memory']['peak_mb'] / 1024:.1f} GB")


def draw_time_to_answer(summary: Mapping[str, Any]) -> str:
    """Draw how many seconds each changed group took from the change to its new champion's first answer, as SVG."""
    bins = summary["refits"]["histogram"]
    chart = Chart(WIDE, 260, top=40)
    if not bins:
        return empty_chart(chart, "No new champion of a changed group has answered yet.")
    draw_histogram(chart, bins, "groups")
    median = format_seconds(summary["refits"]["to_answer"]["p50"])
    return chart.svg(f"Seconds from the change to the first answer of a new champion: median {median}")


def _set_scales(chart: Chart, lines: Sequence[Points], y_title: str) -> None:
    """Let both axes contain every point. In `lines`, x is in seconds; 0 is the change."""
    seconds = [point[0] for line in lines for point in line] or [0.0, 1.0]
    values = [point[1] for line in lines for point in line] or [1.0]
    axes = chart.axes
    axes.set(xlim=(min(seconds), max(seconds) + (max(seconds) == min(seconds))), ylim=(0, max(values) * 1.06 or 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    chart.set_y_title(y_title)
