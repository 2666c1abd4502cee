"""A migration as the charter stores it. All of them together explain earlier rows and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Migration:
    """A change of `[fleet.columns]`, of `fleet.loss`, or of both.

    at: when it was begun, ISO 8601. before, after: name -> Spark SQL type, without the event's id and times, which have
    columns of their own. renamed: old name -> new name. version: of the table `events` when it was begun; None if that
    table needs no change. loss_before, loss_after: None if the loss stays.
    """

    id: str
    at: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    renamed: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None
    loss_before: str | None = None
    loss_after: str | None = None

    @property
    def changes_loss(self) -> bool:
        """Whether the fleet's loss is another one after it."""
        return self.loss_after is not None

    @property
    def added(self) -> tuple[str, ...]:
        """Names of the added columns."""
        return tuple(name for name in self.after if name not in self.before and name not in self.renamed.values())

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of the dropped columns."""
        return tuple(name for name in self.before if name not in self.after and name not in self.renamed)

    def as_data(self) -> dict[str, Any]:
        """Return this migration as a JSON object."""
        maps = {name: dict(getattr(self, name)) for name in ("before", "after", "renamed")}
        losses = {"loss_before": self.loss_before, "loss_after": self.loss_after} if self.changes_loss else {}
        return {"id": self.id, "at": self.at, **maps, "version": self.version, **losses}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Migration:
        """Return the migration of a JSON object. Raises KeyError if a field is missing."""
        losses: dict[str, Any] = {name: data.get(name) for name in _OF_LOSS}
        return cls(**losses, **{own.name: data[own.name] for own in fields(cls) if own.name not in _OF_LOSS})


_OF_LOSS = ("loss_before", "loss_after")
"""Fields that a migration of columns alone does not have."""
