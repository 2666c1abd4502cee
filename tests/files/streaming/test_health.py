"""Health: sums that can be added in any order, and are those that pandas makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from handwritten_history import fleet_toml

from schemas import tables
from spinney.core.config import Fleet, parse
from spinney.tables.arrow_schemas import arrow_schema
from streaming.health import _largest_probabilities, sum_answers, sum_late_labels

AT = datetime(2024, 5, 2, tzinfo=UTC)
NAN = float("nan")


def answers() -> pd.DataFrame:
    """Two groups, three models, one row that nobody answered, one label that is missing, one answer that is none."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame({"event_id": [f"e{n}" for n in range(60)]})
    frame["group_key"] = ['["a","1"]' if n % 3 else '["b","1"]' for n in range(60)]
    frame["shard"] = [1 if n % 3 else 2 for n in range(60)]
    frame["model_id"] = [None if n % 10 == 9 else f"m{n % 2}" for n in range(60)]
    frame["event_time"] = [AT - timedelta(minutes=7 * n) for n in range(60)]
    frame["prediction"] = [None if n % 10 == 9 else NAN if n % 12 == 4 else float(random.normal()) for n in range(60)]
    frame["label"] = pd.Series([None if n % 5 == 2 else float(random.normal()) for n in range(60)], dtype=object)
    return frame


TYPES = {
    "group_key": pa.string(), "shard": pa.int32(), "model_id": pa.string(), "event_time": pa.timestamp("us", "UTC"),
    "prediction": pa.float64(), "label": pa.float64(),
}  # fmt: skip


def sent(frame: pd.DataFrame) -> pa.Table:
    columns = {
        name: pa.array([None if value is None else value for value in frame[name].astype(object)], kind)
        for name, kind in TYPES.items()
    }
    return pa.table({**columns, "scored_at": pa.array([AT] * len(frame), pa.timestamp("us", "UTC"))})


@pytest.fixture
def fleet() -> Fleet:
    fleet = parse(fleet_toml(), "fleet.toml", {}).fleet
    return fleet.model_copy(update={"label_delay": timedelta(hours=1), "shards": 4})


