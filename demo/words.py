"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from spinney.core import durations, keys

NAMES = {"fleet": "this fleet", "daily": "refitted daily", "weekly": "refitted weekly", "never": "never refitted"}
"""The four fleets that are compared."""

REASONS = {
    "new_group": "new group",
    "max_age": "age",
    "new_rows": "new rows",
    "error_rise": "error rose",
    "asked": "asked for",
    "all": "all",
}
STATES = {
    "fresh": "fresh",
    "stale": "stale, waiting for a round",
    "refused": "stale, challenger refused",
    "held": "held by a person",
    "failed": "the last fit failed",
    "parent": "too few rows: a parent answers",
    "none": "nobody answers yet",
}
NOTHING = "-"


def count(value: float | None) -> str:
    """A whole number: ``22,002``."""
    return NOTHING if value is None else f"{round(value):,}"


def number(value: float | None) -> str:
    """Three figures: ``8.25``, ``0.0712``, ``1,204``."""
    if value is None:
        return NOTHING
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """A length of time: ``0.31 s``, ``4.2 s``, ``2 min 08 s``."""
    return NOTHING if value is None else durations.format_seconds(value)


def hours(value: float | None) -> str:
    """Hours of event time: ``18 h``, ``119 h (5.0 days)``; None: not within the demo."""
    if value is None:
        return "not within the demo"
    return f"{value:.0f} h" if value < 48 else f"{value:.0f} h ({value / 24:.1f} days)"


def share(part: float, whole: float) -> str:
    """A part of a whole in percent."""
    return NOTHING if not whole else f"{100 * part / whole:.0f} %"


def less(own: float | None, other: float | None) -> str:
    """How much smaller `own` is: ``10 % less than``, ``3.0 % more than``, ``as much as``; one decimal below 10 %."""
    if own is None or not other:
        return "not compared with"
    change = 100 * (1 - own / other)
    size = f"{abs(change):.0f} %" if abs(change) >= 9.5 else f"{abs(change):.1f} %"
    if size == "0.0 %":
        return "as much as"
    return f"{size} {'less' if change > 0 else 'more'} than"


def group(key: str) -> str:
    """A group's key columns: ``B6 · JFK · FLL``."""
    return " · ".join("(none)" if part is None else part for part in keys.decode(key))


def day(text: str) -> str:
    """An ISO date or time as ``12 Feb``."""
    when = datetime.fromisoformat(text)
    return f"{when.day} {when:%b}"


def headline(measures: Mapping[str, Any]) -> str:
    """The result in a sentence, whichever way it came out. What was injected has no part in it."""
    worth = measures["worth"]
    if worth is None or worth["mean_loss_without_injected"]["fleet"] is None:
        rows = count(measures["predictions"]["rows"])
        return f"{rows} events answered, {count(measures['retrained']['fits'])} groups retrained on the way."
    loss = worth["mean_loss_without_injected"]
    return f"Retrained as it went stale, the fleet erred {less(loss['fleet'], loss['weekly'])} one refitted weekly."


def subline(measures: Mapping[str, Any]) -> str:
    """What was done for it, in two sentences."""
    span, worth = measures["span"], measures["worth"]
    text = (
        f"{count(measures['predictions']['rows'])} events of {count(measures['groups']['total'])} groups went through "
        f"Kafka, {span['days']} days of them in {seconds(span['wall_seconds'])}."
    )
    if worth is None or worth["mean_loss_without_injected"]["fleet"] is None:
        return text
    loss, fits = worth["mean_loss_without_injected"], worth["fits"]
    unit = f" {worth['unit']}" if worth["unit"] else ""
    fleet, fitted = measures["fleet"], count(measures["retrained"]["fits"])
    others = ", ".join(
        [
            f"refitted daily {number(loss['daily'])} with {count(fits['daily'])}",
            f"weekly {number(loss['weekly'])} with {count(fits['weekly'])}",
            f"never {number(loss['never'])}",
        ]
    )
    own = f"{number(loss['fleet'])}{unit} with {fitted} fits"
    return f"{text} Mean {fleet['loss']} error of {fleet['target']}: {own}; {others}."
