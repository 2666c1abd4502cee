"""The frontier of a backtest: each candidate's loss against its number of fits."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl

from spinney.core.backtest.comparison import Comparison, Score
from spinney.core.errors import SetupError
from spinney.core.reporting.loss_labels import loss_label
from spinney.core.reporting.palette import BACKGROUND, BASELINE, GREEN, MUTED
from spinney.local.chart import LABEL_PX, Chart, format_tick

WIDTH, HEIGHT = 760, 420
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
    chart = Chart(WIDTH, HEIGHT, left=64, right=150, bottom=52)
    reference = scores[0].loss
    for n, score in enumerate(scores):
        colour = BASELINE if n else GREEN
        low, high = (bound * reference for bound in (score.ratio.low, score.ratio.high))
        chart.axes.plot([score.fits] * 2, [low, high], color=colour, linewidth=1.5, zorder=2)
        chart.axes.plot(score.fits, score.loss, "o", color=colour, markersize=7, zorder=3)
        chart.axes.annotate(
            score.name, (score.fits, score.loss), (8, 0), textcoords="offset points", va="center_baseline",
            fontsize=LABEL_PX, color=colour if not n else MUTED, annotation_clip=False,
        )  # fmt: skip
    chart.axes.margins(x=MARGIN, y=MARGIN)
    chart.axes.set_xlabel("models fitted", color=MUTED, fontsize=LABEL_PX)
    chart.axes.xaxis.set_major_formatter(lambda value, _: format_tick(value))
    chart.set_y_title(loss_label(loss))
    return chart
