"""Does the configured estimator fit? Tried on one toy group, through the same code as the real ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core import keys
from spinney.core.config import Config
from spinney.core.config.values import INTEGERS, is_number
from spinney.core.fitting import fit_groups
from spinney.core.recipe import Recipe
from spinney.core.signing import Signer

SEED = 20_130_101
NEWEST = datetime(2013, 1, 31, tzinfo=UTC)


def problem(config: Config) -> str:
    """Return what the estimator did wrong on a toy group, or nothing.

    Raises ConfigError: no such estimator. ContractError: parameters it does not take.
    """
    rows = toy_rows(config, max(60, min(2 * config.recipe.min_rows, config.recipe.window_rows)))
    asks = rows[["group_key"]].drop_duplicates()
    fitted = fit_groups(rows, asks, Recipe.of(config), NEWEST, Signer(b"a toy's key, which nothing verifies"))
    row = fitted.iloc[0]
    return "" if row["status"] == "fitted" else str(row["error"] or row["status"])


def toy_rows(config: Config, rows: int) -> pd.DataFrame:
    """Return rows of one group in the recipe's window: the features by their types, and a label that follows them."""
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
    frame["label"] = signal * 2 + 3 if regression else _classes(config.target_type, signal > 0)
    return frame


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


def _classes(kind: str, above: npt.NDArray[np.bool_]) -> Any:
    texts = {"string": ("below", "above"), "boolean": ("false", "true")}.get(kind, ("0", "1"))
    return np.where(above, texts[1], texts[0]).astype(object)
