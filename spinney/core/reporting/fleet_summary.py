"""The summary of a fleet: groups by state, and errors compared with a constant prediction and the incumbent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.reporting.group_status import State
from spinney.core.reporting.incumbent_comparison import ComparedErrors, IncumbentComparison
from spinney.core.reporting.retraining_gain import RetrainingGain


@dataclass(frozen=True)
class MeasuredChampion:
    """A group's champion measured on its held-out rows, by its evaluation fit.

    rows: held out. loss, constant_loss: mean losses of the evaluation fit and of a constant answer on these rows.
    """

    group_key: str
    state: str
    recipe: str | None
    rows: int
    loss: float
    constant_loss: float

    @property
    def ratio(self) -> float:
        """The loss divided by that of a constant; above 1 the champion is worse."""
        if self.constant_loss:
            return self.loss / self.constant_loss
        return 1.0 if not self.loss else float("inf")


@dataclass(frozen=True)
class BaselineComparison:
    """The fleet and a baseline on the same rows: means weighted by rows. basis: how the rows were chosen."""

    other: str
    basis: str
    groups: int
    rows: int
    fleet_loss: float
    other_loss: float
    groups_worse: int


@dataclass(frozen=True)
class Summary:
    """The summary of a fleet. The field names are those of `spinney fleet --summary --json`.

    measure: the loss. states: number of groups per state, 0 included. unmeasured: champions without a loss or without a
    constant's. against: a constant, then the incumbent if there is one. worst: groups in which a constant is better,
    worst first. gain: of refits in stale groups drawn at random; None if no such group was compared. begun_anew: note
    that says since when errors and gain are measured by this loss; None if the loss has never changed.
    """

    fleet: str
    groups: int
    measure: str
    states: Mapping[str, int]
    unmeasured: int
    against: tuple[BaselineComparison, ...]
    worst: tuple[MeasuredChampion, ...]
    gain: RetrainingGain | None = None
    begun_anew: str | None = None


FIT_COLUMNS = ("model_id", "heldout_rows", "challenger_loss", "constant_loss")
"""Columns of the champions' fits that are read."""


def summarize_fleet(
    fleet: str, measure: str, statuses: pa.Table, fits: pa.Table, incumbent: IncumbentComparison,
    gain: RetrainingGain | None = None,
) -> Summary:  # fmt: skip
    """Return the summary of a fleet.

    measure: name of the loss that the errors are means of. statuses: as `derive_statuses` returns them. fits: of the
    champions, with FIT_COLUMNS, null where a value is not known; fits of other models are ignored.
    """
    counts = Counter(statuses.column("state").to_pylist())
    measured = _measure_champions(statuses, fits)
    against = [
        *_compare_with_constant(measured),
        *(_compare_with_incumbent(errors, incumbent) for errors in incumbent.whole),
    ]
    return Summary(
        fleet=fleet,
        groups=len(statuses),
        measure=measure,
        states={state.value: counts[state.value] for state in State},
        unmeasured=len(statuses) - statuses.column("model_id").null_count - len(measured),
        against=tuple(against),
        worst=_worse_than_constant(measured),
        gain=gain,
    )


def _measure_champions(statuses: pa.Table, fits: pa.Table) -> pa.Table:
    """The champions that were measured: the fields of MeasuredChampion as columns, without nulls, and their ratio."""
    fit = pc.index_in(statuses.column("model_id"), value_set=fits.column("model_id").combine_chunks(), skip_nulls=True)
    rows, loss, constant = (fits.column(name).take(fit) for name in FIT_COLUMNS[1:])
    rows = pc.fill_null(rows.cast(pa.int64()), 0)
    losses = {"loss": loss.cast(pa.float64()), "constant_loss": constant.cast(pa.float64())}
    table = statuses.select(["group_key", "state", "recipe"])
    for name, column in {"rows": rows, **losses}.items():
        table = table.append_column(name, column)
    known = pc.and_(pc.is_valid(losses["loss"]), pc.is_valid(losses["constant_loss"]))
    table = table.filter(pc.and_(known, pc.greater(rows, 0)))
    return table.append_column("ratio", pa.array(_ratios(*(np.asarray(table.column(name)) for name in losses))))


def _ratios(loss: npt.NDArray[np.float64], constant: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return loss / constant_loss of each champion, by the same rules as `MeasuredChampion.ratio`."""
    of_zero = np.where(loss == 0, 1.0, np.inf)
    return np.divide(loss, constant, out=of_zero, where=constant != 0)


def _worse_than_constant(measured: pa.Table) -> tuple[MeasuredChampion, ...]:
    worse = measured.filter(pc.greater(measured.column("ratio"), 1.0))
    worst_first = worse.sort_by([("ratio", "descending"), ("group_key", "ascending")]).drop_columns(["ratio"])
    return tuple(MeasuredChampion(**row) for row in worst_first.to_pylist())


def _compare_with_constant(measured: pa.Table) -> Iterable[BaselineComparison]:
    if len(measured):
        rows, loss, constant, ratio = (
            np.asarray(measured.column(name)) for name in ("rows", "loss", "constant_loss", "ratio")
        )
        mean, constant_mean = (float(np.average(values, weights=rows)) for values in (loss, constant))
        worse = int((ratio > 1).sum())
        yield BaselineComparison("constant", "held_out", len(rows), int(rows.sum()), mean, constant_mean, worse)


def _compare_with_incumbent(whole: ComparedErrors, comparison: IncumbentComparison) -> BaselineComparison:
    groups = [group for group in comparison.groups if group.basis == whole.basis]
    worse = sum(group.fleet > group.incumbent for group in groups)
    return BaselineComparison("incumbent", whole.basis, len(groups), whole.rows, whole.fleet, whole.incumbent, worse)
