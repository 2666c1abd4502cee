"""A chart of a backtest: each candidate's loss against its number of fits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import matplotlib as mpl
from matplotlib.ticker import LogLocator, NullLocator

from spinney.core.backtest.comparison import Comparison, Score
from spinney.core.errors import SetupError
from spinney.core.reporting.loss_names import loss_label
from spinney.core.reporting.palette import BACKGROUND, BASELINE, GREEN, MUTED
from spinney.local.reports.svg_chart import LABEL_GAP_PX, LABEL_PX, Chart, format_tick, spread_out

WIDTH, HEIGHT = 760, 420
LABEL_OFFSET_PX, CHARACTER_PX = 8.0, 7.6
"""Distance between a mark and its label, and the greatest width of a character of a label, in pixels."""

MARGIN = 0.12
"""Share of the range that the axes extend beyond the outermost marks."""


def write_frontier(comparison: Comparison, loss: str, file: Path) -> None:
    """Write the chart as an SVG file. loss: as in ``fleet.loss``. Raises SetupError: the file cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(frontier_svg(comparison, loss), encoding="utf-8")
    except OSError as error:
        got = error.strerror or str(error)
        raise SetupError(f"{file}: expected a file that can be written; got {got}. Name another with --plot") from error


def frontier_svg(comparison: Comparison, loss: str) -> str:
    """Return the chart as an SVG document. The first candidate is green; bars are the intervals of the ratios."""
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "frontier"}):
        chart = _draw(comparison.scores, loss)
        chart.figure.patch.set(visible=True, facecolor=BACKGROUND)
        metadata = dict.fromkeys(("Date", "Creator"))
        chart.figure.savefig(out, format="svg", metadata=metadata, facecolor=BACKGROUND)
    return out.getvalue()


def _draw(scores: tuple[Score, ...], loss: str) -> Chart:
    chart = Chart(WIDTH, HEIGHT, left=64, right=200, bottom=52)
    axes, reference = chart.axes, scores[0].loss
    colours = [GREEN, *[BASELINE] * (len(scores) - 1)]
    for score, colour in zip(scores, colours, strict=True):
        low, high = (bound * reference for bound in (score.ratio.low, score.ratio.high))
        axes.plot([score.fits] * 2, [low, high], color=colour, linewidth=1.5, zorder=2)
        axes.plot(score.fits, score.loss, "o", color=colour, markersize=7, zorder=3)
    axes.set_xscale("log")
    axes.margins(x=MARGIN, y=MARGIN)
    axes.autoscale_view()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: format_tick(value))
    axes.set_xlabel("models fitted", color=MUTED, fontsize=LABEL_PX)
    chart.set_y_title(loss_label(loss))
    marks = axes.transData.transform([(score.fits, score.loss) for score in scores])
    labels = place_labels([Mark(float(x), float(y), score.name) for (x, y), score in zip(marks, scores, strict=True)])
    for score, colour, (_, y), label_y in zip(scores, colours, marks, labels, strict=True):
        axes.annotate(
            score.name, (score.fits, score.loss), (LABEL_OFFSET_PX, label_y - y), textcoords="offset points",
            va="center_baseline", fontsize=LABEL_PX, color=MUTED if colour == BASELINE else colour,
            annotation_clip=False,
        )  # fmt: skip
    return chart


@dataclass(frozen=True)
class Mark:
    """A mark with a label to its right. x, y: in pixels."""

    x: float
    y: float
    label: str


def place_labels(marks: Sequence[Mark]) -> list[float]:
    """Return the height of each label in pixels: that of its mark, shifted if necessary so that
    no two labels overlap.
    """
    clusters = [[n] for n in range(len(marks))]
    heights = [mark.y for mark in marks]
    while (pair := _overlapping(clusters, marks, heights)) is not None:
        first, second = pair
        merged = sorted([*first, *second])
        clusters = [cluster for cluster in clusters if cluster not in (first, second)] + [merged]
        for n, height in zip(merged, spread_out([marks[n].y for n in merged], LABEL_GAP_PX), strict=True):
            heights[n] = height
    return heights


def _overlapping(
    clusters: Sequence[list[int]], marks: Sequence[Mark], heights: Sequence[float]
) -> tuple[list[int], list[int]] | None:
    """Return two clusters whose labels overlap; None if there are none."""
    for first, second in combinations(clusters, 2):
        for n, m in product(first, second):
            left, right = sorted((marks[n], marks[m]), key=lambda mark: mark.x)
            is_beside = left.x + LABEL_OFFSET_PX + CHARACTER_PX * len(left.label) > right.x
            if is_beside and abs(heights[n] - heights[m]) < LABEL_GAP_PX - 1e-6:
                return first, second
    return None
