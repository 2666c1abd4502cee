"""A trial drawn: predicted against actual, and the residuals over time; what was held out told apart from what was not.

One drawing for the PNG and the page. Nothing is left out of it or cut: each axis holds every row.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinney.core import keys
from spinney.core.reporting.palette import GREEN, GREY, INK, PAPER, RULE, SHADE, SOFT
from spinney.core.reporting.units import loss_unit, loss_words, plain
from spinney.local.trial.fit import Trial

TRAIN, HELD = GREY, GREEN
FONTS = ("Inter", "Source Sans 3", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")
DPI = 150

STYLE: dict[str, Any] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "font.size": 10.5,
    "axes.unicode_minus": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "spinney",  # the same drawing is the same bytes
}


def png(trial: Trial) -> bytes:
    """The drawing as a PNG of 1980 × 990 pixels."""
    return _saved(lambda: _with_head(trial), format="png", dpi=DPI, metadata={"Software": None})


def svg(trial: Trial) -> str:
    """The drawing without its head as an SVG element, its letters as paths, so that it looks the same everywhere."""
    text = _saved(lambda: _without_head(trial), format="svg", metadata={"Date": None}).decode()
    return text[text.index("<svg") :]


def title(trial: Trial) -> str:
    """The group, as a person reads it; a single column by its name, since most are numbers."""
    parts = ["–" if part is None else part for part in keys.decode(trial.group_key)]
    return " · ".join(parts) if len(parts) > 1 else f"{trial.group[0].replace('_', ' ')} {parts[0]}"


def amount(value: float | None, unit: str = "") -> str:
    """A number as people write it: three digits that matter."""
    if value is None:
        return "–"
    if value == 0:
        return f"0 {unit}".strip()
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.095 else 3
    return f"{value:,.{digits}f}".replace("-", "−") + (f" {unit}" if unit else "")


def _saved(draw: Callable[[], Figure], **how: Any) -> bytes:
    out = io.BytesIO()
    known = {font.name for font in font_manager.fontManager.ttflist}
    family = [*[name for name in FONTS if name in known][:1], "DejaVu Sans"]  # the second has what the first lacks
    with mpl.rc_context({**STYLE, "font.family": family}):
        draw().savefig(out, **how)
    return out.getvalue()


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


def headline(trial: Trial) -> str:
    """The model's losses in one sentence, the held-out one first."""
    recipe, losses = trial.recipe, trial.losses
    unit = loss_unit(recipe.loss, recipe.target.name)
    what = f"{loss_words(recipe.loss).capitalize()}{f' in {unit}' if unit else ''}"
    fitted = f"{amount(losses.train)} on the {trial.rows - trial.heldout_rows:,} rows it was fitted on"
    if not trial.heldout_rows:
        return f"{what}: {fitted}; too few to hold any out."
    held = f"{amount(losses.heldout)} on the newest {trial.heldout_rows:,}, held out"
    return f"{what}: {held}; {fitted}."


def beaten(trial: Trial) -> str:
    """What `Losses.constant` stands for, and whether the model is any better."""
    losses = trial.losses
    if losses.heldout is None or losses.constant is None:
        return ""
    answer = {"absolute": "median", "squared": "mean"}.get(trial.recipe.loss, "classes' shares")
    verdict = "The model is better" if losses.heldout < losses.constant else "The model is no better"
    return f"{verdict} than the {answer} of the older rows alone: {amount(losses.constant)} held out."


def _head(figure: Figure, trial: Trial) -> None:
    name, unit = plain(trial.recipe.target.name)
    what = f"{name}{f' in {unit}' if unit else ''}, by {trial.recipe.estimator}"
    figure.text(0.018, 0.94, title(trial), fontsize=19, fontweight="bold", va="center")
    figure.text(0.018, 0.885, what, fontsize=12, color=SOFT, va="center")
    figure.text(0.018, 0.843, headline(trial), fontsize=12, color=INK, va="center")
    figure.text(0.018, 0.802, beaten(trial), fontsize=12, color=INK, va="center")


def _parts(trial: Trial) -> list[tuple[pd.DataFrame, str, str]]:
    """The rows fitted on and the rows held out, each with its colour and name; the held-out ones are drawn on top."""
    points = trial.points
    parts = [(points[~points["heldout"]], TRAIN, "fitted on"), (points[points["heldout"]], HELD, "held out")]
    return [part for part in parts if len(part[0])]


def _dots(axes: Axes, x: Any, y: Any, colour: str, rows: int) -> None:
    """Smaller and paler the more there are, so that density shows."""
    size, alpha = (34, 0.75) if rows <= 150 else (20, 0.6) if rows <= 600 else (11, 0.42)
    axes.scatter(x, y, s=size, color=colour, alpha=alpha, linewidths=0, zorder=3 if colour == HELD else 2)


def _caption(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11.5, color=INK, pad=12, fontweight="bold")


def _legend(axes: Axes, trial: Trial) -> None:
    """Names in the colours of their dots: what is drawn how, and how many there are."""
    for at, (rows, colour, name) in enumerate(reversed(_parts(trial))):
        axes.text(
            0.025, 0.972 - 0.055 * at, f"●  {name}, {len(rows):,} rows", color=colour if colour == HELD else SOFT,
            transform=axes.transAxes, va="top", fontsize=10.5, fontweight="bold", zorder=5,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
        )  # fmt: skip


