"""The effect of a change of the fleet's loss on stored losses.

Nothing is rewritten. Rows name their loss, and their readers convert the losses of single rows or leave the row
out of a mean. So the change takes effect with the charter, in one step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schemas import tables
from schemas.contract import Contract
from spinney.core.champions.held_out_loss_codec import COLUMN
from spinney.storage.layout import FleetStore
from spinney.tables import lookup


@dataclass(frozen=True)
class StateChange:
    """The effect on one kind of stored losses.

    groups: number of groups that have some; None if they are not counted.
    """

    state: str
    groups: int | None
    what: str


@dataclass(frozen=True)
class LossMigration:
    """A change of the loss. was, becomes: names of losses. states: the effect on stored ones."""

    was: str
    becomes: str
    states: tuple[StateChange, ...]


def plan_loss_change(store: FleetStore, was: str, becomes: str) -> LossMigration:
    """Return the consequences of a change of the loss. Only reads. Raises StoreError if a table does not exist."""
    return LossMigration(was, becomes, tuple(_states(store, was)))


def _states(store: FleetStore, was: str) -> Iterator[StateChange]:
    formula = "l² of each" if was == "absolute" else "√l of each"
    sampled = _count_groups(store, tables.PROMOTIONS, COLUMN, f"{COLUMN} IS NOT NULL")
    measured = _count_groups(store, tables.PROMOTIONS, "challenger_loss", "challenger_loss IS NOT NULL")
    labelled = _count_groups(store, tables.HEALTH, "labelled", "labelled > 0 AND group_key IS NOT NULL")
    yield StateChange("losses of rows that error_rise compares", sampled, f"convert: {formula}; its evidence goes on")
    yield StateChange("losses of rows behind prediction intervals", sampled, "convert; the intervals stay as they are")
    yield StateChange(
        "labels that are not mature yet",
        None,
        "convert where the loss of each row is stored; others count as labels only",
    )
    yield StateChange(
        "recent loss and reference loss, which rank due groups", measured, "restart with each group's next model"
    )
    yield StateChange(
        "held-out losses beside a constant and the incumbent, gain from retraining",
        measured,
        "restart: models that were measured before do not count",
    )
    yield StateChange("mean errors over time", labelled, "restart: earlier labels do not count")


def _count_groups(store: FleetStore, base: Contract, column: str, where: str) -> int:
    """The number of groups and parents with a row for which the SQL condition `where`, about `column`, is true."""
    counted = lookup.select(store, base, ["group_key", column], "count(DISTINCT group_key) AS n", f"WHERE {where}")
    return int(counted.column("n")[0].as_py())


def explain_loss_change(change: LossMigration) -> Iterator[str]:
    """Yield one sentence per consequence."""
    yield (
        f"the loss changes from {change.was} to {change.becomes}: new labels, fits and comparisons are measured by "
        f"{change.becomes}, and no mean and no comparison has losses of both"
    )
    yield (
        "the recipe changes with the loss: a group is fitted with it when it is next due, all of them by `spinney "
        "retrain --all`; until then the current models answer, and are measured by the new loss"
    )
    yield "registered versions of the fleet do not change; register again for models by the new loss"