def oracle(frame: pd.DataFrame, *, answered: bool) -> dict[tuple, tuple]:
    """label_delay is an hour: a quarter of it is a step of maturity."""
    label, prediction = (pd.to_numeric(frame[name]).astype(float) for name in ("label", "prediction"))
    loss = (label - prediction).abs()
    known = frame.assign(
        loss=loss, square=loss * loss, labelled=label.notna(),
        model_id=frame["model_id"].where(label.isna() | loss.notna(), None),
        step=[int(at.timestamp()) // 900 for at in frame["event_time"]],
    )  # fmt: skip
    found = {}
    for (shard, key, model, _), mine in known.groupby(["shard", "group_key", "model_id", "step"], dropna=False):
        name = (shard, key, None if pd.isna(model) else model, mine["event_time"].max())
        sums = (mine["loss"].sum(), mine["square"].sum())
        found[name] = (len(mine) if answered else 0, int(mine["labelled"].sum()), *sums)
    return found


def expected_predictions(frame: pd.DataFrame) -> dict[tuple, list[float] | None]:
    """The finite predictions of each row of health, ascending, as float32."""
    label, prediction = (pd.to_numeric(frame[name]).astype(float) for name in ("label", "prediction"))
    known = frame.assign(
        value=prediction.astype(np.float32), step=[int(at.timestamp()) // 900 for at in frame["event_time"]],
        model_id=frame["model_id"].where(label.isna() | (label - prediction).notna(), None),
    )  # fmt: skip
    found = {}
    for (shard, key, model, _), mine in known.groupby(["shard", "group_key", "model_id", "step"], dropna=False):
        name = (shard, key, None if pd.isna(model) else model, mine["event_time"].max())
        found[name] = sorted(mine["value"].dropna().tolist()) or None
    return found


@pytest.mark.parametrize("answered", [True, False])
def test_the_sums_are_those_that_pandas_makes(fleet: Fleet, answered: bool) -> None:
    rows = sent(answers())
    if answered:
        found = sum_answers(rows, fleet, 7)
        found = found.filter(pc.is_valid(found["group_key"]))
    else:
        found = sum_late_labels(rows, fleet, AT.date(), 7)
    assert found.schema == arrow_schema(tables.HEALTH)
    expected = oracle(answers(), answered=answered)
    got, predictions = {}, {}
    for row in found.to_pylist():
        assert (row["batch_id"], row["observed_on"], row["loss_name"]) == (7, AT.date(), "absolute")
        name = (row["shard"], row["group_key"], row["model_id"], pd.Timestamp(row["last_event_time"]))
        got[name] = (row["rows"], row["labelled"], row["loss"], row["squared_loss"])
        predictions[name] = row["drift"]
    assert got.keys() == expected.keys()
    assert predictions == (expected_predictions(answers()) if answered else dict.fromkeys(expected))
    for name, sums in expected.items():
        assert got[name] == pytest.approx(sums), name
    assert sum(labelled for _, labelled, *_ in got.values()) > sum(1 for name in got if name[2]) / 2
    unanswered = [sums for (_, _, model, _), sums in got.items() if model is None]
    nobody, no_loss = range(9, 60, 10), (4, 16, 28, 40)  # of five answers that are none, one has no label: 52
    assert sum(labelled for _, labelled, *_ in unanswered) == len(nobody) + len(no_loss)
    assert all(loss == 0 for *_, loss, _ in unanswered)


def test_of_classes_the_largest_probability_is_what_drift_is_measured_by(fleet: Fleet) -> None:
    fleet = fleet.model_copy(update={"task": "classification", "loss": "log"})
    probabilities = [[("a", 0.25), ("b", 0.75)], None, [], [("a", 0.5), ("b", 0.5)], [("a", 1.0)]]
    columns = {
        "shard": pa.array([1] * 5, pa.int32()), "group_key": ['["a"]'] * 5, "model_id": ["m", None, "m", "m", "other"],
        "event_time": pa.array([AT] * 5, pa.timestamp("us", "UTC")), "prediction": ["b", None, None, "a", "a"],
        "probabilities": pa.array(probabilities, pa.map_(pa.string(), pa.float64())), "label": pa.nulls(5, pa.string()),
        "scored_at": pa.array([AT] * 5, pa.timestamp("us", "UTC")),
    }  # fmt: skip
    found = sum_answers(pa.table(columns), fleet, 7)
    drift = {row["model_id"]: row["drift"] for row in found.to_pylist() if row["group_key"]}
    assert drift == {"m": [0.5, 0.75], None: None, "other": [1.0]}


@pytest.mark.parametrize("begin", range(6))
@pytest.mark.parametrize("rows", range(6))
def test_the_largest_probabilities_of_a_slice_are_those_of_its_rows(begin: int, rows: int) -> None:
    probabilities = [[("a", 0.25), ("b", 0.75)], None, [], [("a", 0.7), ("b", 0.3)], [("a", 0.99)]]
    whole = pa.array(probabilities, pa.map_(pa.string(), pa.float64()))
    found = _largest_probabilities(whole.slice(begin, rows))
    np.testing.assert_array_equal(found, [0.75, NAN, NAN, 0.7, 0.99][begin : begin + rows])


@pytest.mark.parametrize("answered", [True, False])
def test_rows_of_several_labels_keep_their_losses_in_ascending_order(fleet: Fleet, answered: bool) -> None:
    frame = pd.DataFrame({"event_id": [f"e{n}" for n in range(106)]})
    frame["group_key"] = ['["few"]'] * 4 + ['["one"]'] * 2 + ['["many"]'] * 100
    frame["shard"], frame["model_id"], frame["event_time"], frame["prediction"] = 1, "m", AT, 0.0
    frame["label"] = pd.Series([3.0, 1.0, None, 2.5, 4.0, None, *map(float, range(100))], dtype=object)
    rows = sent(frame)
    found = sum_answers(rows, fleet, 7) if answered else sum_late_labels(rows, fleet, AT.date(), 7)
    losses = {row["group_key"]: row["losses"] for row in found.to_pylist() if row["group_key"]}
    assert (losses['["few"]'], losses['["one"]']) == ([1.0, 2.5, 3.0], None)
    many = losses['["many"]']
    assert (len(many), many[0], many[-1]) == (64, 0.0, 99.0)
    assert set(np.diff(many)) == {1.0, 2.0}


def test_batches_add_up_however_they_are_cut(fleet: Fleet) -> None:
    frame = answers()
    cut = frame.sample(frac=1.0, random_state=4)
    parts = [sum_answers(sent(part), fleet, n) for n, part in enumerate((cut[:25], cut[25:]))]
    whole = sum_answers(sent(frame), fleet, 0)
    names = ("rows", "labelled", "loss", "squared_loss")

    def totals(rows) -> dict:
        frame = rows.filter(pc.is_valid(rows["group_key"])).to_pandas()
        sums = frame.groupby(["group_key", frame["model_id"].fillna("")])[list(names)].sum()
        return dict(zip(sums.index, sums.to_numpy().tolist(), strict=True))

    added, expected = totals(pa.concat_tables(parts)), totals(whole)
    assert added.keys() == expected.keys()
    assert all(added[name] == pytest.approx(expected[name]) for name in expected)


def test_a_tick_is_one_row_a_shard_with_the_newest_time(fleet: Fleet) -> None:
    found = sum_answers(sent(answers()), fleet, 3).to_pylist()
    found = [row for row in found if row["group_key"] is None]
    assert sorted(row["shard"] for row in found) == [0, 1, 2, 3]
    for row in found:
        assert (row["group_key"], row["model_id"], row["rows"], row["labelled"]) == (None, None, 0, 0)
        assert (row["last_event_time"], row["batch_id"]) == (AT, 3)


def test_where_no_label_came_late_there_is_no_row(fleet: Fleet) -> None:
    assert sum_late_labels(sent(answers()[:0]), fleet, AT.date(), 7).num_rows == 0
