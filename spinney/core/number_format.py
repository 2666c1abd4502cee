"""Numbers as people read them: alike in every list and sentence."""

from __future__ import annotations

import math


def figure(value: float) -> str:
    """Four digits that count, without an exponent between a hundred-thousandth and 10^15; whole numbers as they are."""
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    if value and not 1e-5 <= abs(value) < 1e15:
        return f"{value:.3e}"
    if abs(value) >= 1_000:
        return f"{value:.0f}"
    digits = 3 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
