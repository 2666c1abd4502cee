from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.config import Config, parse
from spinney.core.errors import FitFailed, TooFewRows
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fitting import fit_groups
from spinney.local.trial.fit import fit_trial
from spinney.local.trial.report_text import summary_lines, to_json
from spinney.local.trial.rows import TrialRows

TEXT = """\
[fleet]
group = ["shop"]
event_id = "sale"
event_time = "at"
target = "sold_eur"
features = ["price", "stock"]
{fleet}
[fleet.columns]
shop = "string"
price = "double"
stock = "double"
sold_eur = "{kind}"
[recipe]
{recipe}
[kafka]
events = "sales"
[storage]
root = "nowhere"
"""
START = datetime(2024, 5, 1, tzinfo=UTC)
NOW = START + timedelta(days=20)
N = 103


def configured(fleet: str = "", recipe: str = "", kind: str = "double") -> Config:
    return parse(TEXT.format(fleet=fleet, recipe=recipe, kind=kind), "fleet.toml", {})


def rows(n: int = N, labels: list[str] | None = None) -> TrialRows:
    draw = np.random.default_rng(5)
    price, stock = draw.normal(size=n), draw.normal(size=n)
    frame = pd.DataFrame(
        {
            "group_key": '["a"]',
            "event_id": [f"{at:03}" for at in range(n)],
            "event_time": pd.to_datetime([START + timedelta(hours=at) for at in range(n)]),
            "price": price,
            "stock": stock,
            "label": 3 * price - stock + 10 + draw.normal(size=n) if labels is None else labels,
        }
    )
    return TrialRows('["a"]', frame.sample(frac=1, random_state=2), NOW, "a test", {"without a label": 2})


def in_order(of: TrialRows) -> pd.DataFrame:
    return of.frame.sort_values("event_time", ignore_index=True)


def test_the_losses_are_those_of_plain_scikit_learn_on_the_newest_fifth() -> None:
    trial = fit_trial(configured(recipe='estimator = "ridge"'), rows())
    frame = in_order(rows())
    older, newest = frame[: N - 20], frame[N - 20 :]  # 103 // 5
    oracle = make_pipeline(StandardScaler(), Ridge(1.0)).fit(older[["price", "stock"]], older["label"])
    predicted = oracle.predict(frame[["price", "stock"]])
    assert (trial.rows, trial.heldout_rows) == (103, 20)
    assert trial.losses.heldout == pytest.approx(np.abs(newest["label"] - predicted[-20:]).mean(), rel=1e-9)
    assert trial.losses.train == pytest.approx(np.abs(older["label"] - predicted[:-20]).mean(), rel=1e-9)
    assert trial.losses.constant == pytest.approx(np.abs(newest["label"] - older["label"].median()).mean(), rel=1e-9)
    np.testing.assert_allclose(trial.points["predicted"], predicted, rtol=1e-9)
    assert trial.points["event_id"].tolist() == frame["event_id"].tolist()
    assert trial.points["heldout"].tolist() == [False] * 83 + [True] * 20
    np.testing.assert_allclose(trial.points["loss"], np.abs(frame["label"] - predicted), rtol=1e-9)


@pytest.mark.parametrize(
    "recipe", ["", 'weight_half_life = "1d"', "window_rows = 50", 'estimator = "hist_gradient_boosting"']
)
def test_the_model_and_its_held_out_loss_are_those_that_a_round_would_store(recipe: str) -> None:
    config = configured(recipe=recipe)
    trial = fit_trial(config, rows())
    asks = pd.DataFrame({"group_key": ['["a"]', '["b"]']})
    fleet = rows().frame
    both = pd.concat([fleet, fleet.assign(group_key='["b"]', label=1.0)])
    row = fit_groups(both, asks, Recipe.of(config), NOW, Signer(b"the fleet's own signing key"), lambda: 0.0).iloc[0]
    metrics = json.loads(row["metrics"])
    assert (trial.model_id, trial.rows, trial.codec) == (row["model_id"], row["rows"], row["codec"])
    assert trial.payload_bytes == len(row["payload"])
    assert trial.losses.heldout == metrics["challenger_loss"]
    assert trial.heldout_rows == metrics["heldout_rows"]


