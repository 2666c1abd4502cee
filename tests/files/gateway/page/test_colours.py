"""The colours of the page have the contrast that WCAG 2.2 asks for (1.4.3, 1.4.11), light and dark."""

from __future__ import annotations

import re
from importlib import resources

import pytest

TEXT, GRAPHICS = 4.5, 3.0
PAIRS = [
    *((name, ground, TEXT) for name in ("text", "muted", "accent", "red") for ground in ("card", "background")),
    ("muted", "highlight", TEXT),
    ("background", "accent", TEXT),  # the button of a dialog
    *((name, "card", GRAPHICS) for name in ("accent", "band-edge", "orange", "red", "blue", "grey", "purple", "muted")),
]
"""Foreground, background, least contrast."""


def luminance(colour: str) -> float:
    """Relative luminance as https://www.w3.org/TR/WCAG22/#dfn-relative-luminance defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted(map(luminance, (first, second)))
    return (lighter + 0.05) / (darker + 0.05)


def page_style() -> str:
    return resources.files("spinney.gateway.page").joinpath("static/page.css").read_text(encoding="utf-8")


def colours_of(theme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", page_style(), re.DOTALL)
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light if theme == "light" else dark))


def test_the_contrast_is_that_of_well_known_pairs() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)  # the lightest grey for text on white
    assert contrast("#949494", "#ffffff") == pytest.approx(3.03, abs=0.005)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("front", "ground", "least"), PAIRS)
def test_texts_and_marks_stand_out(theme: str, front: str, ground: str, least: float) -> None:
    colours = colours_of(theme)
    assert contrast(colours[front], colours[ground]) >= least


@pytest.mark.parametrize("rule", [r"\.whisker", r"\.outer, \.inner", r"\.label-mark", r"\.reference", r"\.line"])
def test_the_lines_of_charts_have_one_of_these_colours(rule: str) -> None:
    (stroke,) = re.findall(rf"{rule} {{[^}}]*stroke: var\(--([a-z-]+)\)", page_style())
    assert stroke in {front for front, ground, _ in PAIRS if ground == "card"}
