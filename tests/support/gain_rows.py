"""Rows of `verdicts`, `promotions` and `models` from which the gain from retraining is computed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from schemas import tables
from spinney.core.config import Config


def verdict(key: str, at: datetime, queue: str, round_id: str) -> Mapping[str, Any]:
    numbers = f'{{"rows_since":4,"queue":"{queue}"}}'
    return {"group_key": key, "judged_at": at, "decision": "fit", "round_id": round_id, "numbers": numbers}


def promotion(key: str, at: datetime, model_id: str, round_id: str) -> Mapping[str, Any]:
    of_round = {"round_id": round_id, "decided_at": at, "clock": at, "epoch": 0}
    return {"group_key": key, "model_id": model_id, "decision": "promoted", **of_round}


def attempt(key: str, at: datetime, metrics: str | None) -> Mapping[str, Any]:
    whole = {"group_key": key, "fitted_at": at, "clock": at, "status": "fitted", "recipe_id": "r", "round_id": "later"}
    return {**whole, "metrics": metrics}


def compared(champion: str, rows: int, predecessor: float) -> str:
    losses = {"watched_champion_loss": 3.0, "predecessor_loss": predecessor}
    return json.dumps({"champion_id": champion, "watched_rows": rows, **losses})


def drawn(config: Config, put, key: str, at: datetime, queue: str = "random") -> str:
    """A group that a round took and gave a new champion, whose id is returned."""
    round_id, champion = f"stream {key} {at}", f"{key} {at}"
    put(config, tables.VERDICTS, [verdict(key, at, queue, round_id)], "stream")
    put(config, tables.PROMOTIONS, [promotion(key, at, champion, round_id)], "stream")
    return champion
