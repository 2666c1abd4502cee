"""The figures of the report, each from the summary alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from demo import svg, words
from demo.recovery import RECOVERED
from demo.svg import Canvas, Scale, tag, text, title
from demo.worth import NAMES

DRAWN = tuple(reversed(NAMES))
"""In drawing order: the fleet itself last, on top."""


def daily_error(measures: Mapping[str, Any]) -> str:
    """Mean loss of each day, a line for each of the four. Without the groups of the injected change: only what was."""
    days = measures["worth"]["daily_without_injected"]
    canvas = Canvas(1040, 330, right=150, top=34)
    x = canvas.x(0, max(len(days) - 1, 1))
    y = canvas.y(_top(day[name] for day in days for name in NAMES))
    parts = canvas.grid(y, _unit(measures))
    parts += _days(canvas, x, [day["day"] for day in days])
    parts += _lines(canvas, {name: [(x(at), y(day[name])) for at, day in enumerate(days)] for name in NAMES})
    width = (x.stop - x.start) / max(len(days), 1)
    for at, day in enumerate(days):
        said = "\n".join(f"{words.NAMES[name]}: {words.number(day[name])}" for name in NAMES)
        tip = title(f"{words.day(day['day'])}: {words.count(day['events'])} events\n{said}")
        height = canvas.height - canvas.top - canvas.bottom
        parts.append(tag("rect", tip, x=x(at) - width / 2, y=canvas.top, width=width, height=height, class_="hit"))
    return canvas.drawing(parts, "Mean loss per day of this fleet, daily, weekly and never refitted")


def recovery_lines(measures: Mapping[str, Any]) -> str:
    """The changed groups' mean loss of the last 24 hours, from a day before the change on."""
    injected = measures["worth"]["injected"]
    canvas = Canvas(640, 330, right=128, top=34)
    lines = injected["line"]
    hours = [hour for line in lines.values() for hour, _ in line] or [0, 24]
    x = canvas.x(min(hours), max(hours))
    y = canvas.y(_top(loss for line in lines.values() for _, loss in line))
    parts = canvas.grid(y, _unit(measures))
    parts += _change(canvas, x(0), "change")
    for hour in range(0, max(hours) + 1, 96):
        parts.append(text(x(hour), canvas.height - 8, f"{hour // 24} d", anchor="middle"))
    before = injected["before"]["fleet"]
    if before is not None and RECOVERED * before <= y.high:
        at = y(RECOVERED * before)
        parts.append(tag("line", x1=canvas.left, x2=canvas.width - canvas.right, y1=at, y2=at, class_="limit"))
        parts.append(text(canvas.width - canvas.right - 4, at - 6, f"{RECOVERED} times before", anchor="end"))
    parts += _lines(canvas, {name: [(x(hour), y(loss)) for hour, loss in lines[name]] for name in NAMES})
    return canvas.drawing(parts, "Error of the changed groups before and after the injected change")


def recovery_bars(measures: Mapping[str, Any]) -> str:
    """Hours until the error had recovered; an open bar: not within the demo."""
    worth = measures["worth"]
    found = worth["injected"]["hours_to_recover"]
    change = datetime.fromisoformat(worth["injected"]["change_at"])
    whole = (datetime.fromisoformat(measures["span"]["end"]) - change).total_seconds() / 3600
    canvas = Canvas(380, 330, left=8, right=8, top=34)
    x = Scale(0, whole, canvas.left, canvas.width - canvas.right)
    parts = []
    for at, name in enumerate(NAMES):
        top = canvas.top + at * 68
        value = found[name]
        parts.append(text(canvas.left, top + 12, words.NAMES[name], class_="label"))
        parts.append(text(canvas.width - canvas.right, top + 12, words.hours(value), anchor="end", class_="value"))
        parts.append(tag("rect", x=x(0), y=top + 22, width=x(whole) - x(0), height=14, rx=3, class_="track"))
        end = x(whole if value is None else value)
        kind = f"bar {name}" if value is not None else "bar open"
        parts.append(tag("rect", x=x(0), y=top + 22, width=end - x(0), height=14, rx=3, class_=kind))
    parts.append(text(canvas.left, canvas.height - 10, f"of {whole:.0f} h of event time after the change"))
    return canvas.drawing(parts, "Hours of event time until the error had recovered")