def _against(axes: Axes, trial: Trial) -> None:
    unit = plain(trial.recipe.target.name)[1]
    low, high = _range(np.concatenate([trial.points["actual"].to_numpy(), trial.points["predicted"].to_numpy()]))
    axes.plot([low, high], [low, high], color=INK, linewidth=1, zorder=1)
    for rows, colour, _ in _parts(trial):
        _dots(axes, rows["actual"], rows["predicted"], colour, trial.rows)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", adjustable="box", anchor="W")
    axes.locator_params(nbins=6)
    axes.set_xlabel(f"actual{f', {unit}' if unit else ''}")
    axes.set_ylabel(f"predicted{f', {unit}' if unit else ''}")
    _caption(axes, "Predicted against actual")
    _legend(axes, trial)


def _residuals(axes: Axes, trial: Trial) -> None:
    unit = plain(trial.recipe.target.name)[1]
    points = trial.points.assign(residual=lambda frame: frame["actual"] - frame["predicted"])
    widest = float(points["residual"].abs().max()) * 1.12 or 1.0
    said = ""
    axes.axhline(0, color=INK, linewidth=1, zorder=1)
    for rows, colour, _ in _parts(trial):
        mine = points.loc[rows.index]
        _dots(axes, _days(mine["event_time"]), mine["residual"], colour, trial.rows)
    axes.set_ylim(-widest, 1.25 * widest)  # room for what is said of the held-out rows
    if trial.heldout_rows:
        held = points[points["heldout"]]
        mean, times = float(held["residual"].mean()), held["event_time"]
        axes.plot(_days([times.iloc[0], times.iloc[-1]]), [mean, mean], color=HELD, linewidth=2, zorder=4)
        said = f"held out\nmean {'+' if mean > 0 else ''}{amount(mean)}"
    _held_out_time(axes, trial, said)
    _caption(axes, f"Residuals over time: actual less predicted{f', {unit}' if unit else ''}")
    _dates(axes)


def _by_class(axes: Axes, trial: Trial) -> None:
    """The probability that each row's true class was given, by class; every row a dot, beside its neighbours."""
    names = sorted(set(trial.points["actual"]))
    for at, name in enumerate(names):
        for rows, colour, _ in _parts(trial):
            mine = rows[rows["actual"] == name]
            beside = 0.18 if colour == HELD else -0.18
            # Spread by a fixed sequence, not by chance: the same trial is the same picture.
            spread = ((np.arange(len(mine)) * 0.618034) % 1 - 0.5) * 0.26
            _dots(axes, at + beside + spread, mine["probability"], colour, trial.rows)
            if len(mine):
                middle = float(mine["probability"].median())
                axes.plot([at + beside - 0.15, at + beside + 0.15], [middle, middle], color=INK, linewidth=2, zorder=4)
    axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(-0.04, 1.24))
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(f"{plain(trial.recipe.target.name)[0]}, as it came; the bar is the median")
    _caption(axes, "Probability given to what came")
    _legend(axes, trial)


def _over_time(axes: Axes, trial: Trial) -> None:
    mean = float((1 - trial.points.loc[trial.points["heldout"], "probability"]).mean())
    _held_out_time(axes, trial, f"held out\nmean {amount(mean)}")
    for rows, colour, _ in _parts(trial):
        _dots(axes, _days(rows["event_time"]), 1 - rows["probability"], colour, trial.rows)
    axes.set_ylim(-0.04, 1.24)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    _caption(axes, "Residuals over time: 1 less the probability given to what came")
    _dates(axes)


def _held_out_time(axes: Axes, trial: Trial, said: str) -> None:
    """Shade what the model had not seen, and say so there."""
    at = _days(trial.points["event_time"])
    margin = (at[-1] - at[0]) * 0.02 or 1 / 24
    axes.set_xlim(at[0] - margin, at[-1] + margin)
    if not trial.heldout_rows:
        return
    first = trial.rows - trial.heldout_rows
    begins = (at[first - 1] + at[first]) / 2
    axes.axvspan(begins, at[-1] + margin, color=SHADE, zorder=0, linewidth=0)
    axes.axvline(begins, color=HELD, linewidth=1, zorder=1, linestyle=(0, (3, 3)))
    axes.text(
        0.992, 0.975, said, transform=axes.transAxes, ha="right", va="top", color=HELD, fontsize=10.5,
        fontweight="bold", linespacing=1.5, zorder=5,
        bbox={"facecolor": SHADE, "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
    )  # fmt: skip


def _dates(axes: Axes) -> None:
    """Days where the rows span days, hours or years where they span those. UTC."""
    low, high = axes.get_xlim()
    form = "%d %b %Y" if high - low > 300 else "%d %b" if high - low > 4 else "%d %b, %H:%M"
    locator = mdates.AutoDateLocator(minticks=3, maxticks=8 if high - low > 4 else 5)
    locator.intervald[mdates.HOURLY] = [1, 2, 3, 4, 6, 12, 24]  # it ends with 12: a warning for three days
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.DateFormatter(form))
    axes.grid(visible=False, axis="x")


def _days(times: Any) -> Any:
    """Times as matplotlib counts them."""
    return mdates.date2num(list(times))


def _range(values: Any) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    return low - margin, high + margin
