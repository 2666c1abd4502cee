"""The colours of charts and reports on a light background.

`spinney/local/reports/report.css` has the same colours as variables, and their counterparts for a dark background.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

BACKGROUND, CARD = "#fbfaf7", "#ffffff"
TEXT, MUTED, FAINT, GRID, TRACK = "#1d2420", "#5c665f", "#8b948e", "#e4e4dc", "#eceae3"
GREEN, BLUE, ORANGE, GREY, PINK = "#0b6e4f", "#2b6cb0", "#c05621", "#7d8590", "#9b2c5e"
LIGHT_GREEN, PURPLE, RED = "#6aa84f", "#8b6fb3", "#b3261e"
BASELINE, HIGHLIGHT = "#9aa39d", "#eef3ec"

CSS_VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        BACKGROUND: "background",
        CARD: "card",
        TEXT: "text",
        MUTED: "muted",
        FAINT: "faint",
        GRID: "grid",
        TRACK: "track",
        GREEN: "green",
        BLUE: "blue",
        ORANGE: "orange",
        GREY: "grey",
        PINK: "pink",
        LIGHT_GREEN: "light-green",
        PURPLE: "purple",
        RED: "red",
        BASELINE: "baseline",
        HIGHLIGHT: "highlight",
    }
)
"""Colour -> name of its variable in `report.css`, without the dashes."""