def states(measures: Mapping[str, Any]) -> str:
    """One strip of all groups, by state."""
    by_state = measures["groups"]["by_state"]
    total = max(sum(by_state.values()), 1)
    canvas = Canvas(1040, 44, left=0, right=0, top=0, bottom=0)
    x, parts = canvas.x(0, total), []
    done = 0
    for state, groups in by_state.items():
        if groups:
            tip = title(f"{words.STATES[state]}: {words.count(groups)} groups")
            width = max(x(done + groups) - x(done) - 2, 1.5)
            parts.append(tag("rect", tip, x=x(done), y=4, width=width, height=36, rx=3, class_=f"state {state}"))
        done += groups
    return canvas.drawing(parts, "Groups by state")


def reasons(measures: Mapping[str, Any]) -> str:
    """Groups retrained on each day of event time, stacked by reason."""
    days = measures["retrained"]["by_day"]
    order = list(measures["retrained"]["by_reason"])
    canvas = Canvas(640, 300, top=30)
    x = canvas.x(-0.5, max(len(days), 1) - 0.5)
    y = canvas.y(_top(sum(day["reasons"].values()) for day in days))
    width = (x.stop - x.start) / max(len(days), 1) * 0.78
    parts = canvas.grid(y, "fits a day")
    for at, day in enumerate(days):
        done = 0
        for reason in order:
            fits = day["reasons"].get(reason, 0)
            if fits:
                tip = title(f"{words.day(day['day'])}: {words.count(fits)} for {words.REASONS.get(reason, reason)}")
                height = y(done) - y(done + fits)
                place = {"x": x(at) - width / 2, "y": y(done + fits), "width": width, "height": height}
                parts.append(tag("rect", tip, **place, class_=f"reason {reason}"))
            done += fits
    parts += _days(canvas, x, [day["day"] for day in days])
    return canvas.drawing(parts, "Groups retrained per day of event time, by reason")


def freshness(measures: Mapping[str, Any]) -> str:
    """How long it took from stale to a new champion answering: a distribution, median and 95th percentile marked."""
    fresh = measures["freshness"]
    bins = fresh["histogram"]
    canvas = Canvas(380, 300, top=30)
    if not bins:
        return canvas.drawing([text(20, 60, "No new champion has answered yet.")], "No data")
    x, y = canvas.x(0, bins[-1]["to"]), canvas.y(_top(one["count"] for one in bins))
    parts = canvas.grid(y, "promotions")
    for one in bins:
        tip = title(f"{words.seconds(one['from'])} to {words.seconds(one['to'])}: {words.count(one['count'])}")
        place = {"x": x(one["from"]) + 0.5, "width": max(x(one["to"]) - x(one["from"]) - 1, 0.5)}
        parts.append(tag("rect", tip, **place, y=y(one["count"]), height=y(0) - y(one["count"]), class_="bar fleet"))
    for value in svg.ticks(0, bins[-1]["to"], 4):
        parts.append(text(x(value), canvas.height - 8, f"{value:g} s", anchor="middle"))
    for level, name in (("p50", "median"), ("p95", "95 %")):
        at = x(min(fresh["stale_to_answer"][level], bins[-1]["to"]))
        parts.append(tag("line", x1=at, x2=at, y1=canvas.top, y2=y(0), class_="mark"))
        parts.append(text(at + 4, canvas.top + 10 + (16 if level == "p95" else 0), name))
    return canvas.drawing(parts, "Seconds from stale to a new champion answering")


