from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recipes import RIDGE
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from schemas.vocabulary import Decision
from spinney.core.champions.gate import decide
from spinney.core.champions.held_out_loss_codec import pack
from spinney.core.config import Gate
from spinney.core.errors import ContractError, TimedOut
from spinney.core.models.codec import load
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training import current_group
from spinney.core.training.comparisons.reference_losses import UnseenRows, earlier_answers
from spinney.core.training.fit_attempt import COLUMNS, FitAttempt, failed_result
from spinney.core.training.fit_request import FitRequest
from spinney.core.training.fitting import fit_groups

START = datetime(2024, 1, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=30)
SIGNER = Signer(b"k" * 32)
RECIPE = replace(RIDGE, features=(Feature("x", "double"), Feature("z", "double")))
CLASSES = replace(
    RECIPE, estimator="logistic_regression", params=(), target=Feature("y", "string"), task="classification", loss="log"
)


def rows_of(key: str, n: int = 40, seed: int = 1, hours: float = 1.0) -> pd.DataFrame:
    """An event an hour from START."""
    random = np.random.default_rng([seed, *key.encode()])
    frame = pd.DataFrame(random.normal(size=(n, 2)), columns=["x", "z"])
    frame["label"] = 3 * frame["x"] - frame["z"] + random.normal(size=n) * 0.1
    frame["group_key"] = key
    frame["event_id"] = [f"e{i:03}" for i in range(n)]
    frame["event_time"] = pd.Series([START + timedelta(hours=hours * i) for i in range(n)]).astype(
        "datetime64[us, UTC]"
    )
    return frame


def fleet(groups: int = 5, n: int = 40) -> pd.DataFrame:
    return pd.concat([rows_of(f'["g{g}"]', n + g) for g in range(groups)], ignore_index=True)


def ask(*keys: str, **champion: Any) -> pd.DataFrame:
    return pd.DataFrame({"group_key": list(keys), **{f"champion_{name}": [value] for name, value in champion.items()}})


def champion_of(row: pd.Series[Any]) -> dict[str, Any]:
    names = {"id": "model_id", "codec": "codec", "payload": "payload", "signature": "signature"}
    return {name: row[column] for name, column in names.items()} | {"trained_through": row["trained_through"]}


def fit(rows: pd.DataFrame, asks: pd.DataFrame, recipe: Recipe = RECIPE, clock: datetime = CLOCK) -> pd.DataFrame:
    return fit_groups(rows, asks, recipe, clock, SIGNER)


def one(rows: pd.DataFrame, recipe: Recipe = RECIPE, **champion: Any) -> pd.Series[Any]:
    result = fit(rows, ask(rows["group_key"].iloc[0], **champion), recipe)
    assert len(result) == 1
    return result.iloc[0]


def metrics(row: pd.Series[Any]) -> dict[str, Any]:
    return dict(json.loads(row["metrics"]))


def oracle(rows: pd.DataFrame) -> Any:
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(alpha=1.0))
    return pipeline.fit(rows[["x", "z"]].to_numpy(), rows["label"].to_numpy())


def oracle_loss(fitted_on: pd.DataFrame, measured_on: pd.DataFrame) -> float:
    answers = oracle(fitted_on).predict(measured_on[["x", "z"]].to_numpy())
    return float(np.abs(measured_on["label"].to_numpy() - answers).mean())


def test_a_group_is_fitted_as_plain_pandas_and_scikit_learn_would() -> None:
    rows = rows_of('["a"]')
    row = one(rows)
    assert row["status"] == "fitted"
    assert row["rows"] == 40
    assert row["trained_from"] == pd.Timestamp(START)
    assert row["trained_through"] == pd.Timestamp(START + timedelta(hours=39))
    assert row["recipe_id"] == RECIPE.recipe_id
    model = load(row["codec"], row["payload"])
    np.testing.assert_allclose(model.predict(rows), oracle(rows).predict(rows[["x", "z"]].to_numpy()), rtol=1e-6)
    mine = np.abs(rows["label"][32:] - oracle(rows[:32]).predict(rows[32:][["x", "z"]].to_numpy()))
    differences = mine - (rows["label"][32:] - rows["label"][:32].median()).abs()
    assert metrics(row) == {
        "heldout_rows": 8,
        "challenger_loss": pytest.approx(oracle_loss(rows[:32], rows[32:])),
        "constant_loss": pytest.approx((rows["label"][32:] - rows["label"][:32].median()).abs().mean()),
        "constant_difference": pytest.approx(differences.mean()),
        "constant_difference_se": pytest.approx(differences.std(ddof=1) / math.sqrt(8)),
        "champion_loss": None,
        "champion_difference": None,
        "champion_difference_se": None,
        "jump": None,
        "champion_id": None,
        "train_loss": pytest.approx(oracle_loss(rows, rows)),
    }


