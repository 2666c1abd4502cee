"""The request for a round. Stored with its plan, so that a replay needs no other source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from schemas import tables
from spinney.core.config import Fleet

READ = (tables.EVENTS, tables.OUTCOMES, tables.PROMOTIONS)
"""The tables of which a round reads pinned versions. `models` needs no pin: a model never changes and is read by its
id.
"""


@dataclass(frozen=True)
class RoundRequest:
    """The request for a round, stored as the notes of its plan's commit: the field names are part of that format.

    groups_in: number of groups that are stale or requested. deferred: how many of these are left for a later round.
    clock: the fleet's clock. now: wall clock. asked_for: the groups that a batch was asked to retrain; recipe_id: of
    the recipe to fit. reads: `read_settings` when the plan counted events. unproven: whether another recipe may be
    promoted without evidence. requests: ids of the requests of people that the round takes. brake_round, brake_at: the
    round that fitted the sample while the brake acts, and its time (ISO 8601); empty if the brake does not act.
    parents_by_columns: the order of the plan, see `groups_to_fit`. The stored parts refer to positions in this order;
    plans of earlier versions have the value False.
    """

    round_id: str
    groups_in: int
    deferred: int
    reasons: Mapping[str, int]
    clock: datetime
    now: datetime
    budget_seconds: float | None
    predicted_seconds: float
    pins: Mapping[str, int]
    asked_for: str = ""
    recipe_id: str = ""
    reads: str = ""
    unproven: bool = False
    brake_round: str = ""
    brake_at: str = ""
    requests: tuple[str, ...] = ()
    parents_by_columns: bool = False

    def notes(self) -> dict[str, Any]:
        """Return the request as metadata of the plan's Delta commit."""
        return {**self.__dict__, "clock": self.clock.isoformat(), "now": self.now.isoformat()}

    @classmethod
    def of_notes(cls, notes: Mapping[str, Any]) -> RoundRequest:
        """Return the request that `notes` made these notes from."""
        times = {name: datetime.fromisoformat(notes[name]) for name in ("clock", "now")}
        return cls(**{**notes, **times, "requests": tuple(notes.get("requests", ()))})


def read_settings(fleet: Fleet, window: timedelta) -> str:
    """Return the settings that determine which events a round reads and that may be edited, as one text.

    window: `recipe.window`.
    """
    return json.dumps([str(window), str(fleet.label_delay), [list(level) for level in fleet.parents]])