def life(measures: Mapping[str, Any]) -> str:
    """One group: the loss of each event, its running mean, and the rounds that retrained it."""
    one = measures["life"]
    start = datetime.fromisoformat(measures["span"]["start"])
    end = datetime.fromisoformat(measures["span"]["end"])
    canvas = Canvas(1040, 300, right=150, top=34, bottom=52)
    x = canvas.x(0, (end - start).total_seconds() / 86400)

    def days(when: str) -> float:
        return (datetime.fromisoformat(when) - start).total_seconds() / 86400

    own = [(days(when), loss) for when, loss, _ in one["points"]]
    never = [(days(when), loss) for when, _, loss in one["points"]]
    lines = {"fleet": running(own), "never": running(never)}
    # A few wild events would flatten all the others: the dots above are drawn at the top.
    losses = sorted(loss for _, loss in own)
    y = canvas.y(_top([losses[int(0.98 * (len(losses) - 1))], *(loss for line in lines.values() for _, loss in line)]))
    parts = canvas.grid(y, _unit(measures))
    injected = measures["worth"]["injected"]
    if injected and one["injected"]:
        parts += _change(canvas, x(days(injected["change_at"])), "injected change")
    for (at, loss), (when, _, _) in zip(own, one["points"], strict=True):
        tip = title(f"{words.day(when)}: error {words.number(loss)}")
        parts.append(tag("circle", tip, cx=x(at), cy=y(min(loss, y.high)), r=2.6, class_="dot"))
    parts += _lines(canvas, {name: [(x(at), y(loss)) for at, loss in line] for name, line in lines.items()})
    for step in one["rounds"]:
        at = x(min(max(days(step["at"]), 0.0), x.high))
        why = words.REASONS.get(step["policy"], step["policy"])
        tip = title(f"{words.day(step['at'])}: {why}: {step['reason']}\n{step['decision']}: {step['gate']}")
        low = canvas.height - canvas.bottom + 6
        kind = f"round reason {step['policy']}" + (" refused" if step["decision"] == "refused" else "")
        parts.append(tag("rect", tip, x=at - 1.5, y=low, width=3, height=12, rx=1.5, class_=kind))
    parts.append(
        text(canvas.width - canvas.right + 10, canvas.height - canvas.bottom + 16, "retrained", class_="label")
    )
    for at in range(0, int(x.high) + 1, 4):
        parts.append(text(x(at), canvas.height - 8, _date(start, at), anchor="middle"))
    return canvas.drawing(parts, "One group: error of each event and the rounds that retrained it")


def running(points: Sequence[tuple[float, float]], width: int = 15) -> list[tuple[float, float]]:
    """The mean of the last `width` values at each point, from the fifth on."""
    out = []
    for at in range(4, len(points)):
        last = [loss for _, loss in points[max(0, at + 1 - width) : at + 1]]
        out.append((points[at][0], sum(last) / len(last)))
    return out


def batch_line(batches: Mapping[str, Any], top: float) -> str:
    """The durations of one query's batches, in their order. top: seconds at the top, the same for all queries."""
    line = batches["line"]
    canvas = Canvas(300, 120, left=0, right=0, top=4, bottom=4)
    x, y = canvas.x(-0.5, max(len(line), 1) - 0.5), canvas.y(top)
    width = (x.stop - x.start) / max(len(line), 1)
    parts = [tag("line", x1=0, x2=300, y1=y(0), y2=y(0), class_="grid")]
    for at, (batch, seconds) in enumerate(line):
        height = y(0) - y(min(seconds, top))
        place = {"x": x(at) - width / 2, "y": y(0) - height, "width": max(width - 0.8, 0.6), "height": height}
        tip = title(f"batch {batch}: {words.seconds(seconds)}")
        parts.append(tag("rect", tip, **place, class_="bar fleet" if seconds <= top else "bar over"))
    return canvas.drawing(parts, "Batch durations")


def _lines(canvas: Canvas, lines: Mapping[str, Sequence[svg.Point]]) -> list[str]:
    """A line for each name, labelled at its end."""
    named = [name for name in DRAWN if lines.get(name)]
    parts = [svg.path(lines[name], f"line {name}") for name in named]
    places = svg.apart([lines[name][-1][1] for name in named], 17)
    for name, place in zip(named, places, strict=True):
        x = canvas.width - canvas.right + 10
        parts.append(text(x, place + 4, words.NAMES[name], class_=f"end {name}"))
    return parts


def _change(canvas: Canvas, x: float, said: str) -> list[str]:
    top, low = canvas.top - 12, canvas.height - canvas.bottom
    return [tag("line", x1=x, x2=x, y1=top, y2=low, class_="change"), text(x + 6, top + 8, said, class_="said")]


def _days(canvas: Canvas, x: Scale, days: Sequence[str]) -> list[str]:
    step = max(1, round(len(days) / 7))
    return [text(x(at), canvas.height - 8, words.day(days[at]), anchor="middle") for at in range(0, len(days), step)]


def _date(start: datetime, days: int) -> str:
    return words.day(datetime.fromtimestamp(start.timestamp() + days * 86400, tz=start.tzinfo).isoformat())


def _top(values: Any) -> float:
    """A little above the greatest."""
    return max(list(values), default=1.0) * 1.06 or 1.0


def _unit(measures: Mapping[str, Any]) -> str:
    return str(measures["worth"]["unit"] or f"{measures['fleet']['loss']} error")