def test_at_most_half_of_the_rows_that_are_new_to_the_champion_are_held_out() -> None:
    rows = rows_of('["a"]', n=40)
    held = {known: metrics(one(rows, **champion_of(one(rows[:known]))))["heldout_rows"] for known in (20, 24, 35, 39)}
    assert held == {20: 8, 24: 8, 35: 3, 39: 1}  # of 20, 16, 5 and 1 new rows; a fifth of the 40 rows at most


def test_the_stored_losses_go_on_from_the_champions_and_from_its_own_on_new_rows() -> None:
    rows = rows_of('["a"]', n=50)
    first = one(rows[:44])
    second = one(rows, **champion_of(first), heldout_losses=first["heldout_losses"])

    def losses(fitted_on: int, begin: int, stop: int) -> list[float]:
        answers = oracle(rows[:fitted_on]).predict(rows[begin:stop][["x", "z"]].to_numpy())
        return np.abs(rows["label"][begin:stop].to_numpy() - answers).tolist()

    # Ten rows count: of three the challenger's losses, of three the champion's, and the newest four that it came with.
    expected = [*losses(36, 40, 44), *losses(44, 44, 47), *losses(47, 47, 50)]
    np.testing.assert_allclose(second["heldout_losses"], expected, rtol=1e-5)


def test_the_prequential_losses_go_on_with_the_champions_on_all_rows_that_it_had_not_seen() -> None:
    rows = rows_of('["a"]', n=50)
    first = one(rows[:44])
    second = one(rows, **champion_of(first), prequential_losses=first["prequential_losses"])
    kept, of_earlier_version = one(rows, **champion_of(first)), one(rows, **champion_of(first), heldout_losses=[7.0])

    def losses(fitted_on: int, begin: int) -> list[float]:
        answers = oracle(rows[:fitted_on]).predict(rows[begin:][["x", "z"]].to_numpy())
        return np.abs(rows["label"][begin:].to_numpy() - answers).tolist()

    np.testing.assert_allclose(first["prequential_losses"], losses(36, 36)[:8], rtol=1e-5)
    np.testing.assert_allclose(second["prequential_losses"], [*losses(36, 36)[:8], *losses(44, 44)], rtol=1e-5)
    np.testing.assert_allclose(of_earlier_version["prequential_losses"], [7.0, *losses(44, 44)], rtol=1e-5)
    np.testing.assert_allclose(kept["prequential_losses"], losses(47, 47), rtol=1e-5)  # none is stored: its own


def test_the_losses_of_a_champion_that_is_shown_to_be_worse_are_prequential_losses_too() -> None:
    rows = rows_of('["a"]', n=120)
    rows.loc[80:, "label"] += 50.0
    first = one(rows[:80])
    carried = {name: first[name] for name in ("heldout_losses", "prequential_losses")}
    second = one(rows, **champion_of(first), **carried)
    assert len(first["prequential_losses"]) == 16
    assert len(second["heldout_losses"]) == 20  # the challenger's own only, on half of the new rows
    # The champion is measured on a fifth of the rows, 24, of which 32 * 24 / 60 = 12.8 count: 13 evenly spaced ones.
    newest = rows[96:].iloc[[0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23]]
    expected = np.abs(newest["label"].to_numpy() - oracle(rows[:80]).predict(newest[["x", "z"]].to_numpy()))
    np.testing.assert_allclose(second["prequential_losses"], [*first["prequential_losses"], *expected], rtol=1e-5)


def test_prequential_losses_begin_anew_with_another_recipe_and_classes_have_none() -> None:
    rows = rows_of('["a"]', n=50)
    first = one(rows[:44])
    other = {**champion_of(first), "recipe_id": "another"}
    second = one(rows, **other, prequential_losses=first["prequential_losses"])
    np.testing.assert_allclose(second["prequential_losses"], second["heldout_losses"])
    assert len(second["prequential_losses"]) == 3
    rows["label"] = np.where(rows["label"] > rows["label"].median(), "high", "low")
    assert one(rows, CLASSES)["prequential_losses"] is None


@pytest.mark.parametrize(("name", "stored"), [(None, [1.0, 2.5]), ("absolute", [1.0, 2.5]), ("squared", [])])
def test_stored_losses_of_another_loss_do_not_go_on(name: str | None, stored: list[float]) -> None:
    request = FitRequest('["a"]', "m", None, None, None, 0, heldout_losses=pack([1.0, 2.5], name))
    before = UnseenRows(np.array([3.0, np.nan, 4.0]), np.array([30.0, np.nan, 40.0]))
    found = earlier_answers(FitAttempt(request, 0, 10), before, "absolute")
    assert found.losses.tolist() == [*stored, 3.0, 4.0]
    assert found.predictions.tolist() == [30.0, 40.0]


