"""A little SVG: elements, scales and axes. Colours and fonts are classes, so that the page's style sheet rules them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]


def tag(name: str, content: str = "", **attributes: object) -> str:
    """An element. A trailing underscore of an attribute is dropped, others become dashes."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{content}</{name}>" if content else f"<{name}{given}/>"


def text(x: float, y: float, words: str, *, anchor: str = "start", class_: str = "tick") -> str:
    return tag("text", html.escape(words), x=x, y=y, text_anchor=anchor, class_=class_)


def title(words: str) -> str:
    """What is shown when the pointer rests on the element that this stands in."""
    return tag("title", html.escape(words))


def path(points: Sequence[Point], class_: str) -> str:
    steps = " ".join(f"{'M' if at == 0 else 'L'}{x:.1f},{y:.1f}" for at, (x, y) in enumerate(points))
    return tag("path", d=steps, class_=class_) if points else ""


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Scale:
    """From data to pixels, linear."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        width = self.high - self.low or 1.0
        return self.start + (value - self.low) / width * (self.stop - self.start)


@dataclass(frozen=True)
class Canvas:
    """A drawing with margins. Sizes in pixels of its own view box."""

    width: int
    height: int
    left: int = 44
    right: int = 16
    top: int = 14
    bottom: int = 28

    def x(self, low: float, high: float) -> Scale:
        return Scale(low, high, self.left, self.width - self.right)

    def y(self, high: float, low: float = 0.0) -> Scale:
        return Scale(low, high, self.height - self.bottom, self.top)

    def drawing(self, parts: Sequence[str], label: str) -> str:
        """The whole figure. label: what it shows, for those who do not see it."""
        box = f"0 0 {self.width} {self.height}"
        return tag("svg", "".join(parts), viewBox=box, role="img", aria_label=label)

    def grid(self, scale: Scale, unit: str = "") -> list[str]:
        """Horizontal lines at round values, and their labels; the unit stands with the topmost."""
        marks = ticks(scale.low, scale.high)
        parts = []
        for value in marks:
            at = scale(value)
            parts.append(tag("line", x1=self.left, x2=self.width - self.right, y1=at, y2=at, class_="grid"))
            parts.append(text(self.left - 8, at + 4, label_of(value), anchor="end"))
        if unit:
            parts.append(text(0, self.top - 14, unit, class_="tick"))
        return parts


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values from low to high, about `count` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [at * step for at in range(first, math.floor(high / step + 1e-9) + 1)]


def label_of(value: float) -> str:
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-9 else f"{value:g}"


def apart(places: Sequence[float], gap: float) -> list[float]:
    """The same places, in the same order, moved so that none is nearer than `gap` to another."""
    order = sorted(range(len(places)), key=lambda at: places[at])
    moved = list(places)
    for before, at in pairwise(order):
        moved[at] = max(moved[at], moved[before] + gap)
    drift = sum(moved) / len(moved) - sum(places) / len(places) if places else 0.0
    return [place - drift for place in moved]
