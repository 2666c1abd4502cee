"""A fleet on one screen: groups by state, and the champions' errors beside a constant answer and the incumbent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spinney.core.reporting.incumbent_comparison import ComparedErrors, IncumbentComparison
from spinney.core.reporting.retraining_gain import RetrainingGain
from spinney.core.reporting.status import State


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
    """The fleet and a baseline on the same rows, weighted by rows. basis: which rows."""

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
    worst first. gain: of refits in stale groups drawn at random; None where none was compared.
    """

    fleet: str
    groups: int
    measure: str
    states: Mapping[str, int]
    unmeasured: int
    against: tuple[BaselineComparison, ...]
    worst: tuple[MeasuredChampion, ...]
    gain: RetrainingGain | None = None


def summarize_fleet(
    fleet: str, measure: str, statuses: Iterable[Mapping[str, Any]], fits: Mapping[str, Mapping[str, Any]],
    incumbent: IncumbentComparison, gain: RetrainingGain | None = None,
) -> Summary:  # fmt: skip
    """Return the summary of a fleet.

    statuses: rows with the fields of GroupStatus. fits: model_id -> metrics of the champion's attempt.
    """
    rows = [*statuses]
    counts = Counter(str(row["state"]) for row in rows)
    answering = [row for row in rows if row["model_id"] is not None]
    measured = [each for row in answering if (each := _measured(row, fits.get(row["model_id"], {}))) is not None]
    worst = sorted(
        (champion for champion in measured if champion.ratio > 1),
        key=lambda champion: (-champion.ratio, champion.group_key),
    )
    against = [
        *_compare_with_constant(measured),
        *(_compare_with_incumbent(errors, incumbent) for errors in incumbent.whole),
    ]
    return Summary(
        fleet=fleet,
        groups=len(rows),
        measure=measure,
        states={state.value: counts[state.value] for state in State},
        unmeasured=len(answering) - len(measured),
        against=tuple(against),
        worst=tuple(worst),
        gain=gain,
    )


def _measured(row: Mapping[str, Any], metrics: Mapping[str, Any]) -> MeasuredChampion | None:
    loss, constant, rows = (metrics.get(name) for name in ("challenger_loss", "constant_loss", "heldout_rows"))
    if loss is None or constant is None or not rows:
        return None
    return MeasuredChampion(row["group_key"], str(row["state"]), row["recipe"], int(rows), float(loss), float(constant))


def _compare_with_constant(measured: list[MeasuredChampion]) -> Iterable[BaselineComparison]:
    rows = sum(champion.rows for champion in measured)
    if rows:
        mean = sum(champion.loss * champion.rows for champion in measured) / rows
        constant = sum(champion.constant_loss * champion.rows for champion in measured) / rows
        worse = sum(champion.ratio > 1 for champion in measured)
        yield BaselineComparison("constant", "held_out", len(measured), rows, mean, constant, worse)


def _compare_with_incumbent(whole: ComparedErrors, comparison: IncumbentComparison) -> BaselineComparison:
    groups = [group for group in comparison.groups if group.basis == whole.basis]
    worse = sum(group.fleet > group.incumbent for group in groups)
    return BaselineComparison("incumbent", whole.basis, len(groups), whole.rows, whole.fleet, whole.incumbent, worse)
