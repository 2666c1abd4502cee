"""The charts of the demo's report, each drawn from the summary alone and returned as an SVG element."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from demo.error_recovery import RECOVERY_FACTOR
from demo.formatting import (
    POLICY_LABELS,
    STATE_LABELS,
    STRATEGY_LABELS,
    format_count,
    format_day,
    format_hours,
    format_number,
    format_seconds,
)
from demo.refit_comparison import STRATEGIES
from spinney.core.reporting.palette import (
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREEN,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    TEXT,
    TRACK,
)
from spinney.local.reports.svg_chart import FONT_PX, LABEL_PX, Chart

LINES: Mapping[str, Mapping[str, Any]] = {
    "fleet": {"color": GREEN, "linewidth": 3.2, "zorder": 6},
    "in_turn": {"color": PURPLE, "linewidth": 2, "zorder": 5},
    "daily": {"color": BLUE, "linewidth": 2, "linestyle": (0, (3.5, 2)), "zorder": 5},
    "weekly": {"color": ORANGE, "linewidth": 2, "zorder": 4},
    "never": {"color": GREY, "linewidth": 2, "linestyle": (0, (1, 1.6)), "zorder": 3},
}
"""How the line of each of the compared fleets is drawn."""

STATE_COLOURS = {
    "fresh": GREEN,
    "stale": ORANGE,
    "refused": PURPLE,
    "held": BLUE,
    "failed": RED,
    "parent": LIGHT_GREEN,
    "none": GREY,
}
POLICY_COLOURS = {
    "new_rows": GREEN,
    "row_days": GREEN,
    "error_rise": ORANGE,
    "new_group": PURPLE,
    "max_age": BLUE,
}
"""Colours of the policies in charts. Policies that are not listed are grey."""

CHART, WIDE, NARROW = 640, 1040, 380
"""Widths of charts in pixels: beside a narrow chart, alone in its row, beside a wide chart."""

NAMES = 160
"""Width in pixels to the right of the lines, in which the longest of their names fits."""

RUNNING_MEAN_EVENTS = 15
RUNNING_MEAN_LEAST = 5


def draw_daily_error(summary: Mapping[str, Any]) -> str:
    """Draw the mean loss of each day, a line for each fleet, without the groups of the injected change."""
    days = summary["worth"]["daily_without_injected"]
    chart = Chart(WIDE, 340, right=NAMES)
    lines = {name: [(at, day[name]) for at, day in enumerate(days)] for name in STRATEGIES}
    chart.axes.set_xlim(-0.1, max(len(days) - 1, 1))
    _draw_lines(chart, lines, _loss_title(summary))
    _label_days(chart, [day["day"] for day in days])
    for at, day in enumerate(days):
        losses = "\n".join(f"{STRATEGY_LABELS[name]}: {format_number(day[name])}" for name in STRATEGIES)
        hover = chart.axes.axvspan(at - 0.5, at + 0.5, color=TEXT, alpha=0, linewidth=0, zorder=9)
        chart.add_tooltip(hover, f"{format_day(day['day'])}: {format_count(day['events'])} events\n{losses}")
    return chart.svg(f"Mean loss per day. {_last_values(lines, 'On the last day')}")


def draw_recovery_lines(summary: Mapping[str, Any]) -> str:
    """Draw the changed groups' mean loss of the last 24 hours, from a day before the change on."""
    injected = summary["worth"]["injected"]
    chart = Chart(CHART, 340, right=NAMES)
    lines = injected["line"]
    hours = [hour for points in lines.values() for hour, _ in points] or [0, 24]
    chart.axes.set_xlim(min(hours), max(hours))
    _draw_lines(chart, lines, _loss_title(summary))
    ticks = range(0, max(hours) + 1, 48 if max(hours) <= 10 * 24 else 96)
    chart.axes.set_xticks(ticks, [f"{hour // 24} d" for hour in ticks])
    chart.mark_moment(0, "change")
    before = injected["before"]["fleet"]
    if before is not None and RECOVERY_FACTOR * before <= chart.axes.get_ylim()[1]:
        chart.mark_level(RECOVERY_FACTOR * before, f"{RECOVERY_FACTOR} times before")
    return chart.svg(f"Error of the changed groups before and after the injected change. {_last_values(lines)}")


