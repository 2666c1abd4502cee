"""The ledger: the ids of all records that were loaded and sent, for comparison with the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Id = tuple[str, str]
"""(group_key, event_id)."""


@dataclass(frozen=True)
class Ledger:
    """The records that a demo sends, and those that it loads before.

    loaded_events, loaded_outcomes: the history. events, outcomes: distinct valid ones that were sent. event_duplicates,
    outcome_duplicates: ids sent a second time. unmatched: ids of `outcomes` without an event. dead: digest of (key,
    value) -> reason, of each invalid record that was sent.
    """

    loaded_events: frozenset[Id]
    loaded_outcomes: frozenset[Id]
    events: frozenset[Id]
    outcomes: frozenset[Id]
    event_duplicates: tuple[Id, ...]
    outcome_duplicates: tuple[Id, ...]
    unmatched: frozenset[Id]
    dead: Mapping[str, str]

    @property
    def event_records(self) -> int:
        """Records sent to the topic of events."""
        return len(self.events) + len(self.event_duplicates) + len(self.dead)

    @property
    def outcome_records(self) -> int:
        """Records sent to the topic of outcomes."""
        return len(self.outcomes) + len(self.outcome_duplicates)
