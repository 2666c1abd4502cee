"""Pooled groups are named by their parent's model too, and are kept only while that is the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spinney.core.models.codec import load
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training.fit_attempt import model_id_of
from spinney.core.training.fitting import fit_groups
from spinney.core.training.loaded_parent_models import UNREAD_PRIOR
from spinney.core.training.training_set import select_training_set

START = datetime(2024, 1, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=30)
SIGNER = Signer(b"k" * 32)
POOLED = Recipe(
    estimator="ridge", params=(), features=(Feature("x", "double"),), target=Feature("y", "double"), task="regression",
    loss="absolute", min_rows=1, window_rows=2000, window=timedelta(days=90), pooling_rows=1e12,
)  # fmt: skip
UNPOOLED = replace(POOLED, pooling_rows=None)
KEY = '["a"]'


def rows_of(key: str, n: int, slope: float) -> pd.DataFrame:
    """One event an hour from START."""
    x = np.random.default_rng(n).normal(size=n)
    times = pd.Series([START + timedelta(hours=i) for i in range(n)]).astype("datetime64[us, UTC]")
    ids = [f"e{i}" for i in range(n)]
    return pd.DataFrame({"group_key": key, "event_id": ids, "event_time": times, "x": x, "label": 1 + slope * x})


def fit(rows: pd.DataFrame, requests: pd.DataFrame, recipe: Recipe = POOLED) -> pd.Series[Any]:
    return fit_groups(rows, requests, recipe, CLOCK, SIGNER).iloc[0]


def parent(slope: float, recipe: Recipe = POOLED) -> pd.Series[Any]:
    return fit(rows_of("{}", 50, slope), pd.DataFrame({"group_key": ["{}"]}), recipe)


def columns(role: str, model: pd.Series[Any]) -> dict[str, Any]:
    names = ("codec", "payload", "signature", "trained_through", "recipe_id")
    return {f"{role}_id": [model["model_id"]], **{f"{role}_{name}": [model[name]] for name in names}}


def request(of_parent: pd.Series[Any] | None = None, champion: pd.Series[Any] | None = None) -> pd.DataFrame:
    found: dict[str, Any] = {"group_key": [KEY]}
    if of_parent is not None:
        found |= {"parent_key": ["{}"], **columns("parent", of_parent)}
    return pd.DataFrame(found if champion is None else found | columns("champion", champion))


GROUP = rows_of(KEY, 10, 7.0)


def test_the_id_of_the_parents_model_is_part_of_the_groups_and_is_stored() -> None:
    theirs = parent(3.0)
    made = fit(GROUP, request(theirs))
    fingerprint = select_training_set(GROUP, [KEY], POOLED, CLOCK).fingerprint(0)
    assert made["model_id"] == model_id_of(KEY, fingerprint, POOLED.recipe_id, theirs["model_id"])
    assert made["parent_model_id"] == theirs["model_id"]
    alone = fit(GROUP, request())
    assert alone["parent_model_id"] is None
    assert alone["model_id"] == model_id_of(KEY, fingerprint, POOLED.recipe_id)


def test_a_prior_of_very_many_rows_is_the_groups_model() -> None:
    theirs = parent(3.0)
    made = fit(GROUP, request(theirs))
    np.testing.assert_allclose(
        load(made["codec"], made["payload"]).predict(GROUP), load(theirs["codec"], theirs["payload"]).predict(GROUP)
    )


def test_a_champion_is_kept_only_if_its_rows_and_its_prior_are_the_same() -> None:
    first, second = parent(3.0), parent(4.0)
    champion = fit(GROUP, request(first))
    assert fit(GROUP, request(first, champion))["status"] == "kept"
    refitted = fit(GROUP, request(second, champion))
    assert (refitted["status"], refitted["parent_model_id"]) == ("fitted", second["model_id"])
    assert fit(GROUP, request(None, champion))["status"] == "fitted"


def test_a_single_row_is_enough_for_a_pooled_group() -> None:
    made = fit(GROUP.head(1), request(parent(3.0)))
    assert made["status"] == "fitted"
    assert np.isfinite(load(made["codec"], made["payload"]).predict(GROUP)).all()


@pytest.mark.parametrize(
    "recipe",
    [
        replace(UNPOOLED, estimator="random_forest", params=(("n_estimators", "2"),)),
        replace(UNPOOLED, features=(Feature("label", "double"),)),
    ],
)
def test_a_parent_that_is_not_linear_or_of_other_features_is_no_prior(recipe: Recipe) -> None:
    made = fit(GROUP, request(parent(3.0, recipe)))
    assert (made["status"], made["parent_model_id"]) == ("fitted", None)
    assert made["model_id"] == fit(GROUP, request())["model_id"]


@pytest.mark.parametrize(
    ("change", "error"),
    [({"parent_signature": [b"x" * 32]}, "signature"), ({"parent_payload": [None]}, "expected its codec and payload")],
)
def test_a_group_whose_prior_cannot_be_loaded_fails_and_keeps_its_champion(change: dict[str, Any], error: str) -> None:
    theirs = parent(3.0)
    for champion in (None, fit(GROUP, request(theirs)), fit(GROUP, request())):
        made = fit(GROUP, request(theirs, champion).assign(**change))
        assert (made["status"], made["error_class"], made["model_id"]) == ("failed", UNREAD_PRIOR, None)
        assert error in made["error"]


def test_a_group_of_too_few_rows_fails_for_that_whatever_its_prior_is() -> None:
    requests = request(parent(3.0)).assign(parent_payload=[None])
    assert fit(GROUP.head(1), requests, replace(POOLED, min_rows=2))["status"] == "too_few_rows"


def test_what_no_comparison_may_call_is_a_prior_all_the_same() -> None:
    theirs = parent(3.0)
    named = ((theirs["model_id"], "killed"),)
    made = fit(GROUP, request(theirs), replace(POOLED, champion_error="killed", unasked_parents=named))
    assert made["model_id"] == fit(GROUP, request(theirs))["model_id"]
    unread = fit(GROUP, request(theirs), replace(POOLED, unread_parents=named))
    assert (unread["status"], unread["error"]) == ("failed", "killed")


def test_a_failed_fit_names_no_prior() -> None:
    endless = GROUP.assign(label=1e308)
    made = fit(endless, request(parent(3.0)))
    assert (made["status"], made["parent_model_id"]) == ("failed", None)


def test_a_recipe_that_does_not_pool_has_no_prior() -> None:
    made = fit(GROUP, request(parent(3.0)), UNPOOLED)
    assert made["parent_model_id"] is None
    assert made["model_id"] == fit(GROUP, request(), UNPOOLED)["model_id"]