def test_the_stored_predictions_are_of_the_same_rows_by_the_same_models_as_the_stored_losses() -> None:
    rows = rows_of('["a"]', n=50)
    first = one(rows[:44])
    carried = {name: first[name] for name in ("heldout_losses", "heldout_predictions")}
    second = one(rows, **champion_of(first), **carried)
    parts = ((36, 40, 44), (44, 44, 47), (47, 47, 50))  # fitted on, and the rows predicted: see the test before
    expected = [oracle(rows[:fitted]).predict(rows[begin:stop][["x", "z"]].to_numpy()) for fitted, begin, stop in parts]
    np.testing.assert_allclose(second["heldout_predictions"], np.concatenate(expected), rtol=1e-5)
    of_earlier_version = one(rows, **champion_of(first), heldout_losses=first["heldout_losses"])
    np.testing.assert_allclose(of_earlier_version["heldout_predictions"], np.concatenate(expected[1:]), rtol=1e-5)
    assert len(of_earlier_version["heldout_losses"]) == 10


def test_of_classes_the_largest_probability_for_the_held_out_rows_is_stored_too() -> None:
    rows = rows_of('["a"]', n=20)
    rows["label"] = np.where(rows["label"] > rows["label"].median(), "high", "low")
    features = rows[["x", "z"]].to_numpy()
    other = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[:16], rows["label"][:16])
    expected = other.predict_proba(features[16:]).max(axis=1)
    np.testing.assert_allclose(one(rows, CLASSES)["heldout_predictions"], expected, rtol=1e-3)


def test_the_losses_of_32_held_out_rows_spread_evenly_are_stored_with_the_model_oldest_first() -> None:
    rows = rows_of('["a"]', n=315)  # the newest 63 are held out: every second of them
    answers = oracle(rows[:252]).predict(rows[252::2][["x", "z"]].to_numpy())
    expected = np.abs(rows["label"][252::2].to_numpy() - answers)
    assert len(expected) == 32
    np.testing.assert_allclose(one(rows)["heldout_losses"], expected, rtol=1e-6)
    assert len(one(rows_of('["a"]'))["heldout_losses"]) == 8


def test_32_predictions_of_the_final_model_on_its_training_rows_of_evenly_spaced_ranks_are_stored_with_it() -> None:
    rows = rows_of('["a"]', n=63)
    expected = np.sort(oracle(rows).predict(rows[["x", "z"]].to_numpy()))[::2]
    assert len(expected) == 32
    np.testing.assert_allclose(one(rows)["training_predictions"], expected, rtol=1e-6)
    assert len(one(rows_of('["a"]', n=20))["training_predictions"]) == 20
    assert one(rows_of('["a"]', n=4))["training_predictions"] is None


def test_of_classes_the_largest_probability_on_the_training_rows_is_stored() -> None:
    rows = rows_of('["a"]', n=20)
    rows["label"] = np.where(rows["label"] > rows["label"].median(), "high", "low")
    row = one(rows, CLASSES)
    other = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[["x", "z"]].to_numpy(), rows["label"])
    expected = np.sort(other.predict_proba(rows[["x", "z"]].to_numpy()).max(axis=1))
    np.testing.assert_allclose(row["training_predictions"], expected, rtol=1e-3)


def test_a_group_that_was_not_measured_has_no_held_out_losses_and_predictions() -> None:
    row = one(rows_of('["a"]', n=4))
    assert row["heldout_losses"] is None
    assert row["heldout_predictions"] is None


def test_the_result_is_one_row_per_ask_in_their_order_with_the_columns_of_the_contract() -> None:
    keys = ['["g3"]', '["nobody"]', '["g0"]']
    result = fit(fleet(), ask(*keys))
    assert list(result.columns) == list(COLUMNS)
    assert result["group_key"].tolist() == keys
    assert result["status"].tolist() == ["fitted", "too_few_rows", "fitted"]
    assert str(result["trained_through"].dtype) == "datetime64[us, UTC]"
    assert result["parent_model_id"].isna().all()


def test_nothing_asked_is_nothing_done() -> None:
    result = fit(fleet(), ask())
    assert (len(result), list(result.columns)) == (0, list(COLUMNS))


def test_no_rows_at_all_are_too_few() -> None:
    result = fit(fleet().head(0), ask('["g0"]', '["g1"]'))
    assert result["status"].tolist() == ["too_few_rows"] * 2
    assert result["error_class"].tolist() == ["TooFewRows"] * 2
    assert result["error"].iloc[0] == 'group ["g0"]: 5 rows needed (recipe.min_rows), 0 there'
    assert result["trained_through"].isna().all()


