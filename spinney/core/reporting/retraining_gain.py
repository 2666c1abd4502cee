"""The gain from retraining, measured on the groups that a stream's rounds took at random.

A round draws `budget.random_share` of its budget from all due groups, whatever their rank, so these groups stand for
all that become stale. The newest fifth of a group's rows is held out from both models: the champion is measured on
those of them that are newer than its own training rows, the challenger on the same rows by a fit on the rows before
them. Each group thus gives a paired, prequential difference (A. P. Dawid, "Present position and potential developments:
some personal views. Statistical theory: the prequential approach", J. R. Statist. Soc. A 147, 1984).

Only groups count whose champion was fitted on none of the held-out rows, so a group with a fifth of new rows or more:
else the champion has newer data than the measured challenger, which then seems to lose by being refitted.

The model that goes live is fitted on the held-out rows too, so its gain tends to be larger. The gate's decision plays
no part: it is made from the same rows, so counting only promoted challengers would overstate the gain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.vocabulary import RoundQueue
from spinney.core.number_format import format_number
from spinney.core.planning.budget import queue_member

VERDICT_COLUMNS = ("group_key", "round_id", "numbers")
PROMOTION_COLUMNS = ("group_key", "round_id", "champion_loss", "challenger_loss", "rows_compared", "model_id")
MEASURE_COLUMNS = ("model_id", "rows_behind", "refitted")
"""Columns of `verdicts` and `promotions` that are read, and metrics of `models`."""

DRAWN = queue_member(RoundQueue.RANDOM.value)
"""Part of the numbers of a verdict whose group was taken at random."""

FEWEST_GROUPS = 10
"""Groups below which no interval is given: with fewer, Student's t assumes too much."""


@dataclass(frozen=True)
class RetrainingGain:
    """What refits of randomly drawn stale groups gained. The field names are those of `spinney fleet --summary --json`.

    groups, comparisons, rows: compared. champion_loss, challenger_loss: means over the groups, each by its rows.
    gain: champion_loss - challenger_loss, in the fleet's unit of loss; above 0 refitting helped. lower, upper: its 95 %
    interval over groups; None below FEWEST_GROUPS. percent and its interval: of champion_loss, which is taken as known;
    None where it is 0.
    """

    groups: int
    comparisons: int
    rows: int
    champion_loss: float
    challenger_loss: float
    gain: float
    lower: float | None
    upper: float | None
    percent: float | None
    percent_lower: float | None
    percent_upper: float | None

    def __str__(self) -> str:
        text = f"gain from retraining: {format_number(self.gain)} a row"
        text += "" if self.percent is None else f", {self.percent:.1f} % of the loss"
        if self.percent_lower is not None and self.percent_upper is not None:
            text += f" (95 % interval {self.percent_lower:.1f} to {self.percent_upper:.1f} %)"
        return f"{text}, on {self.rows:,} held-out rows of {self.groups:,} stale groups drawn at random"


def measure_gain(verdicts: pa.Table, promotions: pa.Table, measures: pa.Table) -> RetrainingGain | None:
    """Return the gain from retraining; None where no drawn group was compared fairly.

    verdicts: VERDICT_COLUMNS, those of other queues are ignored. promotions: PROMOTION_COLUMNS. measures:
    MEASURE_COLUMNS of the models that were decided about. A group counts once, by the mean over the rows of all its
    comparisons.
    """
    promotions = _fair_comparisons(promotions, measures)
    drawn = verdicts.filter(pc.fill_null(pc.match_substring(verdicts.column("numbers"), DRAWN), False))
    names = ["group_key", "round_id"]
    distinct = drawn.select(names).group_by(names).aggregate([])
    losses = pc.subtract(promotions.column("champion_loss"), promotions.column("challenger_loss"))
    is_compared = pc.and_(pc.is_finite(losses), pc.greater(promotions.column("rows_compared"), 0))
    compared = promotions.filter(pc.fill_null(is_compared, False)).join(distinct, names, join_type="inner")
    return _gain_of(compared) if compared.num_rows else None


def _fair_comparisons(promotions: pa.Table, measures: pa.Table) -> pa.Table:
    """The promotions in which the measured challenger had all the data of the champion, and the champion was measured.

    Otherwise the difference says nothing about refitting: the champion had newer data (`rows_behind`), or its recipe
    was measured in place of it (`refitted`).
    """
    is_behind = pc.greater(pc.fill_null(measures.column("rows_behind"), 0), 0)
    unfair = measures.column("model_id").filter(pc.or_(is_behind, pc.is_valid(measures.column("refitted"))))
    return promotions.filter(pc.invert(pc.is_in(promotions.column("model_id"), unfair.combine_chunks())))


def _gain_of(compared: pa.Table) -> RetrainingGain:
    group = np.asarray(compared.column("group_key").combine_chunks().dictionary_encode().indices)
    rows = np.asarray(compared.column("rows_compared"), dtype=np.float64)
    champion, challenger = (
        _means(group, rows, np.asarray(compared.column(name), dtype=np.float64))
        for name in ("champion_loss", "challenger_loss")
    )
    gains = champion - challenger
    gain, groups = float(gains.mean()), len(gains)
    ends: tuple[float | None, float | None] = (None, None)
    if groups >= FEWEST_GROUPS:
        half = _t_quantile(groups - 1) * float(gains.std(ddof=1)) / math.sqrt(groups)
        ends = (gain - half, gain + half)
    loss = float(champion.mean())
    percents = (None if value is None or not loss else 100.0 * value / loss for value in (gain, *ends))
    return RetrainingGain(
        groups=groups,
        comparisons=len(group),
        rows=int(rows.sum()),
        champion_loss=loss,
        challenger_loss=float(challenger.mean()),
        gain=gain,
        **dict(zip(("lower", "upper"), ends, strict=True)),
        **dict(zip(("percent", "percent_lower", "percent_upper"), percents, strict=True)),
    )


def _means(
    group: npt.NDArray[np.int64], rows: npt.NDArray[np.float64], losses: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The mean loss of each group, weighted by rows."""
    mean: npt.NDArray[np.float64] = np.bincount(group, rows * losses) / np.bincount(group, rows)
    return mean


def _t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, by its expansion in 1 / degrees.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5. Off by less than 0.001 from 9 degrees on.
    """
    x = 1.959963984540054
    terms = ((x**3 + x) / 4, (5 * x**5 + 16 * x**3 + 3 * x) / 96, (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384)
    return float(x + sum(term / degrees**power for power, term in enumerate(terms, 1)))
