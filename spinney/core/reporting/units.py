"""What a column's name says of its unit: ``air_time_min`` is an air time in minutes."""

from __future__ import annotations

UNITS = {
    "ms": "ms",
    "s": "s",
    "sec": "s",
    "min": "minutes",
    "h": "hours",
    "days": "days",
    "mm": "mm",
    "cm": "cm",
    "m": "m",
    "km": "km",
    "mi": "miles",
    "mm_s": "mm/s",
    "m_s": "m/s",
    "km_h": "km/h",
    "mph": "mph",
    "c": "°C",
    "f": "°F",
    "mbar": "mbar",
    "kg": "kg",
    "g": "g",
    "w": "W",
    "kw": "kW",
    "wh": "Wh",
    "kwh": "kWh",
    "v": "V",
    "a": "A",
    "hz": "Hz",
    "pct": "%",
    "percent": "%",
    "eur": "EUR",
    "usd": "USD",
    "gbp": "GBP",
}
"""How a name ends -> the unit. Only the end after an underscore is looked at."""


def plain(column: str) -> tuple[str, str]:
    """The name in words, and its unit; empty where the name does not say. ``("air time", "minutes")``."""
    words = column.split("_")
    for length in (2, 1):
        end = "_".join(words[-length:]).lower()
        if len(words) > length and end in UNITS:
            return " ".join(words[:-length]), UNITS[end]
    return " ".join(words), ""


def loss_words(loss: str) -> str:
    """What a fleet's loss is called in a sentence."""
    return {"absolute": "mean absolute error", "squared": "mean squared error", "log": "log loss"}[loss]


def loss_unit(loss: str, target: str) -> str:
    """The unit of that loss, where the target's name tells it."""
    unit = plain(target)[1]
    return {"absolute": unit, "squared": f"{unit}²" if unit else "", "log": ""}[loss]
