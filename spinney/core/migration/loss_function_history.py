"""The losses by which a fleet has measured its models, and the conversion of a stored loss to another one.

Only the absolute and the squared loss of a single row can be converted to each other: l² and √l. A mean of losses
cannot, so means restart when the loss changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from spinney.core.migration.migration_record import Migration

Floats = npt.NDArray[np.float64]

ABSOLUTE, SQUARED = "absolute", "squared"


@dataclass(frozen=True)
class LossChange:
    """A change of the loss. at: wall clock."""

    at: datetime
    before: str
    after: str


@dataclass(frozen=True)
class LossHistory:
    """The losses of a fleet. now: the loss that it measures by. changes: the oldest first."""

    now: str
    changes: tuple[LossChange, ...] = ()

    @classmethod
    def of(cls, now: str, migrations: Iterable[Migration]) -> LossHistory:
        """Return the losses of a fleet. now: its current loss. migrations: completed ones, oldest first."""
        changed = (migration for migration in migrations if migration.loss_before and migration.loss_after)
        return cls(
            now,
            tuple(
                LossChange(datetime.fromisoformat(change.at), str(change.loss_before), str(change.loss_after))
                for change in changed
            ),
        )

    @property
    def is_changed(self) -> bool:
        """Whether losses of more than one name may be stored."""
        return bool(self.changes)

    @property
    def first(self) -> str:
        """The loss that the fleet was made with, by which stored losses without a name are measured."""
        return self.changes[0].before if self.changes else self.now

    @property
    def other(self) -> str:
        """The regression loss other than the current one.

        Once the loss has changed, every stored loss is one of these two.
        """
        return SQUARED if self.now == ABSOLUTE else ABSOLUTE

    @property
    def begun_anew(self) -> str | None:
        """Return the note beside a mean that has the current loss only; None if the loss has never changed."""
        if not self.changes:
            return None
        return f"since the loss changed at {self.changes[-1].at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

    def name_of(self, stored: str | None) -> str:
        """Return the name of a stored loss. stored: the column `loss_name`, or empty."""
        return stored or self.first

    def name_at(self, moment: datetime) -> str:
        """Return the loss by which the fleet measured at a time of the wall clock."""
        return next((change.before for change in self.changes if moment < change.at), self.now)


def are_convertible(before: str, after: str) -> bool:
    """Return whether a fleet's loss can change from one to the other. before, after: names of losses."""
    return {before, after} == {ABSOLUTE, SQUARED}


def convert_losses(losses: Floats, was: str, now: str) -> Floats:
    """Convert losses of single rows to another loss; the shape stays. NaN where a loss cannot be converted.

    was, now: names of losses.
    """
    if was == now:
        return losses
    with np.errstate(over="ignore", invalid="ignore"):
        if (was, now) == (ABSOLUTE, SQUARED):
            return losses * losses
        if (was, now) == (SQUARED, ABSOLUTE):
            return np.sqrt(losses)
    return np.full(losses.shape, np.nan)


def converted_sql(loss: str, was: str, now: str) -> str:
    """Return `convert_losses` as a Spark SQL expression of type double. loss: an expression of a number."""
    value = f"CAST({loss} AS double)"
    if was == now:
        return value
    if (was, now) == (ABSOLUTE, SQUARED):
        return f"({value} * {value})"
    return f"sqrt({value})" if (was, now) == (SQUARED, ABSOLUTE) else "CAST(NULL AS double)"
