"""A round drawn, each figure a PNG: losses, times of fits, decisions. As many figures whatever there is to draw."""

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
from spinney.core.reporting.palette import GREEN, GREY, INK, PAPER, RULE, SOFT
from spinney.core.reporting.units import loss_unit, loss_words

MOST_BINS = 40
WIDE = 50
"""A largest value so many times the smallest is drawn by its magnitude."""

OUTCOMES = (
    *(each.value for each in (Decision.PROMOTED, Decision.UNPROVEN, Decision.REFUSED, Decision.HELD, Decision.KEPT)),
    *(each.value for each in (ModelStatus.TOO_FEW_ROWS, ModelStatus.FAILED, ModelStatus.TIMED_OUT)),
)
"""What may become of a group in a round, from best to worst."""


def draw(groups: pa.Table, *, title: str, loss: str, target: str) -> dict[str, bytes]:
    """File name -> PNG. groups: as `attempts.of_round` makes it; title: of the round; loss, target: the fleet's."""
    unit = loss_unit(loss, target)
    measure = f"{loss_words(loss)} on held-out rows{f', {unit}' if unit else ''}"
    figures: Mapping[str, Callable[[Axes], None]] = {
        "losses.png": lambda axes: _losses(axes, groups, title, measure),
        "fit_times.png": lambda axes: _fit_times(axes, groups, title),
        "outcomes.png": lambda axes: _outcomes(axes, groups, title),
    }
    return {name: _png(plot) for name, plot in figures.items()}


def outcomes(groups: pa.Table) -> dict[str, int]:
    """Outcome -> groups: the decision, or without one why there was nothing to decide."""
    what = pc.coalesce(groups.column("decision"), groups.column("status"))
    counted = {each["values"]: each["counts"] for each in pc.value_counts(what).to_pylist()}
    known = {name: counted.pop(name, 0) for name in OUTCOMES}
    return {**known, **counted}


def _losses(axes: Axes, groups: pa.Table, title: str, measure: str) -> None:
    losses = {name: _floats(groups.column(f"{name}_loss")) for name in ("challenger", "champion")}
    both = np.isfinite(losses["challenger"]) & np.isfinite(losses["champion"])
    if both.any():
        challenger, champion = losses["challenger"][both], losses["champion"][both]
        better = int((challenger < champion).sum())
        said = f"Challenger against champion: better in {better:,} of {len(champion):,} groups compared."
    else:
        challenger, champion = losses["challenger"][np.isfinite(losses["challenger"])], np.empty(0)
        said = f"Challengers: {len(challenger):,}; none had a champion to be compared with."
    _head(axes, title, said)
    if not len(challenger):
        axes.set_axis_off()
        return
    bins = _bins(axes, np.concatenate([challenger, champion]))
    axes.hist(champion, bins, color=GREY, alpha=0.55, linewidth=0, zorder=2)
    axes.hist(challenger, bins, histtype="step", color=GREEN, linewidth=2, zorder=3)
    for at, (name, values, colour) in enumerate((("challenger", challenger, GREEN), ("champion", champion, SOFT))):
        if len(values):
            _note(axes, at, f"{name}, median {_amount(float(np.median(values)))}", colour)
    _axes(axes, measure)


def _fit_times(axes: Axes, groups: pa.Table, title: str) -> None:
    times = _floats(groups.filter(pc.field("status") == ModelStatus.FITTED.value).column("fit_ms"))
    times = times[np.isfinite(times)]
    if not len(times):
        _head(axes, title, "No group was fitted.")
        axes.set_axis_off()
        return
    middle, most = (float(np.quantile(times, share)) for share in (0.5, 0.99))
    said = f"Time of {len(times):,} fits: median {_amount(middle)} ms, 99 % take at most {_amount(most)} ms"
    _head(axes, title, f"{said}; {_amount(float(times.sum()) / 1000)} s in sum.")
    axes.hist(times, _bins(axes, times), color=GREEN, alpha=0.8, linewidth=0, zorder=2)
    lines = (("median", middle, "-"), ("99 %", most, (0, (3, 3))))
    for name, value, dashes in lines[: 2 if most > middle else 1]:
        axes.axvline(value, color=INK, linewidth=1, linestyle=dashes, zorder=3)
        axes.text(value, 1.02, name, transform=axes.get_xaxis_transform(), ha="center", color=INK, fontsize=10)
    _axes(axes, "time of one group's fit, ms")


def _outcomes(axes: Axes, groups: pa.Table, title: str) -> None:
    found = outcomes(groups)
    _head(axes, title, f"What became of {groups.num_rows:,} groups.")
    names, counts = [name.replace("_", " ") for name in found], list(found.values())
    good = {name.replace("_", " ") for name in (Decision.PROMOTED.value, Decision.UNPROVEN.value)}
    axes.barh(names, counts, color=[GREEN if name in good else GREY for name in names], height=0.62, zorder=2)
    for at, count in enumerate(counts):
        share = f"  {count:,}" + (f"  ({count / groups.num_rows:.1%})" if count else "")
        axes.text(count, at, share, va="center", color=INK if count else SOFT, fontsize=10.5)
    axes.set_xlim(0, max([*counts, 1]) * 1.18)
    axes.invert_yaxis()
    _axes(axes, "groups", counted="")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(visible=False, axis="y")


def _png(plot: Callable[[Axes], None]) -> bytes:
    """Styled by its own calls: matplotlib's settings are the whole process', and this is one thread of several."""
    figure = Figure(figsize=(9, 4.8), facecolor=PAPER)
    axes = figure.add_axes((0.125, 0.14, 0.845, 0.66), facecolor=PAPER)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    plot(axes)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130, metadata={"Software": None})
    return out.getvalue()


def _head(axes: Axes, title: str, said: str) -> None:
    figure: Any = axes.figure
    figure.text(0.035, 0.93, title, fontsize=15, fontweight="bold", color=INK, va="center")
    figure.text(0.035, 0.865, said, fontsize=11.5, color=INK, va="center")


def _axes(axes: Axes, what: str, counted: str = "groups") -> None:
    axes.tick_params(colors=SOFT, length=0, labelsize=10, which="both")
    axes.set_xlabel(what, color=SOFT, fontsize=10.5)
    axes.set_ylabel(counted, color=SOFT, fontsize=10.5)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="both", color=RULE, linewidth=0.8)
    axes.spines["bottom"].set(visible=True, color=RULE)
    if counted:
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _note(axes: Axes, at: int, text: str, colour: str) -> None:
    axes.text(
        0.985, 0.965 - 0.085 * at, text, transform=axes.transAxes, ha="right", va="top", color=colour, fontsize=10.5,
        fontweight="bold", zorder=5, bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
    )  # fmt: skip


def _bins(axes: Axes, values: Floats) -> list[float]:
    """Edges by size, or by magnitude where the values span several. The axis is made to suit."""
    low, high = float(values.min()), float(values.max())
    count = min(MOST_BINS, math.ceil(2 * len(values) ** (1 / 3)))  # few values in many bins are a comb
    edges: list[float]
    if low > 0 and high / low > WIDE:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _amount(value)))
        edges = np.geomspace(low, high, count + 1).tolist()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8))
        margin = 0.0 if high > low else abs(low) * 0.05 or 1.0
        edges = np.linspace(low - margin, high + margin, count + 1).tolist()
    return edges


def _floats(column: pa.ChunkedArray) -> Floats:
    """Null is NaN."""
    values: Floats = column.cast(pa.float64()).fill_null(float("nan")).to_numpy()
    return values


def _amount(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
