"""The rows of a synthetic group, on which an estimator is checked before there is any data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core import keys
from spinney.core.config import Recipe, RecordSchema
from spinney.core.config.value_types import INTEGERS, is_number

SEED = 20_130_101
NEWEST = datetime(2013, 1, 31, tzinfo=UTC)
MIN_ROWS = 60


def synthetic_rows(schema: RecordSchema, recipe: Recipe, rows: int | None = None) -> pd.DataFrame:
    """Return rows of one group within the recipe's window: features of their types, and a label that depends on them.

    rows: their number; None: as many as the recipe needs, and at least MIN_ROWS unless its window holds fewer.
    """
    rows = rows or max(MIN_ROWS, min(2 * recipe.min_rows, recipe.window_rows))
    random = np.random.default_rng(SEED)
    step = min(timedelta(hours=1), recipe.window / (rows + 1))
    signal = random.normal(size=rows)
    frame = pd.DataFrame(
        {
            "group_key": keys.encode(["toy"] * len(schema.fleet.group)),
            "event_id": [f"toy-{row}" for row in range(rows)],
            "event_time": pd.DatetimeIndex([NEWEST - step * row for row in range(rows)]).as_unit("us"),
        }
    )
    for name in schema.fleet.features:
        frame[name] = _values(schema.fleet.type_of(name) or "double", signal + random.normal(scale=0.1, size=rows))
    regression = schema.fleet.task == "regression"
    frame["label"] = signal * 2 + 3 if regression else _classes(schema.target_type, signal)
    return frame


def label_classes(column_type: str) -> tuple[Any, ...]:
    """Return the labels that a synthetic target of this type may have."""
    known: dict[str, tuple[Any, ...]] = {"string": ("below", "above", "far above"), "boolean": (False, True)}
    return known.get(column_type, (0, 1, 2))


def _classes(column_type: str, signal: npt.NDArray[np.float64]) -> Any:
    below, above = label_classes(column_type)[:2]
    return pd.Series([above if value > 0 else below for value in signal], dtype=object)


def _values(column_type: str, signal: npt.NDArray[np.float64]) -> Any:
    if column_type in INTEGERS:
        return np.round(signal * 10).astype(np.int64)
    if is_number(column_type):
        return signal
    if column_type == "boolean":
        return signal > 0
    if column_type in ("timestamp", "date"):
        times = pd.DatetimeIndex([NEWEST + timedelta(days=float(value)) for value in signal]).as_unit("us")
        return times if column_type == "timestamp" else times.date
    return np.where(signal > 0, "above", "below").astype(object)
