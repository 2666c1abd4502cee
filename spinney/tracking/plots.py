"""The charts of a round as PNG files: losses, fit times and outcomes. Every round has all three."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from schemas.vocabulary import Decision, ModelStatus
from spinney.core.features.encoding import Floats
from spinney.core.reporting.loss_names import loss_label
from spinney.core.reporting.palette import BACKGROUND, BASELINE, GREEN, GRID, MUTED, TEXT

MOST_BINS = 40
LOG_SCALE_RATIO = 50
"""Values are drawn on a logarithmic axis if the largest is more than this many times the smallest."""

OUTCOMES = (
    *(
        decision.value
        for decision in (Decision.PROMOTED, Decision.UNPROVEN, Decision.REFUSED, Decision.HELD, Decision.KEPT)
    ),
    *(status.value for status in (ModelStatus.TOO_FEW_ROWS, ModelStatus.FAILED, ModelStatus.TIMED_OUT)),
)
"""The outcomes of a group in a round, from best to worst."""


def draw(groups: pa.Table, *, title: str, loss: str, target: str) -> dict[str, bytes]:
    """Return file name -> PNG. groups: from `attempts_of_round`. title: of the round. loss, target: the fleet's."""
    measure = f"{loss_label(loss)} of {target} on held-out rows"
    figures: Mapping[str, Callable[[Axes], None]] = {
        "losses.png": lambda axes: _losses(axes, groups, title, measure),
        "fit_times.png": lambda axes: _fit_times(axes, groups, title),
        "outcomes.png": lambda axes: _outcomes(axes, groups, title),
    }
    return {name: _png(plot) for name, plot in figures.items()}


def outcomes(groups: pa.Table) -> dict[str, int]:
    """Return outcome -> number of groups. The outcome is the decision, or the fit's status if there was none."""
    outcome = pc.coalesce(groups.column("decision"), groups.column("status"))
    counts = {row["values"]: row["counts"] for row in pc.value_counts(outcome).to_pylist()}
    known = {name: counts.pop(name, 0) for name in OUTCOMES}
    return {**known, **counts}


def _losses(axes: Axes, groups: pa.Table, title: str, measure: str) -> None:
    losses = {name: _floats(groups.column(f"{name}_loss")) for name in ("challenger", "champion")}
    is_compared = np.isfinite(losses["challenger"]) & np.isfinite(losses["champion"])
    if is_compared.any():
        challenger, champion = losses["challenger"][is_compared], losses["champion"][is_compared]
        better = int((challenger < champion).sum())
        text = f"Challenger against champion: better in {better:,} of {len(champion):,} groups compared."
    else:
        challenger, champion = losses["challenger"][np.isfinite(losses["challenger"])], np.empty(0)
        text = f"Challengers: {len(challenger):,}; none had a champion to be compared with."
    _add_head(axes, title, text)
    if not len(challenger):
        axes.set_axis_off()
        return
    bins = _bins(axes, np.concatenate([challenger, champion]))
    axes.hist(champion, bins, color=BASELINE, alpha=0.55, linewidth=0, zorder=2)
    axes.hist(challenger, bins, histtype="step", color=GREEN, linewidth=2, zorder=3)
    for at, (name, values, colour) in enumerate((("challenger", challenger, GREEN), ("champion", champion, MUTED))):
        if len(values):
            _add_note(axes, at, f"{name}, median {_format(float(np.median(values)))}", colour)
    _label_axes(axes, measure)