@pytest.mark.parametrize("n", [1, 2, 4])
def test_fewer_rows_than_the_recipe_asks_are_not_fitted(n: int) -> None:
    row = one(rows_of('["a"]', n))
    assert (row["status"], row["rows"], row["model_id"], row["payload"]) == ("too_few_rows", n, None, None)


def test_one_row_is_fitted_where_the_recipe_allows_it_without_any_evidence() -> None:
    row = one(rows_of('["a"]', 1), replace(RECIPE, min_rows=1))
    assert row["status"] == "fitted"
    assert (metrics(row)["heldout_rows"], metrics(row)["challenger_loss"]) == (0, None)


def test_fifty_groups_together_give_the_same_bytes_as_each_alone_in_any_row_order() -> None:
    rows = fleet(50, 20)
    keys = [f'["g{g}"]' for g in range(50)]
    together = fit(rows, ask(*keys))
    backwards = fit(rows.sample(frac=1, random_state=3), ask(*keys[::-1]))[::-1].reset_index(drop=True)
    shuffled = rows.sample(frac=1, random_state=4)
    alone = pd.concat([fit(shuffled[shuffled["group_key"] == key], ask(key)) for key in keys], ignore_index=True)
    for other in (backwards, alone):
        pd.testing.assert_frame_equal(together.drop(columns="fit_ms"), other.drop(columns="fit_ms"))
    assert together["status"].eq("fitted").all()


def test_the_default_kernel_does_not_depend_on_neighbours_either() -> None:
    recipe = replace(RECIPE, estimator="random_forest", params=(("n_estimators", "3"),))
    rows = fleet(3, 20)
    together = fit(rows, ask('["g0"]', '["g1"]', '["g2"]'), recipe)
    alone = fit(rows.sample(frac=1, random_state=4), ask('["g1"]'), recipe)
    for name in ("model_id", "payload", "signature", "metrics"):
        assert together[name].iloc[1] == alone[name].iloc[0]


@pytest.mark.parametrize("estimator", ["ridge", "constant", "hist_gradient_boosting"])
def test_strings_and_times_are_features_like_others(estimator: str) -> None:
    rows = rows_of('["a"]')
    rows["s"] = ["u", "v", None, "w"] * 10
    features = (*RECIPE.features, Feature("s", "string"), Feature("event_time", "timestamp"))
    row = one(rows, replace(RECIPE, estimator=estimator, params=(), features=features))
    assert row["status"] == "fitted"
    assert np.isfinite(load(row["codec"], row["payload"]).predict(rows)).all()


def test_arguments_are_left_unchanged() -> None:
    rows = fleet(3)
    rows.loc[::9, "x"] = math.inf
    rows.loc[::7, "label"] = np.nan
    asks = ask('["g0"]', '["g1"]')
    before = rows.copy(deep=True), asks.copy(deep=True)
    fit(rows, asks)
    fit(rows, asks, replace(RECIPE, estimator="random_forest", params=(("n_estimators", "2"),)))
    pd.testing.assert_frame_equal(rows, before[0])
    pd.testing.assert_frame_equal(asks, before[1])


# Names


def test_the_champions_own_rows_and_recipe_are_kept_and_not_fitted() -> None:
    rows = rows_of('["a"]')
    first = one(rows)
    again = one(rows.sample(frac=1, random_state=1), **champion_of(first))
    assert (again["status"], again["model_id"]) == ("kept", first["model_id"])
    assert again["payload"] is None
    assert again["fit_ms"] == 0


@pytest.mark.parametrize("column", ["x", "label", "event_id", "event_time"])
def test_any_change_of_a_row_is_another_model(column: str) -> None:
    rows = rows_of('["a"]')
    changed = rows.copy()
    values: dict[str, Any] = {
        "x": 0.5,
        "label": 0.5,
        "event_id": "other",
        "event_time": pd.Timestamp(START) + pd.Timedelta(1, "us"),
    }
    changed.loc[0, column] = values[column]
    assert one(changed)["model_id"] != one(rows)["model_id"]


def test_a_column_that_the_recipe_does_not_use_changes_nothing() -> None:
    rows = rows_of('["a"]')
    assert one(rows.assign(other=1.0))["model_id"] == one(rows)["model_id"]


def test_another_recipe_or_group_is_another_model() -> None:
    rows = rows_of('["a"]')
    ids = {
        one(rows)["model_id"],
        one(rows, replace(RECIPE, params=(("alpha", "2.0"),)))["model_id"],
        one(rows.assign(group_key='["b"]'))["model_id"],
    }
    assert len(ids) == 3


