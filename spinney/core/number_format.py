"""Numbers for people, formatted the same in every list and sentence."""

from __future__ import annotations

import math


def format_number(value: float) -> str:
    """Format a number with four significant digits, without an exponent from 1e-5 to 1e15; integers are unchanged."""
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    if value and not 1e-5 <= abs(value) < 1e15:
        return f"{value:.3e}"
    if abs(value) >= 1_000:
        return f"{value:.0f}"
    digits = 3 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
