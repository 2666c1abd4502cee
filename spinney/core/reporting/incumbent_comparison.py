"""The system before the fleet, and the fleet: what both were wrong by on the same rows, none of them fitted on.

======== ==========================================================================================================
answered rows that both answered: the fleet in its stream, by a model whose training ended before the row
held_out the held-out rows of a champion that is its group's first model, all answered by the incumbent too: there
         stands, for the champion, the model that was fitted without them to measure it (its recipe, its older rows).
         Not of later ones: those became champions because they did well on these very rows
======== ==========================================================================================================

The measure is the fleet's loss; for classification the share of wrong answers, since of the incumbent only the class is
known, and so nothing of held-out rows, where only the loss was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core.features.encoding import Floats
from spinney.core.training.fit_attempt import HELD_OUT_ONE_IN
from spinney.core.training.loss import loss_named

WRONG = "wrong"
INCUMBENT, FLEET = "incumbent", "fleet"


class Basis(StrEnum):
    ANSWERED = "answered"
    HELD_OUT = "held_out"


@dataclass(frozen=True)
class Compared:
    """Means over the same rows, of the incumbent and of the fleet. group_key: None for all groups together."""

    group_key: str | None
    basis: Basis
    rows: int
    incumbent: float
    fleet: float


@dataclass(frozen=True)
class Comparison:
    """measure: absolute, squared or wrong. whole: one row a basis; groups: worst for the fleet first. Empty: no row."""

    measure: str
    whole: tuple[Compared, ...]
    groups: tuple[Compared, ...]


@dataclass(frozen=True)
class HeldOut:
    """What is stored of a first model's fit: the rows it was fitted on, and how many of the newest were compared.

    loss: the mean on those compared, of the model fitted on the others.
    """

    group_key: str
    rows: int
    compared: int
    loss: float


PerRow = Callable[[npt.NDArray[Any], npt.NDArray[Any]], Floats]
"""(labels, answers) -> the measure of each row; NaN where there is none."""


def measure_of(task: str, loss: str) -> tuple[str, PerRow]:
    """Its name, and how it is taken."""
    if task == "regression":
        return loss, loss_named(loss).per_row
    return WRONG, lambda labels, answers: (labels != answers).astype(np.float64)


def by_answers(rows: pd.DataFrame, per_row: PerRow) -> list[Compared]:
    """Each group's rows that both answered.

    rows: group_key, label, prediction, incumbent, event_time and trained_through of the model that answered; one with a
    null is left out.
    """
    whole = rows.dropna(subset=["label", "prediction", "incumbent", "trained_through"])
    whole = whole[whole["event_time"] > whole["trained_through"]]
    labels = whole["label"].to_numpy()
    losses = pd.DataFrame(
        {
            "group_key": whole["group_key"].to_numpy(),
            "incumbent": per_row(labels, whole["incumbent"].to_numpy()),
            "fleet": per_row(labels, whole["prediction"].to_numpy()),
        }
    ).dropna()
    return [
        Compared(str(key), Basis.ANSWERED, len(part), float(part["incumbent"].mean()), float(part["fleet"].mean()))
        for key, part in losses.groupby("group_key")
    ]


def by_held_out(rows: pd.DataFrame, fit: HeldOut, per_row: PerRow) -> Compared | None:
    """One group's. None where the rows that were held out cannot be told, or the incumbent did not answer all of them.

    rows: event_id, event_time, label, incumbent (null: no answer) of all rows that it may have been fitted on.
    """
    known = rows.sort_values(["event_time", "event_id"]).drop_duplicates("event_id")
    if len(known) != fit.rows:
        return None
    newest = known.tail(max(1, fit.rows // HELD_OUT_ONE_IN))
    losses = per_row(newest["label"].to_numpy(), newest["incumbent"].to_numpy())
    if not fit.compared or len(newest) != fit.compared or not np.isfinite(losses).all():
        return None
    return Compared(fit.group_key, Basis.HELD_OUT, len(newest), float(losses.mean()), fit.loss)


def comparison(measure: str, groups: Sequence[Compared]) -> Comparison:
    """With the sums over all groups: each row counts alike."""
    whole = []
    for basis in Basis:
        mine = [each for each in groups if each.basis == basis]
        if mine:
            weights = [each.rows for each in mine]
            means = (np.average([getattr(each, name) for each in mine], weights=weights) for name in (INCUMBENT, FLEET))
            whole.append(Compared(None, basis, sum(weights), *map(float, means)))
    worst_first = sorted(groups, key=lambda each: (each.incumbent - each.fleet, str(each.group_key), each.basis))
    return Comparison(measure, tuple(whole), tuple(worst_first))
