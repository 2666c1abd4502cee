"""A fleet that answers a frame of mixed groups. The oracle is scikit-learn, a group at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from handwritten_history import hour
from oracles import DEPT, FEATURES, A, B, C, Shops, made, mixed, stream_answers

from schemas import tables
from spinney.core import keys
from spinney.core.errors import ContractError, StoreError
from spinney.core.intervals.champion_intervals import IntervalRule, ShardIntervals
from spinney.serving.model_cache import cache

shard_of = partial(keys.shard_of, shards=2)


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "k" * 32)
    cache.cache_clear()
    yield
    cache.cache_clear()


@pytest.fixture
def shops(tmp_path: Path) -> Shops:
    return made(tmp_path)


def test_each_row_is_answered_as_scikit_learn_does_in_the_frames_own_order(shops: Shops) -> None:
    names = shops.round(30, A, B, DEPT)
    frame = mixed()
    before = frame.copy()
    answered = shops.fleet.predict(frame)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_index_equal(answered.index, frame.index)
    assert list(answered.columns) == ["prediction", "lower", "upper", "model_id", "answered_by"]
    who = {"a": (names[A], "own"), "b": (names[B], "own"), "c": (names[DEPT], "parent"), "d": (None, "none")}
    assert list(zip(answered["model_id"], answered["answered_by"], strict=True)) == [
        who[shop] for shop in frame["shop"]
    ]
    for (_, row), (_, reported) in zip(frame.iterrows(), answered.iterrows(), strict=True):
        if row["shop"] == "d":
            assert np.isnan(reported["prediction"])
        else:
            assert reported["prediction"] == pytest.approx(shops.expected(row, reported["model_id"]), rel=1e-6)


def test_the_stream_would_say_the_same_to_the_bit(shops: Shops) -> None:
    shops.round(30, A, B, DEPT)
    shops.round(50, A, flipped=True)
    frame = mixed()
    group_keys = [keys.encode([shop, dept]) for shop, dept in zip(frame["shop"], frame["dept"], strict=True)]
    events = frame.reset_index(drop=True).assign(
        group_key=group_keys, event_id="e", event_time=hour(0), label=np.nan, topic="t", kafka_partition=0,
        kafka_offset=0,
    )  # fmt: skip
    answered = shops.fleet.predict(frame).reset_index(drop=True)
    assert set(events["group_key"].map(shard_of)) == {0, 1}
    assert answered["upper"].notna().equals(answered["prediction"].notna())
    stream = stream_answers(shops, events)
    pd.testing.assert_frame_equal(answered, stream[list(answered.columns)], check_exact=True)


def test_an_interval_has_the_width_of_the_model_that_answers_and_the_shard_of_the_group(shops: Shops) -> None:
    shops.round(30, A, B, DEPT)
    answered = shops.fleet.predict(mixed().query("dept == 1"))
    assert ((answered["lower"] + answered["upper"]) / 2).to_numpy() == pytest.approx(answered["prediction"])
    width = (answered["upper"] - answered["lower"]).round(9).groupby(answered["model_id"]).unique()
    assert [len(widths) for widths in width] == [1, 1, 1]
    assert len({float(widths[0]) for widths in width}) == 3
    parent = shops.fleet.champions().champion_of(DEPT)
    pool = [shops.fleet.champions().champion_of(key).heldout_losses for key in (A, B) if shard_of(key) == shard_of(C)]
    rule = IntervalRule(0.9, "absolute")
    (half,) = ShardIntervals(rule, pool).of_losses([parent.heldout_losses])
    of_parent = answered[answered["answered_by"] == "parent"]
    np.testing.assert_allclose(of_parent["upper"] - of_parent["lower"], 2 * half)


@pytest.mark.parametrize(("coverage", "is_bounded"), [(0.5, True), (0.0, False)])
def test_the_coverage_is_configured_and_0_is_no_interval(tmp_path: Path, coverage: float, is_bounded: bool) -> None:
    shops, usual = made(tmp_path, more=f"[intervals]\ncoverage = {coverage}\n"), made(tmp_path / "usual")
    for fleet in (shops, usual):
        fleet.round(30, A)
    row = pd.DataFrame({"shop": ["a"], "dept": 1, "price": 1.0, "stock": 1})
    narrow, wide = (fleet.fleet.predict(row).iloc[0] for fleet in (shops, usual))
    if is_bounded:
        assert wide["lower"] < narrow["lower"] < narrow["prediction"] < narrow["upper"] < wide["upper"]
    else:
        assert np.isnan([narrow["lower"], narrow["upper"]]).all()
    assert narrow["prediction"] == wide["prediction"]


def test_a_group_nobody_heard_of_gets_its_parents_answer_or_none(shops: Shops) -> None:
    names = shops.round(30, DEPT)
    frame = pd.DataFrame({"shop": ["new", "new"], "dept": [1, 9], "price": 1.0, "stock": 2})
    answered = shops.fleet.predict(frame)
    assert answered["answered_by"].tolist() == ["parent", "none"]
    assert answered["model_id"].tolist() == [names[DEPT], None]


def test_as_of_an_earlier_round_the_models_of_then_answer(shops: Shops) -> None:
    first = shops.round(30, A, DEPT)
    second = shops.round(50, A, B)
    frame = mixed().query("dept == 1")
    then, now = shops.fleet.predict(frame, as_of="stream-30"), shops.fleet.predict(frame)
    old = {"a": first[A], "b": first[DEPT], "c": first[DEPT]}
    new = {"a": second[A], "b": second[B], "c": first[DEPT]}
    assert then["model_id"].tolist() == [old[shop] for shop in frame["shop"]]
    assert now["model_id"].tolist() == [new[shop] for shop in frame["shop"]]
    for answered in (then, now):
        wanted = [
            shops.expected(row, reported)
            for (_, row), reported in zip(frame.iterrows(), answered["model_id"], strict=True)
        ]
        np.testing.assert_allclose(answered["prediction"], wanted, rtol=1e-6)
    early = shops.fleet.predict(frame.query("shop == 'b'"), as_of=hour(31))
    assert set(early["answered_by"]) == {"parent"}


def test_classes_come_with_their_probabilities(tmp_path: Path) -> None:
    shops = made(tmp_path, classes=True)
    shops.round(30, A, DEPT)
    frame = mixed()
    answered = shops.fleet.predict(frame)
    assert list(answered.columns) == ["prediction", "probabilities", "model_id", "answered_by"]
    for (_, row), (_, reported) in zip(frame.iterrows(), answered.iterrows(), strict=True):
        if row["shop"] == "d":
            assert (reported["prediction"], reported["probabilities"]) == (None, None)
            continue
        oracle = shops.oracles[reported["model_id"]]
        assert reported["prediction"] == shops.expected(row, reported["model_id"])
        wanted = dict(zip(oracle.classes_, oracle.predict_proba([[row["price"], row["stock"]]])[0], strict=True))
        assert reported["probabilities"] == pytest.approx(wanted, rel=1e-6)


def test_a_missing_value_is_imputed_and_no_row_is_no_answer(shops: Shops) -> None:
    names = shops.round(30, A)
    frame = pd.DataFrame({"shop": ["a", "a"], "dept": [1, 1], "price": [None, 4.0], "stock": [3.0, np.nan]})
    wanted = [shops.expected(row, names[A]) for _, row in frame.astype({"price": float}).iterrows()]
    np.testing.assert_allclose(shops.fleet.predict(frame)["prediction"], wanted, rtol=1e-6)
    nothing = shops.fleet.predict(frame.iloc[:0])
    assert (len(nothing), list(nothing.columns)) == (0, ["prediction", "lower", "upper", "model_id", "answered_by"])


def test_a_frame_without_a_feature_is_refused_before_anything_is_read(shops: Shops) -> None:
    with pytest.raises(ContractError, match=r"frame: column stock: expected it once, a feature of type int; got colum"):
        shops.fleet.predict(mixed().drop(columns="stock"))


def test_a_groups_champion_answers_alone_now_and_then(shops: Shops) -> None:
    first, second = shops.round(30, A, DEPT), shops.round(50, A, B)
    rows = mixed()
    for as_of, name in (("stream-30", first[A]), (None, second[A])):
        model = shops.fleet.model(A, as_of)
        assert model is not None
        np.testing.assert_allclose(
            model.predict(rows), shops.oracles[name].predict(rows[FEATURES].to_numpy()), rtol=1e-6
        )
    assert shops.fleet.model(DEPT) is not None
    shops.past.put(tables.EVENTS, "", event(B))
    assert shops.fleet.model(B, hour(31)) is None


def event(key: str) -> dict[str, Any]:
    return {"group_key": key, "event_id": "e", "event_time": hour(0), "ingested_at": hour(0)}


def test_a_group_that_its_parent_answers_for_has_no_model_of_its_own(shops: Shops) -> None:
    shops.round(30, A, DEPT)
    shops.past.put(tables.EVENTS, "", event(A), event(C))
    assert shops.fleet.model(C) is None
    with pytest.raises(
        StoreError, match=r'group \["cc","1"\]: nothing was ever stored of it; the nearest are \["c","1"\]'
    ):
        shops.fleet.model('["cc","1"]')


def test_a_champion_whose_signature_does_not_hold_is_passed_over_for_the_one_before_it(shops: Shops) -> None:
    first = shops.round(30, A)
    shops.round(50, A, flipped=True)
    shops.round(50, B, flipped=True)
    rows = mixed()
    model = shops.fleet.model(A)
    assert model is not None
    np.testing.assert_allclose(
        model.predict(rows), shops.oracles[first[A]].predict(rows[FEATURES].to_numpy()), rtol=1e-6
    )
    assert shops.fleet.model(B) is None
    answered = shops.fleet.predict(rows)
    assert set(answered["model_id"][(rows["shop"] == "a").to_numpy()]) == {first[A]}


def test_the_readmes_example_runs(shops: Shops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = (each for each in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "Fleet.open(" in each)
    shops.round(30, A, DEPT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(shops.text, encoding="utf-8")
    names: dict[str, Any] = {"frame": mixed()}
    exec(example, names)
    assert set(names["answers"]["answered_by"]) == {"own", "parent", "none"}
    assert set(names["then"]["answered_by"]) == {"own", "parent", "none"}
    assert names["model"] is not None
