"""Fitting through Spark: the same models as one group at a time, however the rows are spread."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.codec import load
from spinney.core.fitting import fit_groups
from spinney.core.recipe import Recipe, Shadow
from spinney.core.signing import Signer
from spinney.stores.fitter import ASK, FITTED, Fitter, fit

SIGNER = Signer(b"k" * 32)
START = pd.Timestamp("2024-05-01", tz="UTC")
CLOCK = START + timedelta(days=5)
SIZES = {'["a","1"]': 40, '["a","2"]': 25, '["ü\\"","3"]': 12, '["thin","1"]': 3, "{}": 60, '["none","1"]': 0}


def sales() -> pd.DataFrame:
    frames = []
    for key, count in SIZES.items():
        random = np.random.default_rng([count, *key.encode()])
        frame = pd.DataFrame(
            {"price": random.normal(size=count), "stock": random.integers(0, 9, count).astype("int32")}
        )
        frame.loc[frame.index % 7 == 3, "price"] = np.nan
        frame["label"] = 2.0 * frame["price"].fillna(0.0) - frame["stock"] + random.normal(size=count) * 0.1
        # Two rows an hour: of equal times the event_id decides.
        times = START + pd.to_timedelta(np.arange(count) // 2, unit="h")
        frame.insert(0, "group_key", key)
        frame.insert(1, "event_id", [f"e{(n * 7) % max(count, 1):03}" for n in range(count)])
        frame.insert(2, "event_time", times.astype("datetime64[us, UTC]"))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def asks(champions: pd.DataFrame | None = None) -> pd.DataFrame:
    asked = pd.DataFrame({"group_key": list(SIZES)})
    names = {f"champion_{name}": name for name in ("codec", "payload", "signature", "trained_through")}
    names["champion_id"] = "model_id"
    known = pd.DataFrame(columns=["group_key", *names.values()]) if champions is None else champions
    for name, of in names.items():
        asked[name] = asked["group_key"].map(dict(zip(known["group_key"], known[of], strict=True)))
    asked["champion_trained_through"] = asked["champion_trained_through"].astype("datetime64[us, UTC]")
    return asked[["group_key", *ASK]].astype({"champion_payload": object, "champion_signature": object})


def sent(spark, frame: pd.DataFrame, schema: str):
    times = frame.select_dtypes("datetimetz").columns
    plain = frame.astype(dict.fromkeys(times, object))
    return spark.createDataFrame(plain.astype(object).where(frame.notna(), None), schema)


def by_spark(spark, rows: pd.DataFrame, asked: pd.DataFrame, recipe: Recipe, partitions: int) -> pd.DataFrame:
    types = "group_key string, event_id string, event_time timestamp, price double, stock int, label double"
    ask_types = ", ".join(f"{name} {type_}" for name, type_ in {"group_key": "string", **ASK}.items())
    found = fit(sent(spark, rows, types), sent(spark, asked, ask_types), Fitter(recipe, SIGNER, CLOCK), partitions)
    assert found.columns == list(FITTED)
    return found.toArrow().to_pandas().set_index("group_key").sort_index()


def one_by_one(rows: pd.DataFrame, asked: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    parts = [
        fit_groups(rows[rows["group_key"] == ask["group_key"].iloc[0]], ask, recipe, CLOCK, SIGNER)
        for _, ask in asked.groupby("group_key")
    ]
    return pd.concat(parts).set_index("group_key").sort_index()


SAME = ["status", "model_id", "recipe_id", "error_class", "error", "rows", "metrics", "codec", "payload", "signature"]


def same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    assert left.index.tolist() == right.index.tolist()
    for name in SAME:
        mine, theirs = (frame[name].astype(object).where(frame[name].notna(), None).tolist() for frame in (left, right))
        assert mine == theirs, name


@pytest.mark.parametrize("partitions", [1, 3])
def test_any_partitions_and_any_order_give_the_models_of_one_group_at_a_time(
    spark, configured, partitions: int
) -> None:
    recipe, rows = Recipe.of(configured()), sales()
    shuffled = rows.sample(frac=1.0, random_state=partitions)
    found = by_spark(spark, shuffled, asks().iloc[::-1], recipe, partitions)
    same(found, one_by_one(rows, asks(), recipe))
    statuses = {'["thin","1"]': "too_few_rows", '["none","1"]': "too_few_rows"}
    assert found["status"].to_dict() == {key: statuses.get(key, "fitted") for key in sorted(SIZES)}


def test_a_shadow_is_compared_in_the_workers_as_in_one_call_and_gives_no_other_model(spark, configured) -> None:
    recipe, rows = Recipe.of(configured()), sales()
    watching = replace(recipe, shadow=Shadow(replace(recipe, estimator="constant", params=()), 1.0))
    found = by_spark(spark, rows, asks(), watching, 2)
    same(found, one_by_one(rows, asks(), watching))
    alone = one_by_one(rows, asks(), recipe)
    assert found["payload"].dropna().to_dict() == alone["payload"].dropna().to_dict()
    shadows = {key: "shadow" in json.loads(text) for key, text in found["metrics"].items()}
    assert shadows == {key: count >= recipe.min_rows and key != "{}" for key, count in SIZES.items()}


def test_champions_are_compared_and_the_same_rows_are_kept(spark, configured) -> None:
    recipe, rows = Recipe.of(configured()), sales()
    older = rows[rows["event_time"] < START + timedelta(hours=8)]
    before = one_by_one(older, asks(), recipe).reset_index()
    before = before[before["status"] == "fitted"]
    found = by_spark(spark, rows, asks(before), recipe, 3)
    same(found, one_by_one(rows, asks(before), recipe))
    assert found.loc['["ü\\"","3"]', "status"] == "kept"
    assert '"champion_loss": null' not in found.loc['["a","1"]', "metrics"]


def test_predictions_are_those_of_scikit_learn_by_applyinpandas(spark, configured) -> None:
    recipe, rows = replace(Recipe.of(configured()), window_rows=2000), sales()
    rows = rows[~rows["group_key"].isin(['["thin","1"]'])]
    features = ["price", "stock"]

    def oracle(frame: pd.DataFrame) -> pd.DataFrame:
        pipeline = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(alpha=1.0))
        pipeline.fit(frame[features], frame["label"])
        return frame.assign(expected=pipeline.predict(frame[features]))[["group_key", "event_id", "expected"]]

    types = "group_key string, event_id string, event_time timestamp, price double, stock int, label double"
    grouped = sent(spark, rows, types).groupBy("group_key")
    expected = grouped.applyInPandas(oracle, "group_key string, event_id string, expected double").toPandas()
    models = by_spark(spark, rows, asks(), recipe, 2)
    both = rows.merge(expected, on=["group_key", "event_id"])
    assert len(both) == len(rows)
    for key, mine in both.groupby("group_key"):
        answers = load(models.loc[key, "codec"], models.loc[key, "payload"]).predict(mine)
        np.testing.assert_allclose(answers, mine["expected"], rtol=1e-6, atol=1e-6)


def test_a_group_that_raises_is_one_failed_row_and_the_others_are_fitted(spark, configured) -> None:
    recipe, rows = Recipe.of(configured()), sales()
    # Numbers whose squares overflow: this group's sums are not finite.
    rows.loc[(rows["group_key"] == '["a","2"]') & (rows["event_id"] == "e004"), "price"] = 1e308
    rows.loc[(rows["group_key"] == '["a","2"]') & (rows["event_id"] == "e005"), "price"] = -1e308
    found = by_spark(spark, rows, asks(), recipe, 2)
    same(found, one_by_one(rows, asks(), recipe))
    assert found["status"].to_dict()['["a","2"]'] == "failed"
    assert found.loc['["a","2"]', ["error_class", "payload", "model_id"]].notna().tolist() == [True, False, False]
    assert found.loc[['["a","1"]', '["ü\\"","3"]', "{}"], "status"].tolist() == ["fitted"] * 3