def test_missing_and_infinite_features_are_the_same_null() -> None:
    rows = rows_of('["a"]')
    payloads = set()
    for nothing in (np.nan, math.inf, -math.inf, None):
        changed = rows.copy()
        changed.loc[3, "x"] = nothing
        row = one(changed)
        payloads.add((row["model_id"], row["payload"]))
    assert len(payloads) == 1


# Rows


def test_rows_without_a_finite_label_do_not_count() -> None:
    rows = rows_of('["a"]', 12)
    rows.loc[[0, 5], "label"] = np.nan
    rows.loc[7, "label"] = math.inf
    row = one(rows)
    assert row["rows"] == 9
    assert row["trained_from"] == pd.Timestamp(START + timedelta(hours=1))
    assert row["payload"] == one(rows.drop(index=[0, 5, 7]))["payload"]


def test_the_second_row_of_an_event_is_left_out() -> None:
    rows = rows_of('["a"]', 10)
    late = rows.iloc[[4]].assign(label=99.0, event_time=rows["event_time"].iloc[9] + pd.Timedelta("1h"))
    both = pd.concat([late, rows])
    row, plain = one(both), one(rows)
    assert row["rows"] == 10
    assert (row["model_id"], row["payload"]) == (plain["model_id"], plain["payload"])


@pytest.mark.parametrize("column", ["label", "x", "s"])
def test_copies_of_an_event_at_one_time_give_one_answer_in_any_order(column: str) -> None:
    rows = rows_of('["a"]', 10).assign(s="u")
    copies = pd.concat([rows, rows.iloc[[4]].assign(**{column: "w" if column == "s" else 9.0})])
    recipe = replace(RECIPE, features=(*RECIPE.features, Feature("s", "string")))
    ids = {one(copies.sample(frac=1, random_state=seed), recipe)["model_id"] for seed in range(10)}
    assert len(ids) == 1


def test_events_of_one_time_are_ordered_by_their_ids() -> None:
    rows = rows_of('["a"]', 30, hours=0.0)
    results = {one(rows.sample(frac=1, random_state=seed))[["model_id", "metrics"]].to_json() for seed in range(5)}
    assert len(results) == 1
    assert metrics(one(rows))["challenger_loss"] == pytest.approx(oracle_loss(rows[:24], rows[24:]))


def test_only_the_newest_rows_within_the_window_are_fitted() -> None:
    rows = rows_of('["a"]', 40, hours=24.0)
    row = one(rows, replace(RECIPE, window_rows=10))
    assert (row["rows"], row["trained_from"]) == (10, pd.Timestamp(START + timedelta(days=30)))
    # The clock stands at day 30: from day 23 on.
    row = one(rows, replace(RECIPE, window=timedelta(days=7)))
    assert (row["rows"], row["trained_from"]) == (17, pd.Timestamp(START + timedelta(days=23)))


def test_a_later_clock_with_the_same_rows_is_the_same_model() -> None:
    rows = rows_of('["a"]')
    recipe = replace(RECIPE, weight_half_life=timedelta(hours=10))
    one_, other = (fit(rows, ask('["a"]'), recipe, CLOCK + timedelta(days=d)).iloc[0] for d in (0, 20))
    assert (one_["model_id"], one_["payload"]) == (other["model_id"], other["payload"])


def test_a_row_as_old_as_the_half_life_weighs_half() -> None:
    rows = rows_of('["a"]')
    row = one(rows, replace(RECIPE, weight_half_life=timedelta(hours=10)))
    weights = 0.5 ** (np.arange(39, -1, -1) / 10)
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(alpha=1.0))
    x = rows[["x", "z"]].to_numpy()
    expected = pipeline.fit(x, rows["label"], ridge__sample_weight=weights).predict(x)
    np.testing.assert_allclose(load(row["codec"], row["payload"]).predict(rows), expected, rtol=1e-6)


def test_a_rows_age_is_counted_from_its_own_groups_newest() -> None:
    late = rows_of('["b"]').assign(event_time=lambda frame: frame["event_time"] + pd.Timedelta("9D"))
    recipe = replace(RECIPE, weight_half_life=timedelta(hours=10))
    together = fit(pd.concat([rows_of('["a"]'), late]), ask('["a"]', '["b"]'), recipe)
    assert together["payload"].iloc[0] == one(rows_of('["a"]'), recipe)["payload"]


# Champions


def test_losses_of_a_champion_that_is_shown_to_be_worse_are_not_stored_with_the_next_one() -> None:
    rows = rows_of('["a"]', 80)
    first = one(rows[:50])
    changed = rows.assign(label=rows["label"].where(np.arange(80) < 50, rows["label"] + 100))
    second = one(changed, **champion_of(first), heldout_losses=first["heldout_losses"])
    assert metrics(second)["champion_loss"] > metrics(second)["challenger_loss"] + 20
    answers = oracle(changed[:65]).predict(changed[65:][["x", "z"]].to_numpy())  # of the 30 new rows 15 are held out
    np.testing.assert_allclose(second["heldout_losses"], np.abs(changed["label"][65:] - answers), rtol=1e-5)


