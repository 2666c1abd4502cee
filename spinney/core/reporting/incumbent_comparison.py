"""Mean errors of the incumbent (the system before the fleet) and the fleet, on rows no compared model was fitted on.

======== ==========================================================================================================
answered rows that both answered: the fleet in its stream, by a model whose training ended before the row
held_out the held-out rows of a champion that is its group's first model, all answered by the incumbent too. The
         fleet's loss is that of the evaluation fit, which never saw these rows. Later champions are left out, since
         they were chosen by these very rows
======== ==========================================================================================================

The measure is the fleet's loss. For classification it is the share of wrong answers, since only classes are known for
the incumbent; there is no held_out comparison then, since only losses are stored of held-out rows.
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
from spinney.core.training.loss import loss_named

WRONG = "wrong"
INCUMBENT, FLEET = "incumbent", "fleet"


class Basis(StrEnum):
    """Which rows are compared."""

    ANSWERED = "answered"
    HELD_OUT = "held_out"


@dataclass(frozen=True)
class ComparedErrors:
    """Mean errors of the incumbent and the fleet on the same rows. group_key: None for all groups together."""

    group_key: str | None
    basis: Basis
    rows: int
    incumbent: float
    fleet: float


@dataclass(frozen=True)
class IncumbentComparison:
    """Mean errors of the incumbent and the fleet. The field names are those of `spinney fleet --incumbent --json`.

    measure: absolute, squared or wrong. whole: of all groups together, one per basis. groups: the worst for the fleet
    first. Both are empty where no row can be compared.
    """

    measure: str
    whole: tuple[ComparedErrors, ...]
    groups: tuple[ComparedErrors, ...]


@dataclass(frozen=True)
class HeldOutFit:
    """The fit of a group's first model.

    rows: number of rows that it was fitted on. compared: number of the newest of these, which the evaluation fit never
    saw. loss: mean loss of the evaluation fit on the compared rows.
    """

    group_key: str
    rows: int
    compared: int
    loss: float


RowLoss = Callable[[npt.NDArray[Any], npt.NDArray[Any]], Floats]
"""(labels, answers) -> the measure of each row; NaN where there is none."""


def measure_for(task: str, loss: str) -> tuple[str, RowLoss]:
    """Return the name of the measure, and the function that computes it per row."""
    if task == "regression":
        return loss, loss_named(loss).per_row
    return WRONG, lambda labels, answers: (labels != answers).astype(np.float64)


def compare_answers(rows: pd.DataFrame, per_row: RowLoss) -> list[ComparedErrors]:
    """Compare the rows that both answered, per group.

    rows: group_key, label, prediction, incumbent, event_time and trained_through of the model that answered. Rows with
    a null are left out.
    """
    complete = rows.dropna(subset=["label", "prediction", "incumbent", "trained_through"])
    complete = complete[complete["event_time"] > complete["trained_through"]]
    labels = complete["label"].to_numpy()
    losses = pd.DataFrame(
        {
            "group_key": complete["group_key"].to_numpy(),
            "incumbent": per_row(labels, complete["incumbent"].to_numpy()),
            "fleet": per_row(labels, complete["prediction"].to_numpy()),
        }
    ).dropna()
    return [
        ComparedErrors(
            str(key), Basis.ANSWERED, len(part), float(part["incumbent"].mean()), float(part["fleet"].mean())
        )
        for key, part in losses.groupby("group_key")
    ]


def compare_held_out(rows: pd.DataFrame, fit: HeldOutFit, per_row: RowLoss) -> ComparedErrors | None:
    """Compare the held-out rows of one group's first model.

    rows: event_id, event_time, label and incumbent (null: no answer) of all rows that it may have been fitted on.
    Returns None where the held-out rows cannot be identified or the incumbent did not answer all of them.
    """
    seen_rows = rows.sort_values(["event_time", "event_id"]).drop_duplicates("event_id")
    if len(seen_rows) != fit.rows:
        return None
    newest = seen_rows.tail(fit.compared)
    losses = per_row(newest["label"].to_numpy(), newest["incumbent"].to_numpy())
    if not fit.compared or not np.isfinite(losses).all():
        return None
    return ComparedErrors(fit.group_key, Basis.HELD_OUT, len(newest), float(losses.mean()), fit.loss)


def summarize(measure: str, groups: Sequence[ComparedErrors]) -> IncumbentComparison:
    """Return the comparison with means over all groups, weighted by rows. measure: name of the error."""
    whole = []
    for basis in Basis:
        compared = [group for group in groups if group.basis == basis]
        if compared:
            weights = [group.rows for group in compared]
            means = (
                np.average([getattr(group, name) for group in compared], weights=weights) for name in (INCUMBENT, FLEET)
            )
            whole.append(ComparedErrors(None, basis, sum(weights), *map(float, means)))
    worst_first = sorted(groups, key=lambda group: (group.incumbent - group.fleet, str(group.group_key), group.basis))
    return IncumbentComparison(measure, tuple(whole), tuple(worst_first))
