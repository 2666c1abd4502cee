"""The columns of a fleet's records, and the topics that they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spinney.core.config.sections import Fleet


@dataclass(frozen=True)
class RecordSchema:
    """The columns of a fleet's events and outcomes. Functions about records take this, not the whole configuration.

    fleet: the section `[fleet]`. events_topic, outcomes_topic: of `[kafka]`; no topic of outcomes if the label is a
    field of the event.
    """

    fleet: Fleet
    events_topic: str
    outcomes_topic: str | None = None

    @property
    def has_label_in_event(self) -> bool:
        """Whether the label is a field of the event, so that there is no topic of outcomes."""
        return self.outcomes_topic is None

    @property
    def target_type(self) -> str:
        """The Spark SQL type of the target."""
        return self.fleet.columns[self.fleet.target]

    @property
    def event_columns(self) -> dict[str, str]:
        """Name -> type of an event's columns without its id and time; the target only if it is a field of the event."""
        left_out = {self.fleet.event_id, self.fleet.event_time, "observed_at"}
        if not self.has_label_in_event:
            left_out.add(self.fleet.target)
        return {name: kind for name, kind in self.fleet.columns.items() if name not in left_out}
