"""A fleet that begins with what was there: its history, its models, and what its old system answered."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LinearRegression
from skops import io as skops_io

from batch import weekly
from batch.load import load
from batch.load_models import load_models
from schemas import tables
from spinney.cli import main
from spinney.core.reporting.incumbent_comparison import Basis
from spinney.fleet import Fleet
from spinney.operations.interventions import Attribution
from spinney.storage import signing_key

START = datetime(2024, 5, 1, tzinfo=UTC)
A, B, UNDATED, NEW = '["a","1"]', '["b","1"]', '["c","1"]', '["d","1"]'
ROWS, SEEN = 25, 15
SLOPES = {"a": 3.0, "b": 5.0, "c": 2.0, "d": 4.0}
SAID = Attribution("ada", "from the old system")


@pytest.fixture
def fleet(world, monkeypatch):
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    return world(("[storage]", '[tracking]\nmode = "off"\n[storage]'), ('parents = [["dept"], []]\n', ""))


def history() -> pd.DataFrame:
    """An event an hour; the old system is off by 2 in `a` and `d`, nowhere else, and says nothing of the oldest row."""
    random, frames = np.random.default_rng(1), []
    for shop, slope in SLOPES.items():
        frame = pd.DataFrame({"shop": shop, "dept": np.array([1] * ROWS, "int32")})
        frame["sale"] = [f"{shop}{n:02}" for n in range(ROWS)]
        frame["at"] = [START + timedelta(hours=n) for n in range(ROWS)]
        frame["price"], frame["stock"] = random.normal(size=ROWS), random.integers(0, 5, ROWS).astype("int32")
        frame["sold"] = slope * frame["price"] - frame["stock"] + 0.1 * random.normal(size=ROWS)
        frame["prediction"] = frame["sold"] + (2.0 if shop in "ad" else 0.0)
        frame.loc[0, "prediction"] = np.nan
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def parquet(frame: pd.DataFrame, file: Path) -> str:
    frame.to_parquet(file, coerce_timestamps="us", index=False)
    return str(file)


def old_models(folder: Path, frame: pd.DataFrame) -> dict[str, LinearRegression]:
    """Fitted on the rows up to hour SEEN; `a`'s on half of what they say. When `c`'s was is not told; `d` has none."""
    models, lines = {}, ["shop,dept,model,trained_through"]
    for shop, rows in frame[frame["shop"] != "d"].groupby("shop"):
        then = rows.head(SEEN).assign(sold=lambda rows, shop=shop: rows["sold"] * (0.5 if shop == "a" else 1.0))
        models[shop] = LinearRegression().fit(then[["stock", "price"]], then["sold"])
        (folder / f"{shop}.skops").write_bytes(skops_io.dumps(models[shop]))
        lines.append(f"{shop},1,{shop}.skops,{'' if shop == 'c' else then['at'].iloc[-1].isoformat()}")
    (folder / "models.csv").write_text("\n".join(lines))
    return models


def test_history_and_models_come_in_answer_exactly_and_are_replaced_by_better_ones(spark, fleet, tmp_path) -> None:
    frame = history()
    added = load(fleet.config, parquet(frame, tmp_path / "history.parquet")).added
    assert added == {"events": 100, "incumbent": 96, "outcomes": 100, "dead_letters": 0}
    assert not Fleet(fleet.config).incumbent().whole  # no model yet, nothing to compare
    models = old_models(tmp_path, frame)
    text = load_models(fleet.config, str(tmp_path / "models.csv"), SAID)
    assert [(each.group_key, each.what.value, each.why) for each in text] == [
        (A, "imported", None),
        (B, "imported", None),
        (UNDATED, "imported", None),
    ]
    asked = frame.drop(columns=["sold", "prediction"])
    found = Fleet(fleet.config).predict(asked)
    for shop, model in models.items():
        mine = asked["shop"] == shop
        assert found["prediction"][mine].tolist() == model.predict(asked.loc[mine, ["stock", "price"]]).tolist()
    assert found["answered_by"].tolist() == ["own"] * 3 * ROWS + ["none"] * ROWS

    weekly.retrain(fleet.config, spark=spark)
    decided = {row["group_key"]: row for row in fleet.rows(tables.PROMOTIONS) if row["by"] == "batch"}
    newest = frame["at"].sort_values().iloc[-1] - timedelta(hours=1)  # a label comes an hour later
    fifth = frame[(frame["at"] <= newest) & (frame["at"] > newest - timedelta(hours=4))]
    for key, shop in ((A, "a"), (B, "b")):
        rows = fifth[fifth["shop"] == shop]
        theirs = np.abs(models[shop].predict(rows[["stock", "price"]]) - rows["sold"]).mean()
        assert decided[key]["rows_compared"] == len(rows) == 4
        assert decided[key]["champion_loss"] == pytest.approx(theirs, rel=1e-9)
    assert decided[A]["decision"] == "promoted"
    assert decided[A]["reason"].startswith("better: loss")
    undated = decided[UNDATED]
    assert (undated["decision"], undated["reason"]) == (
        "unproven",
        "thin evidence: no rows compared with the champion, 3 needed",
    )
    answering = {each.group_key: each.model_id for each in Fleet(fleet.config).groups()}
    assert {key: answering[key] for key in (A, UNDATED)} == {key: decided[key]["model_id"] for key in (A, UNDATED)}

    compared = Fleet(fleet.config).incumbent()
    mine = {each.group_key: each for each in compared.groups}
    assert set(mine) == {NEW}  # of the others a gate chose by these rows
    assert (mine[NEW].basis, mine[NEW].rows, mine[NEW].fleet) == (Basis.HELD_OUT, 4, decided[NEW]["challenger_loss"])
    assert mine[NEW].incumbent == pytest.approx(2.0)
    assert compared.measure == "absolute"


def test_what_both_answered_is_compared_after_the_models_training_alone(spark, fleet, tmp_path, monkeypatch) -> None:
    frame = history()
    source = parquet(frame, tmp_path / "history.parquet")
    load(fleet.config, source)
    assert load(fleet.config, source).added == dict.fromkeys(("events", "incumbent", "outcomes", "dead_letters"), 0)
    fleet.put(
        tables.MODELS, [{"group_key": A, "model_id": "m", "trained_through": START + timedelta(hours=9)}], "stream"
    )
    mine = frame[frame["shop"] == "a"]
    answered = [
        {"group_key": A, "event_id": row.sale, "event_time": row.at, "prediction": row.sold + 0.5, "model_id": "m",
         "scored_on": START.date()}
        for row in mine.itertuples()
    ]  # fmt: skip
    fleet.put(tables.PREDICTIONS, answered)
    compared = Fleet(fleet.config).incumbent()
    # Of hours 0 to 24: after the training, and an hour old by the newest answer: 10 to 23.
    (whole,) = compared.whole
    assert (whole.basis, whole.rows) == (Basis.ANSWERED, 14)
    assert (whole.incumbent, whole.fleet) == (pytest.approx(2.0), pytest.approx(0.5))
    assert [each.group_key for each in compared.groups] == [A]
    file = tmp_path / "fleet.toml"
    file.write_text(fleet.config.text)
    done = CliRunner().invoke(main, ["fleet", "--incumbent", "--config", str(file)])
    assert done.stdout.splitlines() == [
        "group_key\tbasis\trows\tincumbent\tfleet",
        "all\tanswered\t14\t2\t0.5",
        f"{A}\tanswered\t14\t2\t0.5",
    ]
    assert "answered: rows that both answered, the fleet by a model that had not seen them (absolute)" in done.stderr
    as_json = json.loads(CliRunner().invoke(main, ["fleet", "--incumbent", "--json", "--config", str(file)]).stdout)
    assert as_json["whole"][0]["rows"] == 14


def test_a_declared_column_of_that_name_is_the_fleets_own_and_no_incumbent(spark, world, tmp_path) -> None:
    fleet = world(
        ('features = ["price", "stock"]', 'features = ["price", "prediction"]'),
        ('stock = "int"', 'prediction = "double"'),
    )
    frame = history().drop(columns="stock")
    added = load(fleet.config, parquet(frame, tmp_path / "history.parquet")).added
    assert added == {"events": 100, "outcomes": 100, "dead_letters": 0}
    assert fleet.rows(tables.INCUMBENT) == []