def test_a_champion_is_compared_on_the_held_out_rows_it_has_not_seen() -> None:
    rows = rows_of('["a"]', 50)
    first = one(rows[:44])
    second = one(rows, **champion_of(first))
    assert second["status"] == "fitted"
    held = rows[47:]  # of the six that are new to the champion
    answers = [oracle(rows[:end]).predict(held[["x", "z"]].to_numpy()) for end in (47, 44, 50)]
    mine, theirs, _ = (np.abs(held["label"] - answer) for answer in answers)
    steps = max(np.median(np.abs(answers[of] - answers[1])) for of in (0, 2))  # the stored model has seen them
    older = rows["label"][:47]
    spread = 1.4826 * (older - older.median()).abs().median()  # three residuals are too few for theirs
    to_constant = mine - (held["label"] - older.median()).abs()
    assert metrics(second) == {
        "jump": pytest.approx(steps / spread),
        "heldout_rows": 3,
        "champion_difference": pytest.approx((mine - theirs).mean()),
        "champion_difference_se": pytest.approx((mine - theirs).std(ddof=1) / math.sqrt(3)),
        "constant_difference": pytest.approx(to_constant.mean()),
        "constant_difference_se": pytest.approx(to_constant.std(ddof=1) / math.sqrt(3)),
        "challenger_loss": pytest.approx(oracle_loss(rows[:47], held)),
        "constant_loss": pytest.approx((held["label"] - older.median()).abs().mean()),
        "champion_loss": pytest.approx(oracle_loss(rows[:44], held)),
        "champion_id": first["model_id"],
        "train_loss": pytest.approx(oracle_loss(rows, rows)),
    }


def test_a_champion_that_has_seen_everything_gives_no_evidence() -> None:
    rows = rows_of('["a"]', 50)
    first = one(rows)
    got = metrics(one(rows[:-1], **champion_of(first)))
    assert (got["heldout_rows"], got["challenger_loss"], got["champion_loss"]) == (0, None, None)
    assert got["champion_id"] == first["model_id"]
    unknown = champion_of(first) | {"trained_through": None}
    assert metrics(one(rows[:-1], **unknown))["heldout_rows"] == 0


@pytest.mark.parametrize(
    "damage",
    [
        {"payload": b"\x01" + b"\0" * 50},
        {"signature": b"\0" * 32},
        {"signature": None},
        {"payload": None},
        {"codec": "skops"},
        {"codec": "pickle"},
        {"id": "another"},
    ],
)
def test_a_champion_that_cannot_be_trusted_is_not_asked_and_the_group_goes_on(damage: dict[str, Any]) -> None:
    rows = rows_of('["a"]', 50)
    row = one(rows, **(champion_of(one(rows[:40])) | damage))
    got = metrics(row)
    assert row["status"] == "fitted"
    assert (got["champion_loss"], got["challenger_loss"], got["heldout_rows"]) == (None, None, 0)
    assert "champion_error" in got
    assert len(got["champion_error"]) <= 500


def test_a_champion_of_another_group_is_not_asked() -> None:
    stranger = one(rows_of('["b"]', 40))
    assert "champion_error" in metrics(one(rows_of('["a"]', 50), **champion_of(stranger)))


def test_a_champion_of_a_feature_that_was_dropped_is_not_compared_and_the_error_says_so() -> None:
    rows = rows_of('["a"]', 50)
    before = one(rows[:40], RECIPE)
    row = one(rows, replace(RECIPE, features=(Feature("x", "double"),)), **champion_of(before))
    got = metrics(row)
    assert (got["champion_loss"], got["heldout_rows"]) == (None, 0)
    assert got["champion_error"].endswith("it was fitted on z too. It is not compared")


@pytest.mark.parametrize("damage", [{"signature": b"\0" * 32}, {"payload": None}])
def test_a_champion_that_cannot_answer_is_fitted_again_on_the_same_rows(damage: dict[str, Any]) -> None:
    """Its key was lost, or its payload: as `kept` the group would stay without an answer until rows come."""
    rows = rows_of('["a"]')
    first = one(rows)
    again = one(rows, **(champion_of(first) | damage))
    assert (again["status"], again["model_id"]) == ("fitted", first["model_id"])
    assert (again["payload"], again["signature"]) == (first["payload"], first["signature"])