def draw_recovery_bars(summary: Mapping[str, Any]) -> str:
    """Draw the hours of event time until the error had recovered. An empty, dashed bar: not within the demo."""
    injected = summary["worth"]["injected"]
    recovered = injected["hours_to_recover"]
    change = datetime.fromisoformat(injected["change_at"])
    whole = (datetime.fromisoformat(summary["span"]["end"]) - change).total_seconds() / 3600
    chart = Chart(NARROW, 340, left=4, right=4, top=10, bottom=30)
    axes = chart.axes
    chart.hide_axes()
    axes.set(xlim=(0, whole), ylim=(len(STRATEGIES) - 0.42, -0.42))
    for at, name in enumerate(STRATEGIES):
        hours = recovered[name]
        axes.barh(at + 0.12, whole, height=0.2, color=TRACK, linewidth=0)
        if hours is None:
            axes.barh(at + 0.12, whole, height=0.2, fill=False, edgecolor=GREY, linewidth=1.2, linestyle=(0, (3, 3)))
        else:
            axes.barh(at + 0.12, hours, height=0.2, color=LINES[name]["color"], linewidth=0)
        axes.text(0, at - 0.16, STRATEGY_LABELS[name], fontsize=LABEL_PX, color=TEXT, va="center")
        axes.text(
            whole, at - 0.16, format_hours(hours), fontsize=LABEL_PX, color=TEXT, fontweight="bold", ha="right",
            va="center",
        )  # fmt: skip
    scale = f"The whole bar: {whole:.0f} h of event time after the change"
    axes.annotate(
        scale, (0, 0), (0, -14), xycoords="axes fraction", textcoords="offset points", fontsize=FONT_PX, color=MUTED
    )
    values = ", ".join(f"{STRATEGY_LABELS[name]} {format_hours(recovered[name])}" for name in STRATEGIES)
    return chart.svg(f"Hours of event time until the error had recovered: {values}")


def draw_group_states(summary: Mapping[str, Any]) -> str:
    """Draw all groups as one strip, divided by state."""
    by_state = {state: groups for state, groups in summary["groups"]["by_state"].items() if groups}
    total = max(sum(by_state.values()), 1)
    chart = Chart(WIDE, 40, left=0, right=0, top=0, bottom=0)
    chart.hide_axes()
    chart.axes.set(xlim=(0, WIDE), ylim=(0, 40))
    left = 0.0
    for state, groups in by_state.items():
        width = groups / total * WIDE
        colour = STATE_COLOURS.get(state, GREY)
        box = FancyBboxPatch(
            (left, 2), max(width - 2, 1.5), 36, boxstyle="round,pad=0,rounding_size=3" if width > 8 else "square,pad=0",
            facecolor=colour, linewidth=0,
        )  # fmt: skip
        chart.axes.add_patch(box)
        chart.add_tooltip(box, f"{STATE_LABELS[state]}: {format_count(groups)} groups")
        left += width
    values = ", ".join(f"{STATE_LABELS[state]} {format_count(groups)}" for state, groups in by_state.items())
    return chart.svg(f"Groups by state: {values}")


def draw_retraining_reasons(summary: Mapping[str, Any]) -> str:
    """Draw the number of groups retrained on each day of event time, stacked by the policy that gave the reason."""
    days = summary["retrained"]["by_day"]
    by_policy = summary["retrained"]["by_reason"]
    chart = Chart(CHART, 300, top=40)
    chart.axes.set_xlim(-0.5, max(len(days), 1) - 0.5)
    bottoms = [0] * len(days)
    for policy in by_policy:
        fits = [day["reasons"].get(policy, 0) for day in days]
        bars = chart.axes.bar(
            range(len(days)), fits, 0.78, bottoms, color=POLICY_COLOURS.get(policy, GREY), linewidth=0
        )
        for day, count, bar in zip(days, fits, bars, strict=True):
            if count:
                reason = POLICY_LABELS.get(policy, policy)
                chart.add_tooltip(bar, f"{format_day(day['day'])}: {format_count(count)} for {reason}")
        bottoms = [bottom + count for bottom, count in zip(bottoms, fits, strict=True)]
    chart.axes.set_ylim(0, _limit(bottoms))
    chart.axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    chart.set_y_title("fits per day")
    _label_days(chart, [day["day"] for day in days])
    values = ", ".join(f"{POLICY_LABELS.get(name, name)} {format_count(fits)}" for name, fits in by_policy.items())
    return chart.svg(f"Groups retrained per day of event time, by reason. In all: {values or 'none'}")


