"""The chart of a trial: predicted against actual values, and the residuals over time; held-out rows are green.

The PNG and the page have the same chart. The axes are wide enough to show every row.
"""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinney.core import keys
from spinney.core.reporting.loss_names import loss_label
from spinney.core.reporting.palette import BACKGROUND, BASELINE, GREEN, GRID, HIGHLIGHT, MUTED, TEXT
from spinney.local.reports.svg_chart import inline_svg
from spinney.local.trial.fit import Trial

TRAIN, HELD = BASELINE, GREEN
FONTS = ("Inter", "Source Sans 3", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")
DPI = 150

STYLE: dict[str, Any] = {
    "figure.facecolor": BACKGROUND,
    "axes.facecolor": BACKGROUND,
    "savefig.facecolor": BACKGROUND,
    "text.color": TEXT,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "font.size": 10.5,
    "axes.unicode_minus": True,
}


def png(trial: Trial) -> bytes:
    """Return the chart with a head of text, as a PNG of 1980 × 990 pixels."""
    out = io.BytesIO()
    with mpl.rc_context(_style()):
        _with_head(trial).savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def svg(trial: Trial) -> str:
    """Return the chart without its head, as an SVG element for the page."""
    with mpl.rc_context(_style()):
        return inline_svg(
            _without_head(trial), f"{group_title(trial)}: predictions and residuals. {describe_losses(trial)}"
        )


def group_title(trial: Trial) -> str:
    """Return the group's key as a title.

    A single key column is shown with its name, since its value is often a bare number.
    """
    parts = ["–" if part is None else part for part in keys.decode(trial.group_key)]
    return " · ".join(parts) if len(parts) > 1 else f"{trial.group[0].replace('_', ' ')} {parts[0]}"


def format_number(value: float | None) -> str:
    """Return a number with about three significant digits."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.095 else 3
    return f"{value:,.{digits}f}".replace("-", "−")


def _style() -> dict[str, Any]:
    """The settings of matplotlib, with the first of FONTS that is installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    # DejaVu Sans has the characters that the other lacks.
    return {**STYLE, "font.family": [*[name for name in FONTS if name in installed][:1], "DejaVu Sans"]}


def _with_head(trial: Trial) -> Figure:
    figure = Figure(figsize=(13.2, 6.6))
    _panels(figure, trial, top=0.725, bottom=0.1)
    _head(figure, trial)
    return figure


def _without_head(trial: Trial) -> Figure:
    figure = Figure(figsize=(13.2, 5.1))
    _panels(figure, trial, top=0.93, bottom=0.13)
    return figure


def _panels(figure: Figure, trial: Trial, top: float, bottom: float) -> None:
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.72])
    figure.subplots_adjust(left=0.062, right=0.982, top=top, bottom=bottom, wspace=0.16)
    regression = trial.recipe.task == "regression"
    (_against if regression else _by_class)(left, trial)
    (_residuals if regression else _over_time)(right, trial)


def describe_losses(trial: Trial) -> str:
    """Return the model's losses as a sentence, the held-out one first."""
    losses = trial.losses
    name = loss_label(trial.recipe.loss)
    fitted = f"{format_number(losses.train)} on the {trial.rows - trial.heldout_rows:,} rows it was fitted on"
    if not trial.heldout_rows:
        return f"{name[0].upper()}{name[1:]}: {fitted}; too few to hold any out."
    held = f"{format_number(losses.heldout)} on the newest {trial.heldout_rows:,}, held out"
    return f"{name[0].upper()}{name[1:]}: {held}; {fitted}."


def compare_with_constant(trial: Trial) -> str:
    """Return whether the model is better than the best constant prediction; empty without held-out rows."""
    losses = trial.losses
    if losses.heldout is None or losses.constant is None:
        return ""
    answer = {"absolute": "median", "squared": "mean"}.get(trial.recipe.loss, "classes' shares")
    verdict = "The model is better" if losses.heldout < losses.constant else "The model is no better"
    return f"{verdict} than the {answer} of the older rows alone: {format_number(losses.constant)} held out."


def _head(figure: Figure, trial: Trial) -> None:
    target = f"{trial.recipe.target.name}, by {trial.recipe.estimator}"
    figure.text(0.018, 0.94, group_title(trial), fontsize=19, fontweight="bold", va="center")
    figure.text(0.018, 0.885, target, fontsize=12, color=MUTED, va="center")
    figure.text(0.018, 0.843, describe_losses(trial), fontsize=12, color=TEXT, va="center")
    figure.text(0.018, 0.802, compare_with_constant(trial), fontsize=12, color=TEXT, va="center")


def _parts(trial: Trial) -> list[tuple[pd.DataFrame, str, str]]:
    """Return (rows, colour, name) of the rows fitted on and of the held-out rows, in drawing order."""
    points = trial.points
    parts = [(points[~points["heldout"]], TRAIN, "fitted on"), (points[points["heldout"]], HELD, "held out")]
    return [part for part in parts if len(part[0])]


def _dots(axes: Axes, x: Any, y: Any, colour: str, rows: int) -> None:
    """Draw dots that are smaller and paler the more rows there are, so that dense regions show."""
    size, alpha = (34, 0.75) if rows <= 150 else (20, 0.6) if rows <= 600 else (11, 0.42)
    axes.scatter(x, y, s=size, color=colour, alpha=alpha, linewidths=0, zorder=3 if colour == HELD else 2)


def _caption(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11.5, color=TEXT, pad=12, fontweight="bold")