def test_a_payload_is_signed_for_its_group_model_and_codec() -> None:
    row = one(rows_of('["a"]'))
    claim = Claim('["a"]', row["model_id"], row["codec"])
    SIGNER.verify(claim, row["payload"], row["signature"])


# Trouble

SHOP = """
import numpy as np
from sklearn.base import BaseEstimator
class Base(BaseEstimator):
    def fit(self, x, y):
        self.fitted_ = True
        return self
    def predict(self, x): return np.zeros(len(x))
class Raises(Base):
    def fit(self, x, y):
        if y[0] > 100: raise ZeroDivisionError("x" * 1000)
        return super().fit(x, y)
class NoNumber(Base):
    def predict(self, x): return np.full(len(x), np.nan)
class NoNumberLater(Base):
    def fit(self, x, y):
        self.n_ = len(x)
        return self
    def predict(self, x): return np.full(len(x), np.nan if self.n_ == 40 else 0.0)
class Mute(Base):
    def predict(self, x): raise OSError("no answer")
class WrongShape(Base):
    def predict(self, x): return np.zeros((len(x), 2))
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "fitting_shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "fitting_shop"


def test_one_group_that_raises_is_one_failed_row(shop: str) -> None:
    rows = fleet(3)
    rows.loc[rows["group_key"] == '["g1"]', "label"] += 1000
    recipe = replace(RECIPE, estimator=f"{shop}:Raises", params=())
    result = fit(rows, ask('["g0"]', '["g1"]', '["g2"]'), recipe)
    # The others' estimator is of nobody's known class: skops refuses it, and says so.
    assert result["error_class"].tolist() == ["ContractError", "ZeroDivisionError", "ContractError"]
    assert result["status"].tolist() == ["failed"] * 3
    assert result["error"].iloc[1] == "x" * 500
    assert "pickle is not supported" in result["error"].iloc[0]
    assert result["model_id"].isna().all()


@pytest.mark.parametrize(
    ("name", "error"),
    [("NoNumber", "NotFinite"), ("NoNumberLater", "NotFinite"), ("WrongShape", "ValueError"), ("Mute", "OSError")],
)
def test_a_model_that_cannot_answer_is_a_failed_row(shop: str, name: str, error: str) -> None:
    row = one(rows_of('["a"]'), replace(RECIPE, estimator=f"{shop}:{name}", params=()))
    assert (row["status"], row["error_class"]) == ("failed", error)
    assert row["payload"] is None


def test_a_group_whose_sums_overflow_fails_alone() -> None:
    rows = fleet(3)
    rows.loc[rows["group_key"] == '["g1"]', "label"] = 1e308
    result = fit(rows, ask('["g0"]', '["g1"]', '["g2"]'))
    assert result["status"].tolist() == ["fitted", "failed", "fitted"]


# Classification


def classes(n: int = 50) -> pd.DataFrame:
    rows = rows_of('["a"]', n)
    return rows.assign(label=np.where(rows["label"] > 0, "yes", "no"))


def test_classes_are_compared_by_log_loss_of_their_own_probability() -> None:
    rows = classes()
    row = one(rows, replace(CLASSES, estimator="constant"))
    early, late = rows["label"][:40], rows["label"][40:]
    share = {name: float((early == name).mean()) for name in ("yes", "no")}
    expected = float(np.mean([-math.log(share[name]) for name in late]))
    assert metrics(row)["challenger_loss"] == pytest.approx(expected)


def test_a_class_first_seen_in_the_held_out_rows_counts_as_probability_nought() -> None:
    rows = classes()
    rows.loc[40:, "label"] = "new"
    assert metrics(one(rows, CLASSES))["challenger_loss"] == pytest.approx(-math.log(1e-15))


def test_a_champion_with_other_classes_is_compared_all_the_same() -> None:
    rows = classes()
    first = one(rows[:40].assign(label="no"), CLASSES)
    second = one(rows, CLASSES, **champion_of(first))
    share_of_yes = float((rows["label"][45:] == "yes").mean())
    assert metrics(second)["champion_loss"] == pytest.approx(share_of_yes * -math.log(1e-15))
    assert metrics(second)["heldout_rows"] == 5


@pytest.mark.parametrize(
    ("labels", "type_", "expected"),
    [
        ([True, False], "boolean", ("false", "true")),
        ([1, 0], "int", ("0", "1")),
        ([1.0, 0.0], "bigint", ("0", "1")),
    ],
)
def test_labels_are_texts_as_spark_casts_them(labels: list[Any], type_: str, expected: tuple[str, ...]) -> None:
    rows = rows_of('["a"]', 20).assign(label=pd.Series(labels * 10, dtype=object))
    row = one(rows, replace(CLASSES, target=Feature("y", type_)))
    assert load(row["codec"], row["payload"]).classes == expected


# Contracts


@pytest.mark.parametrize("column", ["group_key", "event_id", "event_time", "label", "x"])
def test_a_missing_column_stops_the_call(column: str) -> None:
    with pytest.raises(ContractError, match=column):
        fit(rows_of('["a"]').drop(columns=column), ask('["a"]'))


@pytest.mark.parametrize("column", ["event_id", "event_time"])
def test_a_null_where_none_may_be_stops_the_call(column: str) -> None:
    rows = rows_of('["a"]')
    rows.loc[0, column] = None
    with pytest.raises(ContractError, match=column):
        fit(rows, ask('["a"]'))


def test_a_group_asked_twice_stops_the_call() -> None:
    with pytest.raises(ContractError, match="one row per group"):
        fit(rows_of('["a"]'), ask('["a"]', '["a"]'))


def test_each_turn_is_reported_before_code_of_others_runs() -> None:
    heard: list[tuple[str | None, str]] = []
    recipe = replace(RECIPE, estimator="random_forest", params=(("n_estimators", "2"),))
    rows = fleet(2)
    before = one(rows[(rows["group_key"] == '["g0"]') & (rows["event_id"] < "e030")], recipe)
    asks = pd.concat([ask('["g0"]', **champion_of(before)), ask('["g1"]')])
    with current_group.reported_to(lambda key, doing: heard.append((key, doing))):
        fit(rows, asks, recipe)
    fit(rows, asks, recipe)  # nobody listens any more
    both = ['["g0"]', '["g1"]']
    fits = [
        (None, current_group.FIT),
        *((key, current_group.FIT) for key in both),
        *((key, current_group.PREDICT) for key in both),
    ]
    champions = [('["g0"]', current_group.READ_CHAMPION), ('["g0"]', current_group.PREDICT_CHAMPION)]
    assert heard == [*fits, *champions, *fits, *((key, current_group.STORE) for key in both)]


def test_a_group_that_ended_its_process_has_a_row_like_any_that_failed() -> None:
    failure = fit_groups(rows_of('["a"]'), ask('["a"]'), replace(RECIPE, window_rows=30), CLOCK, SIGNER).iloc[0]
    row = failed_result(
        rows_of('["a"]'), TimedOut('["a"]', "no end"), replace(RECIPE, window_rows=30), CLOCK, 7.0
    ).iloc[0]
    for name in ("group_key", "rows", "trained_from", "trained_through"):
        assert row[name] == failure[name]
    assert row["recipe_id"] == replace(RECIPE, window_rows=30).recipe_id
    assert (row["status"], row["error_class"], row["error"]) == ("timed_out", "TimedOut", "no end")
    assert (row["model_id"], row["payload"], row["fit_ms"]) == (None, None, 7.0)


# Wrong labels


def decision_about(rows: pd.DataFrame, spoil: Callable[[pd.Series[Any]], pd.Series[Any]], places: slice) -> Decision:
    """The gate's decision about a challenger, after the labels at these places went wrong."""
    champion = champion_of(one(rows[:200]))
    places = rows.index[places]
    rows.loc[places, "label"] = spoil(rows.loc[places, "label"])
    return decide(metrics(one(rows, **champion)), Gate())[0]


