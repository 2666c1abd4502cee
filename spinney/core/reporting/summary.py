"""A fleet on one screen: how many groups stand where, and whether their models are worth more than a constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spinney.core.reporting.incumbent_comparison import Compared, Comparison
from spinney.core.reporting.status import State


@dataclass(frozen=True)
class Measured:
    """A group's champion on its held-out rows, by the model that was fitted on the older ones.

    rows: held out. loss, constant_loss: mean losses of that model, and of a constant answer, on these rows.
    """

    group_key: str
    state: str
    recipe: str | None
    rows: int
    loss: float
    constant_loss: float

    @property
    def ratio(self) -> float:
        """Above 1: worse than a constant."""
        if self.constant_loss:
            return self.loss / self.constant_loss
        return 1.0 if not self.loss else float("inf")


@dataclass(frozen=True)
class Against:
    """The fleet beside something else on the same rows, each row counting alike. basis: which rows."""

    other: str
    basis: str
    groups: int
    rows: int
    fleet_loss: float
    other_loss: float
    groups_worse: int


@dataclass(frozen=True)
class Summary:
    """measure: the loss. states: of every state, 0 too. unmeasured: champions without a loss of their own and a
    constant's. against: a constant, then the incumbent where there is one. worst: groups that a constant beats, the
    worst first.
    """

    fleet: str
    groups: int
    measure: str
    states: Mapping[str, int]
    unmeasured: int
    against: tuple[Against, ...]
    worst: tuple[Measured, ...]


def summary(
    fleet: str, measure: str, standings: Iterable[Mapping[str, Any]], fits: Mapping[str, Mapping[str, Any]],
    incumbent: Comparison,
) -> Summary:  # fmt: skip
    """standings: rows with the fields of a `Standing`. fits: model_id -> metrics of its attempt, of the champions."""
    rows = [*standings]
    counts = Counter(str(row["state"]) for row in rows)
    answering = [row for row in rows if row["model_id"] is not None]
    measured = [each for row in answering if (each := _measured(row, fits.get(row["model_id"], {}))) is not None]
    worst = sorted((each for each in measured if each.ratio > 1), key=lambda each: (-each.ratio, each.group_key))
    against = [*_against_constant(measured), *(_against_incumbent(each, incumbent) for each in incumbent.whole)]
    return Summary(
        fleet=fleet,
        groups=len(rows),
        measure=measure,
        states={state.value: counts[state.value] for state in State},
        unmeasured=len(answering) - len(measured),
        against=tuple(against),
        worst=tuple(worst),
    )


def _measured(row: Mapping[str, Any], metrics: Mapping[str, Any]) -> Measured | None:
    loss, constant, rows = (metrics.get(name) for name in ("challenger_loss", "constant_loss", "heldout_rows"))
    if loss is None or constant is None or not rows:
        return None
    return Measured(row["group_key"], str(row["state"]), row["recipe"], int(rows), float(loss), float(constant))


def _against_constant(measured: list[Measured]) -> Iterable[Against]:
    rows = sum(each.rows for each in measured)
    if rows:
        mean = sum(each.loss * each.rows for each in measured) / rows
        constant = sum(each.constant_loss * each.rows for each in measured) / rows
        worse = sum(each.ratio > 1 for each in measured)
        yield Against("constant", "held_out", len(measured), rows, mean, constant, worse)


def _against_incumbent(whole: Compared, found: Comparison) -> Against:
    groups = [each for each in found.groups if each.basis == whole.basis]
    worse = sum(each.fleet > each.incumbent for each in groups)
    return Against("incumbent", whole.basis, len(groups), whole.rows, whole.fleet, whole.incumbent, worse)
