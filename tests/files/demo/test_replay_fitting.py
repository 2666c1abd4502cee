from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from demo.replay_fitting import RecipeFitter, fleet_answers, loss_function
from spinney.core.config import parse
from spinney.core.models.signing import Signer

START = datetime(2020, 1, 1, tzinfo=UTC)
TEXT = """
[fleet]
group = ["name"]
event_id = "id"
event_time = "at"
target = "y"
features = ["x"]
[fleet.columns]
name = "string"
x = "double"
y = "double"
[recipe]
estimator = "ridge"
params = { alpha = 1e-9 }
min_rows = 5
[kafka]
events = "events"
outcomes = "outcomes"
[storage]
root = "work"
"""


@pytest.fixture
def config():
    return parse(TEXT, "fleet.toml", {})


def rows(key, count, slope):
    times = [START + timedelta(hours=at) for at in range(count)]
    xs = np.arange(count, dtype=float)
    frame = pd.DataFrame({"group_key": key, "event_id": [f"{at}" for at in range(count)], "event_time": times, "x": xs})
    frame["event_time"] = frame["event_time"].astype("datetime64[us, UTC]")
    frame["label"] = slope * xs
    return frame


def test_each_group_is_fitted_by_the_fleets_recipe_and_answers_for_itself(config):
    fitter = RecipeFitter(config, Signer(b"0" * 16))
    data = pd.concat([rows('["a"]', 20, 2.0), rows('["b"]', 20, -1.0), rows('["thin"]', 4, 1.0)], ignore_index=True)
    made = fitter.fit(data, START + timedelta(days=2))
    assert set(made) == {'["a"]', '["b"]'}  # the thin one has fewer than min_rows
    asked = pd.DataFrame({"x": [10.0, 10.0, 10.0]})
    answers = fitter.fitted.answer(asked, [made['["a"]'], made['["b"]'], None])
    assert answers[:2].astype(float) == pytest.approx([20.0, -10.0], abs=1e-3)
    assert np.isnan(loss_function(config.fleet.loss)(pd.Series([1.0, 1.0, 1.0]), answers)[2])


def test_the_loss_is_the_fleets_own(config):
    losses = loss_function(config.fleet.loss)(pd.Series([1.0, 2.0]), np.array([4.0, None], dtype=object))
    assert losses[0] == 3.0
    assert np.isnan(losses[1])


def test_the_answers_of_a_classification_are_probabilities():
    text = TEXT.replace('target = "y"', 'target = "y"\ntask = "classification"').replace('y = "double"', 'y = "string"')
    config = parse(
        text.replace('"ridge"', '"logistic_regression"').replace("params = { alpha = 1e-9 }", ""), "fleet.toml", {}
    )
    table = pd.DataFrame(
        {
            "group_key": ["g", "g"],
            "event_id": ["1", "2"],
            "prediction": ["yes", None],
            "probabilities": [[("yes", 0.5), ("no", 0.5)], None],
        }
    )
    losses = loss_function(config.fleet.loss)(
        pd.Series(["yes", "yes"]), fleet_answers(table, config.fleet.loss).to_numpy()
    )
    assert losses[0] == pytest.approx(np.log(2))
    assert np.isnan(losses[1])


def test_nothing_to_fit_is_no_model(config):
    fitter = RecipeFitter(config, Signer(b"0" * 16))
    assert fitter.fit(rows('["a"]', 0, 1.0), START) == {}


def test_a_parent_is_fitted_on_a_capped_sample_that_does_not_depend_on_order(config):
    recipe = config.recipe.model_copy(update={"parents": config.recipe.parents.model_copy(update={"max_rows": 7})})
    fitter = RecipeFitter(config.model_copy(update={"recipe": recipe}), Signer(b"0" * 16))
    data = pd.concat([rows("{}", 30, 1.0), rows('["a"]', 30, 1.0)], ignore_index=True)
    kept = fitter._capped(data)
    assert kept["group_key"].value_counts().to_dict() == {'["a"]': 30, "{}": 7}
    turned = fitter._capped(data.iloc[::-1].reset_index(drop=True))
    assert set(turned.loc[turned["group_key"] == "{}", "event_id"]) == set(
        kept.loc[kept["group_key"] == "{}", "event_id"]
    )
