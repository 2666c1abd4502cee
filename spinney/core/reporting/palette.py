"""The colours of everything that is drawn: ink on paper, and one green for what is looked at."""

from __future__ import annotations

PAPER, INK, SOFT, RULE = "#fbfaf7", "#1d2420", "#5c665f", "#e4e4dc"
GREY, GREEN, SHADE = "#9aa39d", "#0b6e4f", "#eef3ec"
