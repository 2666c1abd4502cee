"""The champion against the model it replaced, on rows that neither has seen, against pandas and scikit-learn."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recipes import RIDGE
from sklearn.linear_model import LinearRegression

from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fitting import fit_groups

START = datetime(2024, 1, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=30)
SIGNER = Signer(b"k" * 32)
RECIPE = replace(RIDGE, params=(("alpha", "1e-9"),))
KEY = '["a"]'
OLD, CHAMPION = 30, 60
"""Rows that the predecessor and the champion were fitted on, of a hundred."""


def rows_of(n: int = 100, key: str = KEY) -> pd.DataFrame:
    """An event an hour from START."""
    random = np.random.default_rng([5, *key.encode()])
    frame = pd.DataFrame({"x": random.normal(size=n)})
    frame["label"] = 3 * frame["x"] + random.normal(size=n)
    frame["group_key"], frame["event_id"] = key, [f"e{i:03}" for i in range(n)]
    times = [START + timedelta(hours=i) for i in range(n)]
    return frame.assign(event_time=pd.Series(times).astype("datetime64[us, UTC]"))


def stored(rows: pd.DataFrame, role: str, recipe: Recipe = RECIPE) -> dict[str, Any]:
    """The columns of a request about the model of these rows."""
    row = fit_groups(rows, pd.DataFrame({"group_key": [rows["group_key"].iloc[0]]}), recipe, CLOCK, SIGNER).iloc[0]
    columns = {f"{role}_{name}": row[name] for name in ("codec", "payload", "signature")}
    columns |= {f"{role}_id": row["model_id"]}
    return columns | ({"champion_trained_through": row["trained_through"]} if role == "champion" else {})


def request(rows: pd.DataFrame) -> dict[str, Any]:
    key = {"group_key": rows["group_key"].iloc[0]}
    return key | stored(rows[:OLD], "predecessor") | stored(rows[:CHAMPION], "champion")


def measured(rows: pd.DataFrame, requests: list[dict[str, Any]], recipe: Recipe = RECIPE) -> list[dict[str, Any]]:
    result = fit_groups(rows, pd.DataFrame(requests), recipe, CLOCK, SIGNER)
    assert result["status"].eq("fitted").all()
    return [json.loads(text) for text in result["metrics"]]


def losses(rows: pd.DataFrame, fitted_on: int) -> pd.Series[Any]:
    """The absolute errors on all rows of a line through the first ones."""
    line = LinearRegression().fit(rows[["x"]][:fitted_on], rows["label"][:fitted_on])
    return (rows["label"] - line.predict(rows[["x"]])).abs()


def test_both_models_are_measured_on_all_rows_that_are_newer_than_the_champion() -> None:
    rows = rows_of()
    asked = request(rows)
    [got] = measured(rows, [asked])
    champion, predecessor = losses(rows, CHAMPION)[CHAMPION:], losses(rows, OLD)[CHAMPION:]
    assert got["predecessor_id"] == asked["predecessor_id"]
    assert got["watched_rows"] == 40
    assert got["watched_champion_loss"] == pytest.approx(champion.mean())
    assert got["predecessor_loss"] == pytest.approx(predecessor.mean())
    differences = champion - predecessor
    largest = differences.abs().sort_values().iloc[-3]  # of 40 rows two are cut
    cut = differences.clip(-largest, largest)
    assert got["watched_difference"] == pytest.approx(cut.mean())
    r = ((cut - cut.mean()) * (cut.shift() - cut.mean())).sum() / ((cut - cut.mean()) ** 2).sum()
    r = max(r + (1 + 3 * r) / 40, 0)
    assert got["watched_difference_se"] == pytest.approx(cut.sem() * np.sqrt((1 + r) / (1 - r)))


def test_the_challenger_is_measured_against_the_predecessor_on_the_rows_of_its_comparison() -> None:
    rows = rows_of()
    [got] = measured(rows, [request(rows)])
    against, held = got["against_predecessor"], rows.index[-got["heldout_rows"] :]
    assert against["rows"] == got["heldout_rows"]
    assert against["challenger_loss"] == pytest.approx(got["challenger_loss"])
    assert against["predecessor_loss"] == pytest.approx(losses(rows, OLD)[held].mean())


def test_groups_of_one_call_have_the_numbers_that_each_has_alone() -> None:
    fleet = [rows_of(n, f'["g{n}"]') for n in (80, 100, 70)]
    requests = [request(rows) for rows in fleet]
    requests[1] = {name: value for name, value in requests[1].items() if not name.startswith("predecessor")}
    together = measured(pd.concat(fleet), requests)
    assert together == [measured(rows, [asked])[0] for rows, asked in zip(fleet, requests, strict=True)]
    assert ["watched_rows" in each for each in together] == [True, False, True]


def test_without_a_newer_row_nothing_is_measured() -> None:
    rows = rows_of(CHAMPION)
    other = replace(RECIPE, params=(("alpha", "2.0"),))  # so that the champion is not kept
    [got] = measured(rows, [request(rows)], other)
    assert not [name for name in got if "predecessor" in name or "watched" in name]


def test_a_champion_that_may_have_seen_every_row_is_not_measured() -> None:
    rows = rows_of()
    [got] = measured(rows, [request(rows) | {"champion_trained_through": pd.NaT}])
    assert "watched_rows" not in got


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"predecessor_payload": None}, "expected its codec and payload; got none"),
        ({"predecessor_signature": b"forged"}, "signature"),
    ],
)
def test_a_predecessor_that_cannot_be_read_is_noted_and_costs_no_model(changed: dict[str, Any], error: str) -> None:
    rows = rows_of()
    [got] = measured(rows, [request(rows) | changed])
    assert error in got["predecessor_error"]
    assert "watched_rows" not in got
    assert got["champion_loss"] is not None


def test_a_predecessor_is_not_called_where_one_has_ended_the_process() -> None:
    rows = rows_of()
    [got] = measured(rows, [request(rows)], replace(RECIPE, predecessor_error="Killed: by SIGSEGV"))
    assert got["predecessor_error"] == "Killed: by SIGSEGV"
    assert "watched_rows" not in got


def test_the_model_that_is_fitted_does_not_depend_on_the_predecessor() -> None:
    rows = rows_of()
    asked = request(rows)
    without = {name: value for name, value in asked.items() if not name.startswith("predecessor")}
    fits = [fit_groups(rows, pd.DataFrame([each]), RECIPE, CLOCK, SIGNER).iloc[0] for each in (asked, without)]
    stored_columns = ["model_id", "payload", "signature"]
    assert fits[0][stored_columns].tolist() == fits[1][stored_columns].tolist()
