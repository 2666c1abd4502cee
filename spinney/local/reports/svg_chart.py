"""Charts of the HTML reports: drawn by matplotlib, written as inline SVG that takes colours and font from the page.

An inline SVG refers to nothing outside itself. Its colours are the variables of `report.css`, so that one file suits
light and dark backgrounds. Its texts stay texts, not outlines, so that they can be selected and scaled.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spinney.core.reporting.palette import CSS_VARIABLES, FAINT, GRID, MUTED, PINK

PIXELS_PER_INCH = 72
"""With this resolution a point of the SVG's view box is a pixel if the report is shown at its greatest width."""

FONT_PX, LABEL_PX = 12.5, 13.5
LABEL_GAP_PX = 17.0
"""Least distance between the labels of two lines, from baseline to baseline, in pixels."""

_COLOUR = re.compile(r"#[0-9a-f]{6}")
_FONT_FAMILY = re.compile(r"font-family: [^;]*(; )?")
_REFERENCE = "xlink:href"


class Chart:
    """One set of axes, of a size in pixels, with tooltips.

    left, right, top, bottom: margins around the axes, in pixels. The y-axis has grid lines, the x-axis has none.
    """

    def __init__(
        self, width: int, height: int, *, left: int = 46, right: int = 16, top: int = 34, bottom: int = 30
    ) -> None:  # fmt: skip
        self._left_px, self._height_px = left, height - top - bottom
        self.figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH)
        self.axes = self.figure.add_axes(
            (left / width, bottom / height, (width - left - right) / width, self._height_px / height),
            facecolor="none",
        )
        self.figure.patch.set_visible(False)
        self._tooltips: dict[str, str | Sequence[str]] = {}
        for side in ("top", "right", "left"):
            self.axes.spines[side].set_visible(False)
        self.axes.spines["bottom"].set_color(GRID)
        self.axes.set_axisbelow(True)
        self.axes.grid(visible=True, axis="y", color=GRID, linewidth=1)
        self.axes.tick_params(length=0, colors=MUTED, labelsize=FONT_PX, pad=7)
        self.axes.tick_params(axis="x", pad=10)  # away from the label of 0 on the y-axis
        self.axes.yaxis.set_major_locator(MaxNLocator(5))
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_tick(value)))
        self.axes.margins(x=0)

    def hide_axes(self) -> None:
        """Leave nothing but the marks: no lines, ticks or labels."""
        self.axes.set_axis_off()

    def set_y_title(self, text: str) -> None:
        """Write what the y-axis measures above it, horizontally."""
        self.axes.annotate(
            text, (0, 1), (-self._left_px, 20), xycoords="axes fraction", textcoords="offset points", va="center",
            fontsize=FONT_PX, color=MUTED, annotation_clip=False,
        )  # fmt: skip

    def add_tooltip(self, artist: Artist, text: str | Sequence[str]) -> None:
        """Show a text when the pointer rests on a mark.

        text: for a scatter, one text for each of its dots, in order.
        """
        name = f"tooltip-{len(self._tooltips)}"
        artist.set_gid(name)
        self._tooltips[name] = text

    def label_line_ends(self, ends: Mapping[str, tuple[float, str]]) -> None:
        """Write each line's name after its end, shifted so that no two names touch. ends: name -> (last y, colour)."""
        low, high = self.axes.get_ylim()
        places = spread_out([y for y, _ in ends.values()], LABEL_GAP_PX * (high - low) / self._height_px)
        for (name, (_, colour)), place in zip(ends.items(), places, strict=True):
            self.axes.annotate(
                name, (1, place), (10, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                va="center_baseline", fontsize=LABEL_PX, fontweight="bold", color=colour, annotation_clip=False,
            )  # fmt: skip

    def mark_moment(self, x: float, text: str) -> None:
        """Draw a vertical line over the whole height, with a text beside its top."""
        self.axes.axvline(x, 0, 1.04, color=PINK, linewidth=1.5, clip_on=False, zorder=2)
        self.axes.annotate(
            text, (x, 1), (6, 6), xycoords=("data", "axes fraction"), textcoords="offset points", va="center",
            fontsize=FONT_PX, fontweight="bold", color=PINK, annotation_clip=False,
        )  # fmt: skip

    def mark_level(self, y: float, text: str) -> None:
        """Draw a dashed horizontal line with a text above its right end."""
        self.axes.axhline(y, color=FAINT, linewidth=1, linestyle=(0, (3, 4)), zorder=2)
        self.axes.annotate(
            text, (1, y), (-4, 8), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
            va="center", fontsize=FONT_PX, color=MUTED, annotation_clip=False,
        )  # fmt: skip

    def svg(self, label: str) -> str:
        """Return the chart as an SVG element. label: what it shows, for screen readers."""
        return inline_svg(self.figure, label, self._tooltips)


def inline_svg(figure: Figure, label: str, tooltips: Mapping[str, str | Sequence[str]] | None = None) -> str:
    """Return a figure as an SVG element for an HTML page that uses `report.css`.

    label: its `aria-label`. tooltips: by the gid of a matplotlib artist; for a scatter a sequence with one text per
    dot. The marks are not clipped to their axes. The same figure and label give the same text.
    """
    out = io.StringIO()
    salted = {"svg.fonttype": "none", "svg.hashsalt": label}  # ids that differ between the charts of one page
    with mpl.rc_context(salted):
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ET.fromstring(out.getvalue())  # noqa: S314 - written by matplotlib a line above
    for parent in root.iter():
        parent.tag = parent.tag.rpartition("}")[2]
        parent.attrib = {name.replace(_XLINK, "xlink:"): value for name, value in parent.attrib.items()}
    _remove_page_parts(root)
    _add_tooltips(root, tooltips or {})
    referenced = {element.get(_REFERENCE, "")[1:] for element in root.iter()}
    for element in root.iter():
        element.text = element.text.strip() if element.text and element.tag not in ("text", "title") else element.text
        element.tail = None
        element.attrib = {
            name: _for_page(name, value)
            for name, value in element.attrib.items()
            if name != "clip-path" and (name != "id" or value in referenced)
        }
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


_XLINK = "{http://www.w3.org/1999/xlink}"


def _remove_page_parts(root: ET.Element) -> None:
    """Remove metadata, style sheets and clip paths: the page has its own style, and `url()` may cause a download."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style", "clipPath") or (child.tag == "defs" and not len(child)):
                parent.remove(child)


def _add_tooltips(root: ET.Element, tooltips: Mapping[str, str | Sequence[str]]) -> None:
    for group in list(root.iter("g")):
        texts = tooltips.get(group.get("id", ""))
        if isinstance(texts, str):
            _insert_title(group, texts)
        elif texts is not None:
            for mark, text in zip(list(group.iter("use")), texts, strict=True):
                _insert_title(mark, text)


def _insert_title(element: ET.Element, text: str) -> None:
    title = ET.Element("title")
    title.text = text
    element.insert(0, title)


def _for_page(name: str, value: str) -> str:
    """Return an attribute's value with the page's colours and font, and coordinates rounded to a
    hundredth of a pixel.
    """
    if name == "style":
        value = _FONT_FAMILY.sub("", value).replace("font-weight: 700", "font-weight: 600")
        return _COLOUR.sub(lambda found: _variable(found.group()), value)
    if name in ("d", "x", "y", "transform"):
        value = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found.group()):.2f}", value)
        return " ".join(value.split())
    return value


def _variable(colour: str) -> str:
    name = CSS_VARIABLES.get(colour)
    return f"var(--{name})" if name else colour


def format_tick(value: float) -> str:
    """Return an axis tick's number as text; whole numbers have a comma for thousands."""
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-9 else f"{value:g}"


def spread_out(values: Sequence[float], gap: float) -> list[float]:
    """Return the values, in the same order, shifted so that no two are nearer than `gap`. Their mean stays the same."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    moved: list[Any] = list(values)
    for before, at in pairwise(order):
        moved[at] = max(moved[at], moved[before] + gap)
    drift = sum(moved) / len(moved) - sum(values) / len(values) if values else 0.0
    return [value - drift for value in moved]
