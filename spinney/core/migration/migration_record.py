"""One migration, as the charter keeps it: what old rows and old models mean can be told from all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Migration:
    """A change of `[fleet.columns]`.

    at: when it was begun, ISO 8601. before, after: name -> Spark SQL type, without the event's id and times, which have
    columns of their own. renamed: old name -> new name. version: of the table `events` when it was begun; None where
    that table did not have to be touched.
    """

    id: str
    at: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    renamed: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None

    @property
    def added(self) -> tuple[str, ...]:
        return tuple(name for name in self.after if name not in self.before and name not in self.renamed.values())

    @property
    def dropped(self) -> tuple[str, ...]:
        return tuple(name for name in self.before if name not in self.after and name not in self.renamed)

    def as_data(self) -> dict[str, Any]:
        """This migration as a JSON object."""
        maps = {name: dict(getattr(self, name)) for name in ("before", "after", "renamed")}
        return {"id": self.id, "at": self.at, **maps, "version": self.version}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Migration:
        """The migration that gave this JSON object. Raises KeyError for another."""
        return cls(**{each.name: data[each.name] for each in fields(cls)})
