"""A group with a clock that a test advances, judged by the staleness policies of a configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from schemas.vocabulary import Decision
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.timestamps import to_microseconds
from spinney.testing.config_argument import config_of

if TYPE_CHECKING:
    from spinney.core.staleness.attempt_outcomes import DecisionRecord

START = datetime(2024, 1, 1, tzinfo=UTC)


class JudgedGroup:
    """One group, alone in its shard, as the query `retrain` judges it: in memory, without tables and Spark.

    It begins without a model. Each method returns the name of the policy by which the group is stale, or None while it
    is fresh. Events and labels have the time of the clock when they come.
    """

    def __init__(self, config: Config | str | os.PathLike[str]) -> None:
        """config: the configuration, or its file. Raises ConfigError."""
        from spinney.core.staleness.judge import JudgeSettings, ShardState  # imports pandas and Arrow

        read = config_of(config)
        self.now = START
        self.stale_by: str | None = None
        self._key = keys.encode(["group"] * len(read.fleet.group))
        self._settings, self._shard = JudgeSettings.from_config(read), ShardState.empty()
        self._fits = self._rows = 0

    def advance(self, by: timedelta) -> str | None:
        """Let time pass, by the wall clock and by that of the events of other groups."""
        self.now += by
        return self._judge([])

    def label(self, losses: Sequence[float]) -> str | None:
        """Add a labelled row for each of these losses of the champion. They count after `fleet.label_delay`."""
        self._rows += len(losses)
        return self._judge(losses)

    def fit(self, heldout_losses: Sequence[float]) -> str | None:
        """Replace the champion by a new model. heldout_losses: its losses on held-out rows, at least one."""
        from spinney.core.champions.promotion import Promotion
        from spinney.core.staleness.attempt_outcomes import DecisionRecord

        at, self._fits, self.stale_by = to_microseconds(self.now), self._fits + 1, None
        promotion = Promotion(0, self._model_id or "", Decision.PROMOTED.value, at, at, at)
        mean = sum(heldout_losses) / len(heldout_losses)
        record = DecisionRecord(self._key, promotion, True, at, mean, 1.0, tuple(heldout_losses), rows=self._rows)
        return self._judge([], [record])

    @property
    def _model_id(self) -> str | None:
        return f"model-{self._fits}" if self._fits else None

    def _judge(self, losses: Sequence[float], decided: Sequence[DecisionRecord] = ()) -> str | None:
        import pandas as pd

        from spinney.core.staleness.health_rows import HealthRows
        from spinney.core.staleness.judge import JudgeInput, advance, judge

        now = to_microseconds(self.now)
        rows = [(self._key, self._model_id, 1, float(loss), now) for loss in losses]
        columns = ["group_key", "model_id", "labelled", "loss", "last_event_time"]
        health = pd.DataFrame([*rows, (None, None, 0, 0.0, now)], columns=columns)  # the last one: a tick of the clock
        inputs = JudgeInput(decided, [], HealthRows.of_frame(health.astype({"group_key": object, "model_id": object})))
        self._shard = advance(self._shard, inputs, self._settings, now)
        for row in judge(self._shard, self._settings, now):
            self.stale_by = str(row["policy"]) if row["decision"] == "fit" else None
        return self.stale_by
