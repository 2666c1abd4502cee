"""A migration as the charter stores it. All of them together explain earlier rows and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Migration:
    """A change of `[fleet.columns]`.

    at: when it was begun, ISO 8601. before, after: name -> Spark SQL type, without the event's id and times, which have
    columns of their own. renamed: old name -> new name. version: of the table `events` when it was begun; None if that
    table needs no change.
    """

    id: str
    at: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    renamed: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None

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
        return {"id": self.id, "at": self.at, **maps, "version": self.version}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Migration:
        """Return the migration of a JSON object. Raises KeyError if a field is missing."""
        return cls(**{data_field.name: data[data_field.name] for data_field in fields(cls)})