def _legend(axes: Axes, trial: Trial) -> None:
    """Write the name and number of each kind of dot, in its colour."""
    for at, (rows, colour, name) in enumerate(reversed(_parts(trial))):
        axes.text(
            0.025, 0.972 - 0.055 * at, f"●  {name}, {len(rows):,} rows", color=colour if colour == HELD else MUTED,
            transform=axes.transAxes, va="top", fontsize=10.5, fontweight="bold", zorder=5,
            bbox={"facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
        )  # fmt: skip


def _against(axes: Axes, trial: Trial) -> None:
    low, high = _range(np.concatenate([trial.points["actual"].to_numpy(), trial.points["predicted"].to_numpy()]))
    axes.plot([low, high], [low, high], color=TEXT, linewidth=1, zorder=1)
    for rows, colour, _ in _parts(trial):
        _dots(axes, rows["actual"], rows["predicted"], colour, trial.rows)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", adjustable="box", anchor="W")
    axes.locator_params(nbins=6)
    axes.set_xlabel(f"actual {trial.recipe.target.name}")
    axes.set_ylabel(f"predicted {trial.recipe.target.name}")
    _caption(axes, "Predicted against actual")
    _legend(axes, trial)


def _residuals(axes: Axes, trial: Trial) -> None:
    points = trial.points.assign(residual=lambda frame: frame["actual"] - frame["predicted"])
    widest = float(points["residual"].abs().max()) * 1.12 or 1.0
    note = ""
    axes.axhline(0, color=TEXT, linewidth=1, zorder=1)
    for rows, colour, _ in _parts(trial):
        part = points.loc[rows.index]
        _dots(axes, _days(part["event_time"]), part["residual"], colour, trial.rows)
    axes.set_ylim(-widest, 1.25 * widest)  # room for the note on the held-out rows
    if trial.heldout_rows:
        held = points[points["heldout"]]
        mean, times = float(held["residual"].mean()), held["event_time"]
        axes.plot(_days([times.iloc[0], times.iloc[-1]]), [mean, mean], color=HELD, linewidth=2, zorder=4)
        note = f"held out: mean {'+' if mean > 0 else ''}{format_number(mean)}"
    _shade_held_out(axes, trial, note)
    _caption(axes, f"Residuals over time: actual minus predicted {trial.recipe.target.name}")
    _dates(axes)


def _by_class(axes: Axes, trial: Trial) -> None:
    """Draw the predicted probability of each row's actual class, by class; a dot for each row."""
    names = sorted(set(trial.points["actual"]))
    for at, name in enumerate(names):
        for rows, colour, _ in _parts(trial):
            part = rows[rows["actual"] == name]
            offset = 0.18 if colour == HELD else -0.18
            # A fixed sequence instead of random jitter: the same trial gives the same chart.
            spread = ((np.arange(len(part)) * 0.618034) % 1 - 0.5) * 0.26
            _dots(axes, at + offset + spread, part["probability"], colour, trial.rows)
            if len(part):
                median = float(part["probability"].median())
                axes.plot([at + offset - 0.15, at + offset + 0.15], [median, median], color=TEXT, linewidth=2, zorder=4)
    axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(-0.04, 1.24))
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(f"actual {trial.recipe.target.name}; the bar is the median")
    _caption(axes, "Probability of the actual class")
    _legend(axes, trial)


def _over_time(axes: Axes, trial: Trial) -> None:
    mean = float((1 - trial.points.loc[trial.points["heldout"], "probability"]).mean())
    _shade_held_out(axes, trial, f"held out: mean {format_number(mean)}")
    for rows, colour, _ in _parts(trial):
        _dots(axes, _days(rows["event_time"]), 1 - rows["probability"], colour, trial.rows)
    axes.set_ylim(-0.04, 1.24)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    _caption(axes, "Residuals over time: 1 minus the probability of the actual class")
    _dates(axes)


def _shade_held_out(axes: Axes, trial: Trial, note: str) -> None:
    """Shade the time of the held-out rows, with a note at the top."""
    at = _days(trial.points["event_time"])
    margin = (at[-1] - at[0]) * 0.02 or 1 / 24
    axes.set_xlim(at[0] - margin, at[-1] + margin)
    if not trial.heldout_rows:
        return
    first = trial.rows - trial.heldout_rows
    begins = (at[first - 1] + at[first]) / 2
    axes.axvspan(begins, at[-1] + margin, color=HIGHLIGHT, zorder=0, linewidth=0)
    axes.axvline(begins, color=HELD, linewidth=1, zorder=1, linestyle=(0, (3, 3)))
    axes.text(
        0.992, 0.975, note, transform=axes.transAxes, ha="right", va="top", color=HELD, fontsize=10.5,
        fontweight="bold", zorder=5,
        bbox={"facecolor": HIGHLIGHT, "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
    )  # fmt: skip


def _dates(axes: Axes) -> None:
    """Label the time axis with hours, days or years, whichever the rows span. UTC."""
    low, high = axes.get_xlim()
    form = "%d %b %Y" if high - low > 300 else "%d %b" if high - low > 4 else "%d %b, %H:%M"
    locator = mdates.AutoDateLocator(minticks=3, maxticks=8 if high - low > 4 else 5)
    locator.intervald[mdates.HOURLY] = [1, 2, 3, 4, 6, 12, 24]  # it ends with 12: a warning for three days
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.DateFormatter(form))
    axes.grid(visible=False, axis="x")


def _days(times: Any) -> Any:
    """Times as matplotlib's day numbers."""
    return mdates.date2num(list(times))


def _range(values: Any) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    return low - margin, high + margin
