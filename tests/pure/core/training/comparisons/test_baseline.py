"""A constant answer by the older rows, against plain pandas group by group."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipes import RIDGE

from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training.comparisons.baseline import group_medians
from spinney.core.training.fitting import fit_groups

START = datetime(2024, 1, 1, tzinfo=UTC)
RECIPE = replace(RIDGE, params=(), min_rows=2)
SIZES = {'["a"]': 40, '["b"]': 41, '["c"]': 2, '["d"]': 17}


def rows(classes: bool = False) -> pd.DataFrame:
    random = np.random.default_rng(4)
    parts = []
    for key, n in SIZES.items():
        times = pd.Series([START + timedelta(hours=at) for at in range(n)]).astype("datetime64[us, UTC]")
        label = random.choice(["low", "high", "odd"], n) if classes else random.normal(10, 5, n)
        part = {"group_key": key, "event_id": [f"e{at:03}" for at in range(n)], "event_time": times, "label": label}
        parts.append(pd.DataFrame({**part, "x": random.normal(size=n)}))
    return pd.concat(parts, ignore_index=True)


def measured(frame: pd.DataFrame, recipe: Recipe) -> dict[str, float]:
    asks = pd.DataFrame({"group_key": [*SIZES]})
    found = fit_groups(frame, asks, recipe, START + timedelta(days=9), Signer(b"k" * 32))
    return {row["group_key"]: json.loads(row["metrics"])["constant_loss"] for _, row in found.iterrows()}


def parted(frame: pd.DataFrame, key: str) -> tuple[pd.Series, pd.Series]:
    """The older labels and those of the newest fifth."""
    mine = frame[frame["group_key"] == key]["label"]
    held = max(1, len(mine) // 5)
    return mine[:-held], mine[-held:]


@pytest.mark.parametrize("loss", ["absolute", "squared"])
def test_a_number_is_the_median_or_the_mean_of_the_older_labels(loss: str) -> None:
    frame = rows()
    expected = {}
    for key in SIZES:
        older, newest = parted(frame, key)
        off = newest - (older.median() if loss == "absolute" else older.mean())
        expected[key] = float(off.abs().mean() if loss == "absolute" else (off**2).mean())
    assert measured(frame, replace(RECIPE, loss=loss)) == pytest.approx(expected)


def test_a_class_has_the_share_that_it_had_among_the_older_labels() -> None:
    frame = rows(classes=True)
    expected = {}
    for key in SIZES:
        older, newest = parted(frame, key)
        share = older.value_counts(normalize=True)
        expected[key] = float(np.mean([-np.log(max(share.get(label, 0.0), 1e-15)) for label in newest]))
    recipe = replace(RECIPE, estimator="constant", task="classification", loss="log", target=Feature("y", "string"))
    assert measured(frame, recipe) == pytest.approx(expected)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), min_size=1, max_size=6))
def test_medians_of_groups_are_those_of_each_group(groups: list[list[float]]) -> None:
    sizes = np.array([len(values) for values in groups])
    found = group_medians(np.concatenate([np.array(values) for values in groups]), sizes)
    assert found.tolist() == pytest.approx([np.median(values) for values in groups], abs=1e-9)
