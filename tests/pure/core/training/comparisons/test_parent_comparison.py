"""A first model is measured against the model of its parent, on rows that the latter was not fitted on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recipes import RIDGE

from spinney.core.models.codec import load
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training import current_group
from spinney.core.training.comparisons.parent_comparison import NO_ANSWER, NOTHING_NEWER
from spinney.core.training.fitting import fit_groups

START = datetime(2024, 1, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=30)
SIGNER = Signer(b"k" * 32)
RECIPE = replace(RIDGE, params=())
GLOBAL = "{}"


def rows_of(key: str, n: int = 40) -> pd.DataFrame:
    """One event an hour from START."""
    random = np.random.default_rng([n, *key.encode()])
    x = random.normal(size=n)
    times = pd.Series([START + timedelta(hours=i) for i in range(n)]).astype("datetime64[us, UTC]")
    return pd.DataFrame({"group_key": key, "event_id": [f"e{i:03}" for i in range(n)], "event_time": times, "x": x,
                         "label": 3 * x + random.normal(size=n)})  # fmt: skip


def parent_fitted_on(hours: int) -> pd.Series[Any]:
    """The global model, fitted on the first hours of another group."""
    rows = rows_of('["other"]').head(hours).assign(group_key=GLOBAL)
    return fit_groups(rows, pd.DataFrame({"group_key": [GLOBAL]}), RECIPE, CLOCK, SIGNER).iloc[0]


def request(parent: pd.Series[Any], *keys: str, **changes: Any) -> pd.DataFrame:
    columns = {
        "parent_key": GLOBAL, "parent_id": parent["model_id"], "parent_codec": parent["codec"],
        "parent_payload": parent["payload"], "parent_signature": parent["signature"],
        "parent_trained_through": parent["trained_through"], "parent_recipe_id": parent["recipe_id"],
    }  # fmt: skip
    return pd.DataFrame({"group_key": list(keys)}).assign(**columns | changes)


def fit(rows: pd.DataFrame, requests: pd.DataFrame, recipe: Recipe = RECIPE) -> list[dict[str, Any]]:
    return [json.loads(text) for text in fit_groups(rows, requests, recipe, CLOCK, SIGNER)["metrics"]]


def parent_losses(parent: pd.Series[Any], rows: pd.DataFrame) -> pd.Series[Any]:
    return (rows["label"] - load(parent["codec"], parent["payload"]).predict(rows)).abs()


def test_a_first_model_and_its_parents_are_measured_on_the_same_held_out_rows() -> None:
    rows, parent = rows_of('["a"]'), parent_fitted_on(20)
    (found,) = fit(rows, request(parent, '["a"]'))
    older = rows.head(32)
    own = load(
        *fit_groups(older, pd.DataFrame({"group_key": ['["a"]']}), RECIPE, CLOCK, SIGNER).iloc[0][["codec", "payload"]]
    )
    mine, theirs = (rows["label"] - own.predict(rows)).abs()[32:], parent_losses(parent, rows)[32:]
    difference = mine - theirs
    assert found["parent"] == {
        "model_id": parent["model_id"],
        "group_key": GLOBAL,
        "rows": 8,
        "challenger_loss": pytest.approx(mine.mean()),
        "loss": pytest.approx(theirs.mean()),
        "difference": pytest.approx(difference.mean()),
        "difference_se": pytest.approx(difference.std(ddof=1) / math.sqrt(8)),
    }


def test_only_rows_newer_than_the_parents_model_are_compared() -> None:
    rows, parent = rows_of('["a"]'), parent_fitted_on(37)  # through hour 36, so hours 37 to 39 are newer
    (found,) = fit(rows, request(parent, '["a"]'))
    assert found["parent"]["rows"] == 3
    assert found["parent"]["loss"] == pytest.approx(parent_losses(parent, rows)[37:].mean())
    assert found["heldout_rows"] == 8


def test_without_newer_rows_it_is_reported_that_nothing_was_compared() -> None:
    parent = parent_fitted_on(40)
    (found,) = fit(rows_of('["a"]'), request(parent, '["a"]'))
    named = {"model_id": parent["model_id"], "group_key": GLOBAL, "rows": 0}
    assert found["parent"] == named | {"error": NOTHING_NEWER}


@pytest.mark.parametrize(
    ("change", "error"),
    [({"parent_signature": b"x" * 32}, "signature"), ({"parent_payload": None}, "expected its codec and payload")],
)
def test_a_parents_model_that_cannot_be_read_costs_the_comparison_only(change: dict[str, Any], error: str) -> None:
    requests = request(parent_fitted_on(20), '["a"]', **change)
    (result,) = fit_groups(rows_of('["a"]'), requests, RECIPE, CLOCK, SIGNER).to_dict("records")
    assert result["status"] == "fitted"
    assert error in json.loads(result["metrics"])["parent"]["error"]


def test_a_parents_model_without_a_finite_prediction_is_not_compared() -> None:
    rows = rows_of('["other"]').head(20).assign(group_key=GLOBAL)
    huge = rows.assign(label=rows["label"] * 1e300)
    parent = fit_groups(huge, pd.DataFrame({"group_key": [GLOBAL]}), RECIPE, CLOCK, SIGNER).iloc[0]
    group = rows_of('["a"]')
    group.loc[32:, "x"] = 1e10
    (found,) = fit(group, request(parent, '["a"]'))
    assert found["parent"]["error"] == NO_ANSWER


def test_a_group_with_a_champion_is_not_compared_with_its_parent() -> None:
    champion = fit_groups(
        rows_of('["a"]').head(30), pd.DataFrame({"group_key": ['["a"]']}), RECIPE, CLOCK, SIGNER
    ).iloc[0]
    names = ("codec", "payload", "signature", "trained_through", "recipe_id")
    with_champion = request(parent_fitted_on(20), '["a"]').assign(
        champion_id=champion["model_id"], **{f"champion_{name}": [champion[name]] for name in names}
    )
    (found,) = fit(rows_of('["a"]'), with_champion)
    assert "parent" not in found


def test_a_parent_of_many_groups_is_read_once() -> None:
    keys = [f'["g{n}"]' for n in range(5)]
    rows = pd.concat([rows_of(key, 20 + n) for n, key in enumerate(keys)], ignore_index=True)
    heard: list[tuple[str | None, str]] = []
    with current_group.reported_to(lambda key, activity: heard.append((key, activity))):
        found = fit(rows, request(parent_fitted_on(10), *keys))
    assert [activity for _, activity in heard].count(current_group.READ_PARENT) == 1
    assert [each["parent"]["rows"] for each in found] == [4] * 5


@pytest.mark.parametrize("name", ["unread_parents", "unasked_parents"])
def test_a_parents_model_that_killed_a_worker_is_not_compared_and_any_other_is(name: str) -> None:
    parent, other = parent_fitted_on(20), parent_fitted_on(21)
    killed = replace(RECIPE, **{name: ((parent["model_id"], "its process was killed"),)})
    (found,) = fit(rows_of('["a"]'), request(parent, '["a"]'), killed)
    assert (found["parent"]["rows"], found["parent"]["error"]) == (0, "its process was killed")
    (found,) = fit(rows_of('["a"]'), request(other, '["a"]'), killed)
    assert found["parent"]["rows"] == 8


def test_a_parent_is_compared_though_no_champion_may_be_called() -> None:
    (found,) = fit(rows_of('["a"]'), request(parent_fitted_on(20), '["a"]'), replace(RECIPE, champion_error="killed"))
    assert found["parent"]["rows"] == 8
