"""One made-up group, as a configuration declares its columns: what an estimator is tried on before there are rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core import keys
from spinney.core.config import Config
from spinney.core.config.value_types import INTEGERS, is_number

SEED = 20_130_101
NEWEST = datetime(2013, 1, 31, tzinfo=UTC)
LEAST_ROWS = 60


def toy_rows(config: Config, rows: int | None = None) -> pd.DataFrame:
    """Return rows of one group in the recipe's window: the features by their types, and a label that follows them.

    rows: None: enough for the recipe, and at least LEAST_ROWS unless its window holds fewer.
    """
    rows = rows or max(LEAST_ROWS, min(2 * config.recipe.min_rows, config.recipe.window_rows))
    draw = np.random.default_rng(SEED)
    step = min(timedelta(hours=1), config.recipe.window / (rows + 1))
    signal = draw.normal(size=rows)
    frame = pd.DataFrame(
        {
            "group_key": keys.encode(["toy"] * len(config.fleet.group)),
            "event_id": [f"toy-{row}" for row in range(rows)],
            "event_time": pd.DatetimeIndex([NEWEST - step * row for row in range(rows)]).as_unit("us"),
        }
    )
    for name in config.fleet.features:
        frame[name] = _values(config.fleet.type_of(name) or "double", signal + draw.normal(scale=0.1, size=rows))
    regression = config.fleet.task == "regression"
    frame["label"] = signal * 2 + 3 if regression else _classes(config.target_type, signal)
    return frame


def classes(kind: str) -> tuple[Any, ...]:
    """The labels that a toy target of this type may have."""
    known: dict[str, tuple[Any, ...]] = {"string": ("below", "above", "far above"), "boolean": (False, True)}
    return known.get(kind, (0, 1, 2))


def _classes(kind: str, signal: npt.NDArray[np.float64]) -> Any:
    below, above = classes(kind)[:2]
    return pd.Series([above if value > 0 else below for value in signal], dtype=object)


def _values(kind: str, signal: npt.NDArray[np.float64]) -> Any:
    if kind in INTEGERS:
        return np.round(signal * 10).astype(np.int64)
    if is_number(kind):
        return signal
    if kind == "boolean":
        return signal > 0
    if kind in ("timestamp", "date"):
        times = pd.DatetimeIndex([NEWEST + timedelta(days=float(value)) for value in signal]).as_unit("us")
        return times if kind == "timestamp" else times.date
    return np.where(signal > 0, "above", "below").astype(object)
