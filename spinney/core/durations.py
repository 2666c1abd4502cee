"""Durations as written in a configuration: one whole number and one unit, ``"15m"``.

Only one unit is allowed, so that every duration has one obvious spelling.
"""

from __future__ import annotations

import re
from datetime import timedelta

UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
EXPECTED = 'a duration: a whole number and one of ms, s, m, h, d, such as "15m"'
LONGEST = timedelta(days=36_500)
"""A hundred years. Longer ones are mistakes, and `now - window` would leave the range of datetime."""

_FORM = re.compile(r"([0-9]{1,18})(ms|s|m|h|d)")
_LOOSE_FORM = re.compile(r"\s*([0-9]+)\s*([A-Za-z]+)\s*")
_UNIT_ALIASES = {
    **dict.fromkeys(("msec", "msecs", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}


_UNIT_NAMES = (
    ("day", timedelta(days=1)),
    ("hour", timedelta(hours=1)),
    ("minute", timedelta(minutes=1)),
    ("second", timedelta(seconds=1)),
)


def parse(text: str) -> timedelta:
    """Parse a duration. Raises ValueError if it is not a whole number and a unit, or more than a hundred years."""
    match = _FORM.fullmatch(text)
    if not match:
        msg = f"expected {EXPECTED}; got {text!r}"
        raise ValueError(msg)
    count = int(match[1])
    unit = UNITS[match[2]]
    if count > LONGEST // unit:
        msg = f"expected at most {LONGEST.days}d; got {text!r}"
        raise ValueError(msg)
    return count * unit


def render(length: timedelta) -> str:
    """Return the shortest text that `parse` accepts. Raises ValueError: negative, or finer than a millisecond."""
    for name in ("d", "h", "m", "s", "ms"):
        count, remainder = divmod(length, UNITS[name])
        if not remainder and (count or name == "s"):
            break
    if remainder or count < 0:
        msg = f"expected whole milliseconds, at least 0; got {length!r}"
        raise ValueError(msg)
    return f"{count}{name}"


def format_seconds(seconds: float) -> str:
    """Format seconds for people: ``0.31 s``, ``4.2 s``, ``2 min 08 s``, ``3 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    return f"{minutes} min {remainder:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_duration(length: timedelta) -> str:
    """Format a duration for a sentence, by its two largest units: ``2 days 3 hours``, ``1 minute``, ``no time``."""
    remaining = max(length, timedelta(0))
    if timedelta(0) < remaining < timedelta(seconds=1):
        return "less than a second"
    parts: list[str] = []
    for name, unit in _UNIT_NAMES:
        count, remaining = divmod(remaining, unit)
        if count or parts:
            parts.append(f"{count} {name}{'' if count == 1 else 's'}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts)) or "no time"


def suggest_spelling(text: str) -> str | None:
    """Return the spelling that `text` probably means (``"15 min"`` -> ``"15m"``), or None."""
    match = _LOOSE_FORM.fullmatch(text)
    if not match:
        return None
    word = match[2] if match[2] in UNITS else match[2].lower()
    if word in ("w", "week", "weeks"):
        return f"{7 * int(match[1])}d"
    unit = word if word in UNITS else _UNIT_ALIASES.get(word)
    return f"{int(match[1])}{unit}" if unit else None
