"""What a round is ordered to do: kept with its plan, so that a replay needs no other source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas import tables
from spinney.core.config import Config

READ = (tables.EVENTS, tables.OUTCOMES)
"""The tables that a round reads as of its pins; of `models` it reads champions, which never change, by their ids."""


@dataclass(frozen=True)
class Ordered:
    """What a round was ordered to do: the notes of its plan's commit, so a replay needs no other source.

    groups_in: groups found stale or asked for; deferred: of them, left for later. clock: the fleet's; now: the wall's.
    asked_for: what the batch was asked to retrain; recipe_id: what it was to fit. reads: which events its plan counted,
    by `reads_of`. unproven: whether it was told to promote another recipe without evidence too.
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

    def notes(self) -> dict[str, Any]:
        return {**self.__dict__, "clock": self.clock.isoformat(), "now": self.now.isoformat()}

    @classmethod
    def of_notes(cls, notes: Mapping[str, Any]) -> Ordered:
        times = {name: datetime.fromisoformat(notes[name]) for name in ("clock", "now")}
        return cls(**{**notes, **times})


def reads_of(config: Config) -> str:
    """Which events a round reads, as far as the configuration says it and may be edited under one root."""
    fleet = config.fleet
    return json.dumps([str(config.recipe.window), str(fleet.label_delay), [list(level) for level in fleet.parents]])