def draw_freshness(summary: Mapping[str, Any]) -> str:
    """Draw the seconds from stale to a new champion answering, with median and 95th percentile marked."""
    fresh = summary["freshness"]
    chart = Chart(NARROW, 300, top=40)
    if not fresh["histogram"]:
        return empty_chart(chart, "No new champion has answered yet.")
    draw_histogram(chart, fresh["histogram"], "promotions")
    last = fresh["histogram"][-1]["to"]
    for at, (level, name) in enumerate((("p50", "median"), ("p95", "95 %"))):
        seconds = min(fresh["stale_to_answer"][level], last)
        chart.axes.axvline(seconds, color=TEXT, linewidth=1, linestyle=(0, (2, 3)))
        is_right = seconds > 0.8 * last
        chart.axes.annotate(
            name, (seconds, 1), (-5 if is_right else 5, -6 - 16 * at), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="center", ha="right" if is_right else "left", fontsize=FONT_PX, color=TEXT,
        )  # fmt: skip
    timing = fresh["stale_to_answer"]
    return chart.svg(
        f"Seconds from stale to a new champion answering: median {format_seconds(timing['p50'])}, "
        f"95 % within {format_seconds(timing['p95'])}"
    )


def draw_group_timeline(summary: Mapping[str, Any]) -> str:
    """Draw one group: the loss of each event, its running mean, and the rounds that retrained it."""
    group = summary["life"]
    start = datetime.fromisoformat(summary["span"]["start"])
    end = datetime.fromisoformat(summary["span"]["end"])

    def days_since(when: str | datetime) -> float:
        moment = datetime.fromisoformat(when) if isinstance(when, str) else when
        return (moment - start) / timedelta(days=1)

    own = [(days_since(when), loss) for when, loss, _ in group["points"]]
    never = [(days_since(when), loss) for when, _, loss in group["points"]]
    chart = Chart(WIDE, 320, right=150, bottom=58)
    axes = chart.axes
    axes.set_xlim(0, days_since(end))
    lines = {"fleet": running_mean(own), "never": running_mean(never)}
    # A few extreme events would flatten all the others: dots above the limit are drawn at the limit.
    losses = sorted(loss for _, loss in own)
    limit = _limit([losses[int(0.98 * (len(losses) - 1))], *(loss for line in lines.values() for _, loss in line)])
    dots = axes.scatter(
        [at for at, _ in own], [min(loss, limit) for _, loss in own], s=22, color=GREEN, alpha=0.32, linewidths=0,
        clip_on=False, zorder=3,
    )  # fmt: skip
    chart.add_tooltip(
        dots, [f"{format_day(when)}: error {format_number(loss)}" for when, loss, _ in group["points"]]
    )  # fmt: skip
    _draw_lines(chart, lines, _loss_title(summary), limit)
    injected = summary["worth"]["injected"]
    if injected and group["injected"]:
        chart.mark_moment(days_since(injected["change_at"]), "injected change")
    _draw_rounds(chart, group["rounds"], days_since)
    days = range(0, int(days_since(end)) + 1, 4)
    axes.set_xticks(days, [format_day((start + timedelta(days=day)).isoformat()) for day in days])
    axes.tick_params(axis="x", pad=31)
    return chart.svg(
        f"One group: error of each of {len(own)} events and the {len(group['rounds'])} rounds that retrained it. "
        f"{_last_values(lines, 'Mean of the last events')}"
    )


def _draw_rounds(chart: Chart, rounds: Iterable[Mapping[str, Any]], days_since: Any) -> None:
    """Draw a short bar below the axis for each round that retrained the group; those of refused models are pale."""
    axes = chart.axes
    _, last = axes.get_xlim()
    below = axes.get_xaxis_transform()
    for step in rounds:
        at = min(max(days_since(step["at"]), 0.0), last)
        (mark,) = axes.plot(
            [at, at], [-0.095, -0.045], transform=below, clip_on=False, linewidth=3.4, solid_capstyle="round",
            color=POLICY_COLOURS.get(step["policy"], GREY), alpha=0.35 if step["decision"] == "refused" else 1,
        )  # fmt: skip
        reason = POLICY_LABELS.get(step["policy"], step["policy"])
        chart.add_tooltip(
            mark, f"{format_day(step['at'])}: {reason}: {step['reason']}\n{step['decision']}: {step['gate']}"
        )
    axes.annotate(
        "retrained", (1, -0.07), (10, 0), xycoords="axes fraction", textcoords="offset points", va="center",
        fontsize=LABEL_PX, color=TEXT, annotation_clip=False,
    )  # fmt: skip