def test_classes_are_judged_by_the_probability_of_what_came() -> None:
    labels = ["yes" if at % 3 else "no" for at in range(N)]
    config = configured('task = "classification"', 'estimator = "logistic_regression"', "string")
    trial = fit_trial(config, rows(labels=labels))
    frame = in_order(rows(labels=labels))
    older, newest = frame[: N - 20], frame[N - 20 :]
    oracle = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(
        older[["price", "stock"]], older["label"]
    )
    given = oracle.predict_proba(frame[["price", "stock"]])
    came = given[np.arange(N), (frame["label"] == "yes").astype(int)]
    np.testing.assert_allclose(trial.points["probability"], came, rtol=1e-5)
    assert trial.losses.heldout == pytest.approx(-np.log(came[-20:]).mean(), rel=1e-5)
    share = (older["label"] == "yes").mean()
    assert trial.losses.constant == pytest.approx(
        -np.log(np.where(newest["label"] == "yes", share, 1 - share)).mean(), rel=1e-9
    )


def test_a_class_first_seen_in_the_held_out_rows_was_given_no_probability() -> None:
    labels = ["no" if at % 2 else "yes" for at in range(N - 1)] + ["perhaps"]
    config = configured('task = "classification"', 'estimator = "logistic_regression"', "string")
    assert fit_trial(config, rows(labels=labels)).points["probability"].iloc[-1] == 0


def test_what_is_beyond_the_window_is_reported_with_what_was_left_out_before() -> None:
    trial = fit_trial(configured(recipe="window_rows = 50"), rows())
    assert trial.left_out == {"without a label": 2, "beyond recipe.window or window_rows": 53}
    assert trial.trained_from == START + timedelta(hours=53)
    assert trial.trained_through == START + timedelta(hours=102)


def test_a_squared_loss_has_the_mean_to_beat() -> None:
    trial = fit_trial(configured('loss = "squared"'), rows())
    frame = in_order(rows())
    expected = ((frame["label"][N - 20 :] - frame["label"][: N - 20].mean()) ** 2).mean()
    assert trial.losses.constant == pytest.approx(expected, rel=1e-9)


def test_one_row_is_fitted_with_nothing_held_out() -> None:
    trial = fit_trial(configured(recipe="min_rows = 1"), rows(1))
    assert (trial.rows, trial.heldout_rows, trial.losses.heldout, trial.losses.constant) == (1, 0, None, None)


def test_too_few_rows_and_a_fit_that_fails_are_reported_as_a_round_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TooFewRows, match="20 rows needed"):
        fit_trial(configured(), rows(19))
    (tmp_path / "sullen.py").write_text(
        "from sklearn.linear_model import LinearRegression\n"
        "class Sullen(LinearRegression):\n"
        "    def fit(self, X, y, sample_weight=None):\n"
        "        raise RuntimeError('not today')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FitFailed, match="RuntimeError: not today"):
        fit_trial(configured(recipe='estimator = "sullen:Sullen"'), rows())


def test_of_a_short_list_of_recipes_the_one_chosen_is_reported_with_what_each_lost() -> None:
    recipe = 'estimator = "best_of"\nparams = { candidates = [{ estimator = "constant" }, { estimator = "ridge" }] }'
    trial = fit_trial(configured(recipe=recipe), rows())
    assert trial.chosen == "ridge"
    assert list(trial.candidates) == ["constant", "ridge"]
    # Both are chosen for all rows and for the older ones alone: what is drawn is the ridge.
    assert trial.losses == fit_trial(configured(recipe='estimator = "ridge"'), rows()).losses
    reported = dict(summary_lines(trial))
    assert reported["recipe"] == "best_of"
    assert reported["chosen"].startswith("ridge for the model on all rows, by the newest fifth: constant ")
    assert to_json(trial, {})["chosen"] == "ridge"