FITTED, HELD_OUT, BOTH = slice(0, 360), slice(360, 450), slice(200, 450)


def test_labels_that_are_wrong_in_the_fitted_rows_only_are_refused_by_the_rows_held_out() -> None:
    assert decision_about(rows_of('["a"]', 450), lambda label: label + 2, FITTED) is Decision.REFUSED


@pytest.mark.parametrize("spoil", [lambda label: label + 25, lambda label: label * 60], ids=["shifted", "scaled"])
def test_labels_that_are_wrong_in_the_held_out_rows_too_are_held_by_the_jump(spoil) -> None:
    rows = rows_of('["a"]', 450).assign(label=lambda frame: frame["label"] + 10)
    assert decision_about(rows, spoil, BOTH) is Decision.HELD


def test_labels_that_are_wrong_in_the_held_out_rows_only_are_held_since_the_stored_model_has_learned_them() -> None:
    """The measured challenger has not seen them, so it answers as the champion does and jumps nowhere."""
    rows = rows_of('["a"]', 450).assign(label=lambda frame: frame["label"] + 10)
    assert decision_about(rows, lambda label: label * 60, HELD_OUT) is Decision.HELD


def test_a_change_of_two_and_a_half_spreads_is_promoted() -> None:
    """As in the demo: 25 minutes more on routes that vary by about ten."""
    rows = rows_of('["a"]', 450)
    rows["label"] += np.random.default_rng(2).normal(size=450) * 10
    assert decision_about(rows, lambda label: label + 25, BOTH) is Decision.PROMOTED
