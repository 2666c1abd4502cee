"""Durations as configuration writes them: one whole number and one unit, ``"15m"``.

One unit only, so that a length of time has one obvious spelling and a reader adds nothing up.
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
"""A hundred years: more is a slip, and `now - window` would leave the calendar."""

_FORM = re.compile(r"([0-9]{1,18})(ms|s|m|h|d)")
_LOOSE = re.compile(r"\s*([0-9]+)\s*([A-Za-z]+)\s*")
_MEANT = {
    **dict.fromkeys(("msec", "msecs", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}


_WORDS = (
    ("day", timedelta(days=1)),
    ("hour", timedelta(hours=1)),
    ("minute", timedelta(minutes=1)),
    ("second", timedelta(seconds=1)),
)


def parse(text: str) -> timedelta:
    """Return the length of time that `text` names.

    Raises ValueError: not a whole number and a unit, or more than a hundred years.
    """
    found = _FORM.fullmatch(text)
    if not found:
        msg = f"expected {EXPECTED}; got {text!r}"
        raise ValueError(msg)
    count = int(found[1])
    unit = UNITS[found[2]]
    if count > LONGEST // unit:
        msg = f"expected at most {LONGEST.days}d; got {text!r}"
        raise ValueError(msg)
    return count * unit


def render(length: timedelta) -> str:
    """Return the shortest text that `parse` reads back; whole milliseconds, not negative.

    Raises ValueError: negative, or finer than a millisecond.
    """
    for name in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(length, UNITS[name])
        if not rest and (count or name == "s"):
            break
    if rest or count < 0:
        msg = f"expected whole milliseconds, at least 0; got {length!r}"
        raise ValueError(msg)
    return f"{count}{name}"


def in_words(seconds: float) -> str:
    """A length of time for people: ``0.31 s``, ``4.2 s``, ``2 min 08 s``, ``3 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def as_words(length: timedelta) -> str:
    """A length of time in a sentence, its two largest units: ``2 days 3 hours``, ``1 minute``, ``no time``."""
    left = max(length, timedelta(0))
    if timedelta(0) < left < timedelta(seconds=1):
        return "less than a second"
    parts: list[str] = []
    for name, unit in _WORDS:
        count, left = divmod(left, unit)
        if count or parts:
            parts.append(f"{count} {name}{'' if count == 1 else 's'}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts)) or "no time"


def nearest(text: str) -> str | None:
    """Return the spelling that `text` probably means (``"15 min"`` -> ``"15m"``), or None."""
    found = _LOOSE.fullmatch(text)
    if not found:
        return None
    word = found[2] if found[2] in UNITS else found[2].lower()
    if word in ("w", "week", "weeks"):
        return f"{7 * int(found[1])}d"
    unit = word if word in UNITS else _MEANT.get(word)
    return f"{int(found[1])}{unit}" if unit else None
