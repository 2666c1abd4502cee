"""The progress of a round that is planned and not recorded yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class RoundProgress:
    """A running round, or an interrupted one that continues when its process starts again.

    began_at: wall clock. planned: groups to fit. attempted: of them, those with an attempt stored. seconds_left:
    predicted, as if each remaining group took as long as the attempted ones; None before the first attempt.
    """

    round_id: str
    began_at: datetime
    planned: int
    attempted: int
    seconds_left: float | None

    @classmethod
    def measured(cls, round_id: str, began_at: datetime, planned: int, attempted: int, now: datetime) -> RoundProgress:
        """Return the progress at a time of the wall clock. A group that was attempted twice counts once at most."""
        attempted = min(attempted, planned)
        elapsed = max(now - began_at, timedelta(0)).total_seconds()
        left = elapsed * (planned - attempted) / attempted if attempted else None
        return cls(round_id, began_at, planned, attempted, left)