def running_mean(points: Sequence[tuple[float, float]], width: int = RUNNING_MEAN_EVENTS) -> list[tuple[float, float]]:
    """Return the mean of the last `width` values at each point, from the fifth point on."""
    means = []
    for at in range(RUNNING_MEAN_LEAST - 1, len(points)):
        last = [loss for _, loss in points[max(0, at + 1 - width) : at + 1]]
        means.append((points[at][0], sum(last) / len(last)))
    return means


def draw_batch_durations(batches: Mapping[str, Any], top: float) -> str:
    """Draw the durations of one query's batches, in their order. top: seconds at the top, the same for all queries."""
    durations = batches["line"]
    chart = Chart(300, 120, left=0, right=0, top=4, bottom=4)
    chart.axes.set(xlim=(-0.5, max(len(durations), 1) - 0.5), ylim=(0, top))
    chart.axes.tick_params(labelleft=False, labelbottom=False)
    chart.axes.grid(visible=False)
    heights = [min(seconds, top) for _, seconds in durations]
    colours = [ORANGE if seconds > top else GREEN for _, seconds in durations]
    bars = chart.axes.bar(range(len(durations)), heights, 0.86, color=colours, linewidth=0)
    for (batch, seconds), bar in zip(durations, bars, strict=True):
        chart.add_tooltip(bar, f"batch {batch}: {format_seconds(seconds)}")
    timing = batches["seconds"]
    return chart.svg(
        f"Durations of {format_count(batches['batches'])} batches: median {format_seconds(timing['p50'])}, "
        f"longest {format_seconds(timing['max'])}"
    )


def draw_histogram(chart: Chart, bins: Sequence[Mapping[str, float]], counted: str) -> None:
    """Draw bars of seconds. bins: from, to, count. counted: what is counted, the title of the y-axis."""
    axes = chart.axes
    widths = [one["to"] - one["from"] for one in bins]
    bars = axes.bar(
        [one["from"] + width / 2 for one, width in zip(bins, widths, strict=True)], [one["count"] for one in bins],
        [0.92 * width for width in widths], color=GREEN, linewidth=0,
    )  # fmt: skip
    for one, bar in zip(bins, bars, strict=True):
        chart.add_tooltip(
            bar, f"{format_seconds(one['from'])} to {format_seconds(one['to'])}: {format_count(one['count'])} {counted}"
        )
    axes.set(xlim=(0, bins[-1]["to"]), ylim=(0, _limit(one["count"] for one in bins)))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    chart.set_y_title(counted)


def empty_chart(chart: Chart, reason: str) -> str:
    """Return a chart that says why there is nothing to draw."""
    chart.hide_axes()
    chart.axes.text(0, 0.9, reason, transform=chart.axes.transAxes, fontsize=LABEL_PX, color=MUTED)
    return chart.svg(f"Nothing to draw: {reason}")


def _draw_lines(
    chart: Chart, lines: Mapping[str, Sequence[Sequence[float]]], y_title: str, limit: float | None = None
) -> None:
    """Draw a line for each fleet and label its end.

    limit: top of the y-axis; None: a little above the greatest value.
    """
    drawn = [name for name in reversed(STRATEGIES) if lines.get(name)]
    for name in drawn:
        chart.axes.plot(*zip(*lines[name], strict=True), **LINES[name], solid_capstyle="round", dash_capstyle="round")
    chart.axes.set_ylim(0, limit or _limit(value for name in drawn for _, value in lines[name]))
    chart.set_y_title(y_title)
    chart.label_line_ends({STRATEGY_LABELS[name]: (lines[name][-1][1], LINES[name]["color"]) for name in drawn})


def _last_values(lines: Mapping[str, Sequence[Sequence[float]]], when: str = "At the end") -> str:
    """The last value of each line, in words."""
    values = [f"{STRATEGY_LABELS[name]} {format_number(lines[name][-1][1])}" for name in STRATEGIES if lines.get(name)]
    return f"{when}: {', '.join(values) or 'no values'}"


def _label_days(chart: Chart, days: Sequence[str]) -> None:
    """Label about seven of the days; day n is at x = n."""
    places = range(0, len(days), max(1, round(len(days) / 7)))
    chart.axes.set_xticks(places, [format_day(days[at]) for at in places])


def _limit(values: Iterable[float]) -> float:
    """A little above the greatest value; 1 if there is none above 0."""
    return max(values, default=1.0) * 1.06 or 1.0


def _loss_title(summary: Mapping[str, Any]) -> str:
    return str(summary["worth"]["unit"] or f"{summary['fleet']['loss']} error")
