"""A challenger of another recipe, compared with the champion's own recipe on rows that neither was fitted on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import recipes
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.features.encoding import Columns
from spinney.core.models.model import Model
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training import current_group
from spinney.core.training.fitting import fit_groups

START = datetime(2024, 1, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=30)
SIGNER = Signer(b"k" * 32)
A, B = '["a"]', '["b"]'
X, Z, WORD = Feature("x", "double"), Feature("z", "double"), Feature("word", "string")
RIDGE = replace(recipes.RIDGE, features=(X, Z))
CONSTANT = replace(RIDGE, estimator="constant", params=())
HUGE = 1.7e308
"""A ridge gives no finite answer for it."""


def rows_of(key: str, n: int = 50) -> pd.DataFrame:
    """An event an hour from START; y = 3 x - z."""
    random = np.random.default_rng([7, *key.encode()])
    frame = pd.DataFrame(random.normal(size=(n, 2)), columns=["x", "z"])
    times = pd.Series([START + timedelta(hours=at) for at in range(n)]).astype("datetime64[us, UTC]")
    label = 3 * frame["x"] - frame["z"]
    return frame.assign(
        label=label, group_key=key, event_id=[f"e{at:03}" for at in range(n)], event_time=times, word="w"
    )


def fit(rows: pd.DataFrame, recipe: Recipe, champions: pd.DataFrame | None = None) -> pd.DataFrame:
    """The attempts. champions: attempts of before."""
    asks = pd.DataFrame({"group_key": rows["group_key"].unique()})
    if champions is not None:
        names = {"model_id": "id"} | {each: each for each in ("codec", "payload", "signature", "trained_through")}
        known = champions.rename(columns={of: f"champion_{name}" for of, name in names.items()})
        known["champion_recipe_id"] = champions["recipe_id"]
        asks = asks.merge(known[["group_key", *(name for name in known if name.startswith("champion_"))]])
    return fit_groups(rows, asks, recipe, CLOCK, SIGNER)


def after(recipe: Recipe, *earlier: Recipe) -> Recipe:
    return replace(recipe, earlier=tuple((each.recipe_id, each) for each in earlier))


def metrics(row: pd.Series[Any]) -> dict[str, Any]:
    return dict(json.loads(row["metrics"]))


def loss_of_ridge(fitted_on: pd.DataFrame, measured_on: pd.DataFrame, features: tuple[str, ...] = ("x", "z")) -> float:
    model = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
    model.fit(fitted_on[list(features)].to_numpy(), fitted_on["label"].to_numpy())
    answers = model.predict(measured_on[list(features)].to_numpy())
    return float(np.abs(measured_on["label"].to_numpy() - answers).mean())


def loss_of_mean(fitted_on: pd.DataFrame, measured_on: pd.DataFrame) -> float:
    return float((measured_on["label"] - fitted_on["label"].mean()).abs().mean())


def test_a_champion_that_has_seen_all_rows_is_compared_by_its_recipe_fitted_without_the_newest() -> None:
    rows = rows_of(A)
    first = fit(rows, RIDGE)
    got = metrics(fit(rows, after(CONSTANT, RIDGE), first).iloc[0])
    assert got["heldout_rows"] == 10
    assert got["champion_loss"] == pytest.approx(loss_of_ridge(rows[:40], rows[40:]))
    assert got["challenger_loss"] == pytest.approx(loss_of_mean(rows[:40], rows[40:]))
    assert got["refitted"] == {"estimator": "ridge", "recipe_id": RIDGE.recipe_id}
    assert got["champion_id"] == first["model_id"].iloc[0]


@pytest.mark.parametrize(("before", "now"), [("absolute", "squared"), ("squared", "absolute")])
def test_after_a_change_of_the_loss_both_are_measured_by_the_new_one(before: str, now: str) -> None:
    rows, earlier = rows_of(A).assign(label=lambda frame: 100 * frame["label"]), replace(RIDGE, loss=before)
    got = metrics(fit(rows, after(replace(RIDGE, loss=now), earlier), fit(rows, earlier)).iloc[0])
    assert got["refitted"]["recipe_id"] == earlier.recipe_id
    assert got["champion_loss"] == got["challenger_loss"] > 0  # both recipes fit the same ridge


def test_so_is_one_that_has_seen_only_some_of_them() -> None:
    rows = rows_of(A)
    got = metrics(fit(rows, after(CONSTANT, RIDGE), fit(rows[:44], RIDGE)).iloc[0])
    assert got["heldout_rows"] == 10
    assert got["champion_loss"] == pytest.approx(loss_of_ridge(rows[:40], rows[40:]))


def test_one_that_has_seen_none_of_them_answers_itself() -> None:
    rows = rows_of(A)
    got = metrics(fit(rows, after(CONSTANT, RIDGE), fit(rows[:30], RIDGE)).iloc[0])
    assert got["champion_loss"] == pytest.approx(loss_of_ridge(rows[:30], rows[40:]))
    assert "refitted" not in got


def test_neither_name_nor_model_depends_on_the_comparison() -> None:
    rows = rows_of(A)
    first = fit(rows, RIDGE)
    beside, alone = fit(rows, after(CONSTANT, RIDGE), first).iloc[0], fit(rows, CONSTANT).iloc[0]
    for name in ("model_id", "recipe_id", "payload", "signature"):
        assert beside[name] == alone[name]


def test_only_groups_whose_champion_has_another_recipe_are_fitted_once_more() -> None:
    rows = pd.concat([rows_of(A), rows_of(B)], ignore_index=True)
    forest = replace(RIDGE, estimator="random_forest", params=(("n_estimators", "2"),))
    older = fit(rows[rows["group_key"] == A], forest)
    newer = fit(rows[rows["group_key"] == B], CONSTANT).assign(model_id="another")
    heard: list[tuple[str | None, str]] = []
    with current_group.reported_to(lambda key, doing: heard.append((key, doing))):
        found = fit(rows, after(CONSTANT, forest), pd.concat([older, newer], ignore_index=True))
    assert "refitted" in metrics(found.iloc[0])
    assert "refitted" not in metrics(found.iloc[1])
    assert {key for key, doing in heard if doing == current_group.REFIT} == {None, A}


def test_groups_of_different_earlier_recipes_are_each_compared_with_their_own() -> None:
    rows = pd.concat([rows_of(A), rows_of(B)], ignore_index=True)
    one_feature = replace(RIDGE, features=(Z,))
    first = [fit(rows[rows["group_key"] == key], recipe) for key, recipe in ((A, RIDGE), (B, one_feature))]
    found = fit(rows, after(CONSTANT, RIDGE, one_feature), pd.concat(first, ignore_index=True))
    mine = rows_of(B)
    expected = [loss_of_ridge(rows_of(A)[:40], rows_of(A)[40:]), loss_of_ridge(mine[:40], mine[40:], ("z",))]
    assert [metrics(row)["champion_loss"] for _, row in found.iterrows()] == pytest.approx(expected)


def test_features_that_came_between_others_leave_the_earlier_recipe_its_own_columns() -> None:
    rows = rows_of(A)
    before = replace(RIDGE, features=(Z, X))
    today = replace(CONSTANT, features=(X, WORD, Feature("event_time", "timestamp"), Z))
    got = metrics(fit(rows, after(today, before), fit(rows, before)).iloc[0])
    assert got["champion_loss"] == pytest.approx(loss_of_ridge(rows[:40], rows[40:], ("z", "x")))


@pytest.mark.parametrize(
    "shorter", [replace(RIDGE, window_rows=15), replace(RIDGE, window=timedelta(hours=15))], ids=["rows", "time"]
)
def test_a_shorter_window_ends_where_the_held_out_rows_begin(shorter: Recipe) -> None:
    rows = rows_of(A)
    got = metrics(fit(rows, after(CONSTANT, shorter), fit(rows, RIDGE).assign(recipe_id=shorter.recipe_id)).iloc[0])
    assert got["champion_loss"] == pytest.approx(loss_of_ridge(rows[25:40], rows[40:]))


def test_a_window_without_a_row_before_the_held_out_ones_compares_nothing_and_says_so() -> None:
    rows = rows_of(A)
    late = rows.assign(event_time=rows["event_time"].where(rows.index < 40, rows["event_time"] + pd.Timedelta("2D")))
    short = replace(RIDGE, window=timedelta(hours=5))
    row = fit(late, after(CONSTANT, short), fit(late, RIDGE).assign(recipe_id=short.recipe_id)).iloc[0]
    assert row["status"] == "fitted"
    assert metrics(row)["champion_error"] == "its recipe: no row of its window lies before the held-out rows"
    assert (metrics(row)["heldout_rows"], metrics(row)["champion_loss"]) == (0, None)


@pytest.mark.parametrize(
    ("gone", "error"),
    [
        (replace(RIDGE, estimator="no_such_module:forest"), "no_such_module"),
        (replace(RIDGE, features=(X, Feature("gone", "double"))), "gone"),
        (replace(RIDGE, params=(("alpha", '"much"'),)), "alpha"),
    ],
)
def test_a_recipe_that_cannot_be_fitted_any_more_costs_the_group_only_the_comparison(gone: Recipe, error: str) -> None:
    rows = rows_of(A)
    row = fit(rows, after(CONSTANT, gone), fit(rows, RIDGE).assign(recipe_id=gone.recipe_id)).iloc[0]
    assert (row["status"], metrics(row)["champion_loss"]) == ("fitted", None)
    assert metrics(row)["champion_error"].startswith("its recipe: ")
    assert error in metrics(row)["champion_error"]


def test_classes_are_compared_too() -> None:
    rows = rows_of(A)
    rows["label"] = np.where(rows["label"] > 0, "yes", "no")
    target = Feature("y", "string")
    before = replace(CONSTANT, task="classification", loss="log", target=target)
    today = replace(before, estimator="logistic_regression")
    got = metrics(fit(rows, after(today, before), fit(rows, before)).iloc[0])
    share = rows["label"][:40].value_counts(normalize=True)
    assert got["champion_loss"] == pytest.approx(float(-np.log(rows["label"][40:].map(share)).mean()))


def test_the_time_it_takes_is_part_of_the_groups_own() -> None:
    rows = rows_of(A)
    asks = pd.DataFrame({"group_key": [A], "champion_id": ["c"], "champion_recipe_id": [RIDGE.recipe_id]})
    ticks, more = iter(range(10_000)), iter(range(10_000))
    alone = fit_groups(rows, asks, CONSTANT, CLOCK, SIGNER, lambda: next(ticks))
    beside = fit_groups(rows, asks, after(CONSTANT, RIDGE), CLOCK, SIGNER, lambda: next(more))
    assert beside["fit_ms"].iloc[0] > alone["fit_ms"].iloc[0]


def test_a_recipe_read_from_its_text_is_the_same() -> None:
    whole = replace(
        RIDGE, weight_half_life=timedelta(days=3), source="5f", versions=(("numpy", "2.1"), ("scikit-learn", "1.9"))
    )
    for each in (RIDGE, whole, CONSTANT):
        assert Recipe.of_text(each.text) == each
        assert Recipe.of_text(each.text).recipe_id == each.recipe_id


def test_a_champion_that_has_seen_none_of_them_answers_on_its_own_columns_after_a_feature_was_added() -> None:
    rows = rows_of(A)
    before = replace(RIDGE, features=(Z,))
    got = metrics(fit(rows, after(CONSTANT, before), fit(rows[:30], before)).iloc[0])
    assert got["heldout_rows"] == 10
    assert got["champion_loss"] == pytest.approx(loss_of_ridge(rows[:30], rows[40:], ("z",)))


def test_champions_with_different_features_answer_in_one_call() -> None:
    rows = pd.concat([rows_of(A), rows_of(B)], ignore_index=True)
    recipes = {A: replace(RIDGE, features=(Z, X)), B: replace(RIDGE, features=(Z,))}
    first = [fit(rows_of(key)[:30], recipe) for key, recipe in recipes.items()]
    found = fit(rows, CONSTANT, pd.concat(first, ignore_index=True))
    expected = [
        loss_of_ridge(rows_of(A)[:30], rows_of(A)[40:], ("z", "x")),
        loss_of_ridge(rows_of(B)[:30], rows_of(B)[40:], ("z",)),
    ]
    assert [metrics(row)["champion_loss"] for _, row in found.iterrows()] == pytest.approx(expected)


def test_a_champion_of_another_recipe_is_named_by_it_and_one_of_the_same_or_an_unknown_recipe_is_not() -> None:
    rows = rows_of(A)
    before, same = fit(rows[:30], RIDGE), fit(rows[:30], CONSTANT)
    assert metrics(fit(rows, CONSTANT, before).iloc[0])["changed_from"] == RIDGE.recipe_id
    assert "changed_from" not in metrics(fit(rows, CONSTANT, same).iloc[0])
    assert "changed_from" not in metrics(fit(rows, CONSTANT, before.assign(recipe_id=None)).iloc[0])
    assert "changed_from" not in metrics(fit(rows, CONSTANT).iloc[0])


NOTHING_NEWER = {"why": "no held-out row is newer than the champion", "refit_failed": False}


def test_a_champion_of_a_recipe_that_is_not_fitted_again_is_uncompared_where_no_row_is_newer() -> None:
    rows = rows_of(A)
    seen_all, older = fit(rows, RIDGE), fit(rows[:45], RIDGE)
    assert metrics(fit(rows, CONSTANT, seen_all).iloc[0])["uncompared"] == NOTHING_NEWER
    assert "uncompared" not in metrics(fit(rows, CONSTANT, older).iloc[0]), "five rows are newer"
    assert "uncompared" not in metrics(fit(rows, after(CONSTANT, RIDGE), seen_all).iloc[0]), "it is fitted again"
    assert "uncompared" not in metrics(fit(rows[:45], RIDGE, seen_all).iloc[0]), "its recipe is today's"
    assert "uncompared" not in metrics(fit(rows, CONSTANT).iloc[0]), "there is no champion"


def test_one_row_alone_is_uncompared_too() -> None:
    before = fit(rows_of(A), RIDGE)
    alone = fit(rows_of(A)[:1], replace(CONSTANT, min_rows=1), before)
    assert metrics(alone.iloc[0])["uncompared"] == NOTHING_NEWER
    announced = metrics(fit(rows_of(A)[:1], replace(after(CONSTANT, RIDGE), min_rows=1), before).iloc[0])
    why = "its recipe: no row lies before the held-out row"
    assert announced["uncompared"] == {"why": why, "refit_failed": True}


def test_a_refit_that_fails_and_a_champion_that_cannot_be_asked_say_why_nothing_is_compared() -> None:
    rows = rows_of(A)
    gone = replace(RIDGE, params=(("alpha", '"much"'),))
    failed = metrics(fit(rows, after(CONSTANT, gone), fit(rows, RIDGE).assign(recipe_id=gone.recipe_id)).iloc[0])
    assert failed["uncompared"]["refit_failed"] is True
    assert failed["uncompared"]["why"] == failed["champion_error"]
    dropped = metrics(fit(rows, replace(RIDGE, features=(X,)), fit(rows[:45], RIDGE)).iloc[0])
    assert dropped["uncompared"] == {"why": dropped["champion_error"], "refit_failed": False}
    assert "it was fitted on z too" in dropped["champion_error"]
    ended = replace(after(CONSTANT, RIDGE), refit_error="Killed: by SIGKILL")
    reported = metrics(fit(rows, ended, fit(rows, RIDGE)).iloc[0])
    assert reported["uncompared"] == {"why": "its recipe: Killed: by SIGKILL", "refit_failed": True}
    newer = metrics(fit(rows, ended, fit(rows[:45], RIDGE)).iloc[0])
    assert (newer["heldout_rows"], "uncompared" in newer) == (5, False), "the champion itself is asked then"


def test_a_champion_that_answers_nobody_is_not_one_to_keep() -> None:
    rows = rows_of(A)
    before = fit(rows[:40], RIDGE)
    unsigned = before.assign(signature=[b"\0" * 32])
    assert "uncompared" not in metrics(fit(rows, CONSTANT, unsigned).iloc[0])
    silent = metrics(fit(rows.assign(x=HUGE), CONSTANT, before).iloc[0])
    assert (silent["champion_loss"], "uncompared" in silent) == (None, False)
    ends_its_process = replace(CONSTANT, champion_error="Killed: by SIGSEGV")
    killer = metrics(fit(rows, ends_its_process, before).iloc[0])
    assert (killer["champion_error"], "uncompared" in killer) == ("Killed: by SIGSEGV", False)
    assert killer["champion_loss"] is None


@pytest.mark.parametrize(("recipe_id", "newer"), [(None, 10), ("imported:Ridge", 10), ("imported:Ridge", 1)])
def test_a_champion_that_answers_only_older_rows_is_kept_uncompared(recipe_id: str | None, newer: int) -> None:
    rows = rows_of(A)
    before = fit(rows[: 50 - newer], RIDGE)
    before = before if recipe_id is None else before.assign(recipe_id=recipe_id)
    unfit = rows.assign(x=rows["x"].where(rows.index < 50 - newer, HUGE))
    silent = metrics(fit(unfit, CONSTANT, before).iloc[0])
    assert (silent["champion_loss"], silent["heldout_rows"]) == (None, 0)
    assert silent["uncompared"]["refit_failed"] is True
    assert silent["uncompared"]["why"].startswith("it answers older rows and none of the held-out rows to compare on: ")


def test_a_champion_that_answers_none_of_the_rows_is_compared_by_its_recipe_fitted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = rows_of(A)
    forest = replace(RIDGE, estimator="random_forest", params=(("n_estimators", "2"),))
    before = fit(rows[:30], forest)
    raw = Model.raw_predictions

    def broken(self: Model, columns: Columns) -> Any:
        if heard[-1] == current_group.PREDICT_CHAMPION:
            raise ValueError("made by another version")
        return raw(self, columns)

    heard = [""]
    monkeypatch.setattr(Model, "raw_predictions", broken)
    with current_group.reported_to(lambda _, doing: heard.append(doing)):
        got = metrics(fit(rows, after(CONSTANT, forest), before).iloc[0])
        alone = metrics(fit(rows, CONSTANT, before).iloc[0])
    assert got["heldout_rows"] == 10
    assert got["refitted"] == {"estimator": "random_forest", "recipe_id": forest.recipe_id}
    assert (
        got["champion_loss"] == metrics(fit(rows, after(CONSTANT, forest), fit(rows, forest)).iloc[0])["champion_loss"]
    )
    assert alone["champion_error"] == "ValueError: made by another version"
    assert (alone["heldout_rows"], "uncompared" in alone) == (0, False), "it answers nothing at all"


def test_an_imported_model_that_may_have_seen_all_rows_is_not_kept_and_one_that_says_it_has_is() -> None:
    rows = rows_of(A)
    imported = fit(rows, RIDGE).assign(recipe_id="imported:Ridge")
    unknown = imported.assign(trained_through=pd.Series([pd.NaT], dtype="datetime64[us, UTC]"))
    assert "uncompared" not in metrics(fit(rows, CONSTANT, unknown).iloc[0])
    assert metrics(fit(rows, CONSTANT, imported).iloc[0])["uncompared"] == NOTHING_NEWER
