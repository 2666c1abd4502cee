"""The gain from retraining, measured on the groups that a stream's rounds took at random.

A round draws `budget.random_share` of its budget from all due groups, whatever their rank, so these groups represent
all groups that become stale. If such a group got a new champion, a later attempt compares it with the model that it
replaced, on all rows newer than both (`spinney.core.training.comparisons.predecessor_comparison`). Each group thus
gives a paired difference of forecasts that were made before the rows came. Neither the fit nor the gate has seen these
rows, so nothing favours the new model.

Only the last comparison of a champion counts, since it has all the champion's rows. Groups without a new champion are
left out: they gain nothing and lose nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.vocabulary import RoundQueue
from spinney.core.champions.promotion import PROMOTING_DECISIONS
from spinney.core.number_format import format_number
from spinney.core.planning.budget import queue_member

VERDICT_COLUMNS = ("group_key", "round_id")
PROMOTION_COLUMNS = ("group_key", "round_id", "model_id", "decision")
CHAMPION_COLUMNS = ("group_key", "champion_id")
MEASURE_COLUMNS = ("group_key", "champion_id", "watched_rows", "watched_champion_loss", "predecessor_loss")
"""Columns that are read: from `verdicts` and `promotions` for new champions, and the metrics of `models` with their
group.
"""

DRAWN = queue_member(RoundQueue.RANDOM.value)
"""Part of the numbers of a verdict whose group was taken at random."""

COMPARED = '"watched_rows"'
"""Part of the metrics of an attempt that compared a champion with the model it replaced."""

FEWEST_GROUPS = 10
"""Groups below which no interval is given: with fewer, Student's t assumes too much."""


@dataclass(frozen=True)
class RetrainingGain:
    """The gain of refits of randomly drawn stale groups. The field names are those of `spinney fleet --summary --json`.

    groups, champions, rows: compared. predecessor_loss, champion_loss: of the replaced and of the new models, means
    over the groups, each by its rows. gain: predecessor_loss - champion_loss, in the fleet's unit of loss; above 0
    refitting helped. lower, upper: its 95 % interval over groups; None below FEWEST_GROUPS. percent and its interval:
    of predecessor_loss, which is taken as known; None where it is 0.
    """

    groups: int
    champions: int
    rows: int
    predecessor_loss: float
    champion_loss: float
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
        return f"{text}, on {self.rows:,} later rows of {self.groups:,} stale groups drawn at random"


def drawn_champions(drawn: pa.Table, promotions: pa.Table) -> pa.Table:
    """Return the new champions of groups that a random draw chose: columns group_key and champion_id.

    drawn: VERDICT_COLUMNS of the verdicts that have the key DRAWN in `numbers`. promotions: has PROMOTION_COLUMNS.
    """
    decisions = pa.array([decision.value for decision in PROMOTING_DECISIONS])
    promoted = promotions.filter(pc.is_in(promotions.column("decision"), value_set=decisions))
    champions = promoted.join(drawn, list(VERDICT_COLUMNS), join_type="left semi")
    return champions.select(["group_key", "model_id"]).rename_columns(list(CHAMPION_COLUMNS))


def last_comparisons(champions: pa.Table, measures: pa.Table) -> pa.Table:
    """Return the last comparison of each champion, the one with the most rows, sorted by group and champion.

    Of two with as many rows, the one with the smaller losses is taken, so that the order of reading makes no
    difference. To read a history in pieces, take the last comparisons of the last comparisons of each piece.

    champions: group_key and champion_id. measures: MEASURE_COLUMNS, one row per attempt.
    """
    losses = pc.add(measures.column("watched_champion_loss"), measures.column("predecessor_loss"))
    is_compared = pc.and_(pc.is_finite(losses), pc.greater(measures.column("watched_rows"), 0))
    compared = measures.filter(pc.fill_null(is_compared, False))
    rows = compared.join(champions, ["group_key", "champion_id"], join_type="left semi")
    order = [("group_key", "ascending"), ("champion_id", "ascending"), ("watched_rows", "descending")]
    order += [(name, "ascending") for name in MEASURE_COLUMNS[3:]]
    rows = rows.sort_by(order).combine_chunks()
    codes = [np.asarray(rows.column(name).combine_chunks().dictionary_encode().indices) for name, _ in order[:2]]
    is_first = np.logical_or.reduce([np.diff(code, prepend=-1) != 0 for code in codes])
    return rows.filter(pa.array(is_first))


def measure_gain(champions: pa.Table, measures: pa.Table) -> RetrainingGain | None:
    """Return the gain from retraining; None where no new champion of a drawn group was compared.

    champions: group_key and champion_id of new champions of drawn groups. measures: MEASURE_COLUMNS, one row per
    attempt. A group counts once, by the mean over the rows of all its champions.
    """
    compared = last_comparisons(champions, measures)
    return _gain_of(compared) if compared.num_rows else None


def _gain_of(compared: pa.Table) -> RetrainingGain:
    group = np.asarray(compared.column("group_key").combine_chunks().dictionary_encode().indices)
    rows = np.asarray(compared.column("watched_rows"), dtype=np.float64)
    predecessor, champion = (
        _means(group, rows, np.asarray(compared.column(name), dtype=np.float64))
        for name in ("predecessor_loss", "watched_champion_loss")
    )
    gains = predecessor - champion
    gain, groups = float(gains.mean()), len(gains)
    ends: tuple[float | None, float | None] = (None, None)
    if groups >= FEWEST_GROUPS:
        from scipy.special import stdtrit  # a sixth of a second: most processes that import this module measure nothing

        half = float(stdtrit(groups - 1, 0.975)) * float(gains.std(ddof=1)) / math.sqrt(groups)
        ends = (gain - half, gain + half)
    loss = float(predecessor.mean())
    percents = (None if value is None or not loss else 100.0 * value / loss for value in (gain, *ends))
    return RetrainingGain(
        groups=groups,
        champions=len(group),
        rows=int(rows.sum()),
        predecessor_loss=loss,
        champion_loss=float(champion.mean()),
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