def _fit_times(axes: Axes, groups: pa.Table, title: str) -> None:
    times = _floats(groups.filter(pc.field("status") == ModelStatus.FITTED.value).column("fit_ms"))
    times = times[np.isfinite(times)]
    if not len(times):
        _add_head(axes, title, "No group was fitted.")
        axes.set_axis_off()
        return
    median, high = (float(np.quantile(times, share)) for share in (0.5, 0.99))
    text = f"Time of {len(times):,} fits: median {_format(median)} ms, 99 % take at most {_format(high)} ms"
    _add_head(axes, title, f"{text}; {_format(float(times.sum()) / 1000)} s in sum.")
    axes.hist(times, _bins(axes, times), color=GREEN, alpha=0.8, linewidth=0, zorder=2)
    lines = (("median", median, "-"), ("99 %", high, (0, (3, 3))))
    for name, value, dashes in lines[: 2 if high > median else 1]:
        axes.axvline(value, color=TEXT, linewidth=1, linestyle=dashes, zorder=3)
        axes.text(value, 1.02, name, transform=axes.get_xaxis_transform(), ha="center", color=TEXT, fontsize=10)
    _label_axes(axes, "time of one group's fit, ms")


def _outcomes(axes: Axes, groups: pa.Table, title: str) -> None:
    by_outcome = outcomes(groups)
    _add_head(axes, title, f"Outcomes of {groups.num_rows:,} groups.")
    names, counts = [name.replace("_", " ") for name in by_outcome], list(by_outcome.values())
    promoted = {name.replace("_", " ") for name in (Decision.PROMOTED.value, Decision.UNPROVEN.value)}
    axes.barh(names, counts, color=[GREEN if name in promoted else BASELINE for name in names], height=0.62, zorder=2)
    for at, count in enumerate(counts):
        share = f"  {count:,}" + (f"  ({count / groups.num_rows:.1%})" if count else "")
        axes.text(count, at, share, va="center", color=TEXT if count else MUTED, fontsize=10.5)
    axes.set_xlim(0, max([*counts, 1]) * 1.18)
    axes.invert_yaxis()
    _label_axes(axes, "groups", counted="")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(visible=False, axis="y")


def _png(plot: Callable[[Axes], None]) -> bytes:
    """Return a figure as PNG.

    Its style is set by calls, since matplotlib's settings are global and this runs in a thread.
    """
    figure = Figure(figsize=(9, 4.8), facecolor=BACKGROUND)
    axes = figure.add_axes((0.125, 0.14, 0.845, 0.66), facecolor=BACKGROUND)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    plot(axes)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130, metadata={"Software": None})
    return out.getvalue()


def _add_head(axes: Axes, title: str, text: str) -> None:
    figure: Any = axes.figure
    figure.text(0.035, 0.93, title, fontsize=15, fontweight="bold", color=TEXT, va="center")
    figure.text(0.035, 0.865, text, fontsize=11.5, color=TEXT, va="center")


def _label_axes(axes: Axes, x_label: str, counted: str = "groups") -> None:
    axes.tick_params(colors=MUTED, length=0, labelsize=10, which="both")
    axes.set_xlabel(x_label, color=MUTED, fontsize=10.5)
    axes.set_ylabel(counted, color=MUTED, fontsize=10.5)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="both", color=GRID, linewidth=0.8)
    axes.spines["bottom"].set(visible=True, color=GRID)
    if counted:
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _add_note(axes: Axes, at: int, text: str, colour: str) -> None:
    axes.text(
        0.985, 0.965 - 0.085 * at, text, transform=axes.transAxes, ha="right", va="top", color=colour, fontsize=10.5,
        fontweight="bold", zorder=5, bbox={"facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
    )  # fmt: skip


def _bins(axes: Axes, values: Floats) -> list[float]:
    """Return the edges of the bins, and set the axis: logarithmic if the values span several magnitudes."""
    low, high = float(values.min()), float(values.max())
    count = min(
        MOST_BINS, math.ceil(2 * len(values) ** (1 / 3))
    )  # few values in many bins would be single bars with gaps
    edges: list[float]
    if low > 0 and high / low > LOG_SCALE_RATIO:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _format(value)))
        edges = np.geomspace(low, high, count + 1).tolist()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8))
        margin = 0.0 if high > low else abs(low) * 0.05 or 1.0
        edges = np.linspace(low - margin, high + margin, count + 1).tolist()
    return edges


def _floats(column: pa.ChunkedArray) -> Floats:
    """Return a column as floats; null is NaN."""
    values: Floats = column.cast(pa.float64()).fill_null(float("nan")).to_numpy()
    return values


def _format(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
