"""Numbers, times and group keys as text; the labels of strategies, policies and states."""

from __future__ import annotations

from datetime import datetime

from spinney.core import durations, keys

STRATEGY_LABELS = {
    "fleet": "this fleet",
    "in_turn": "as many fits, in turn",
    "daily": "refitted daily",
    "weekly": "refitted weekly",
    "never": "never refitted",
}
"""Labels of the fleets that are compared."""

POLICY_LABELS = {
    "new_group": "new group",
    "max_age": "age",
    "new_rows": "new rows",
    "row_days": "new rows and age",
    "error_rise": "error rose",
    "asked": "asked for",
    "all": "all",
}
STATE_LABELS = {
    "fresh": "fresh",
    "stale": "stale, waiting for a round",
    "refused": "stale, challenger refused",
    "held": "held until a person decides",
    "failed": "the last fit failed",
    "parent": "too few rows: a parent answers",
    "none": "nobody answers yet",
}
NO_VALUE = "-"


def format_count(value: float | None) -> str:
    """Return a whole number: ``22,002``."""
    return NO_VALUE if value is None else f"{round(value):,}"


def format_number(value: float | None) -> str:
    """Return a number with three significant digits: ``8.25``, ``0.0712``, ``1,204``."""
    if value is None:
        return NO_VALUE
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def format_seconds(value: float | None) -> str:
    """Return a duration: ``0.31 s``, ``4.2 s``, ``2 min 08 s``."""
    return NO_VALUE if value is None else durations.format_seconds(value)


def format_hours(value: float | None) -> str:
    """Return hours of event time: ``18 h``, ``119 h (5.0 days)``. None means: not within the demo."""
    if value is None:
        return "not within the demo"
    return f"{value:.0f} h" if value < 48 else f"{value:.0f} h ({value / 24:.1f} days)"


def format_share(part: float, whole: float) -> str:
    """Return a part of a whole in percent."""
    return NO_VALUE if not whole else f"{100 * part / whole:.0f} %"


def describe_difference(own: float | None, other: float | None) -> str:
    """Return how `own` compares: ``10 % less than``, ``3.0 % more than``, ``as much as``; a decimal below 10 %."""
    if own is None or not other:
        return "not compared with"
    change = 100 * (1 - own / other)
    size = f"{abs(change):.0f} %" if abs(change) >= 9.5 else f"{abs(change):.1f} %"
    if size == "0.0 %":
        return "as much as"
    return f"{size} {'less' if change > 0 else 'more'} than"


def format_group(key: str) -> str:
    """Return a group's key columns: ``B6 · JFK · FLL``."""
    return " · ".join("(none)" if part is None else part for part in keys.decode(key))


def format_day(text: str) -> str:
    """Return an ISO date or time as ``12 Feb``."""
    when = datetime.fromisoformat(text)
    return f"{when.day} {when:%b}"
