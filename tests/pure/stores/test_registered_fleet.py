"""The registered model behind `mlflow models serve`: requests as that server decodes them, without a server."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from past import START, Past, hour

from schemas import tables
from spinney.core.config import parse
from spinney.core.fitting import fit_groups
from spinney.core.recipe import Recipe
from spinney.fleet import Fleet
from spinney.stores import manifest, registry
from spinney.stores.models import cache

TEXT = """\
[fleet]
name = "doors"
group = ["store"]
parents = []
event_id = "id"
event_time = "at"
target = "sold"
features = ["at", "opened", "x"]
[fleet.columns]
store = "string"
opened = "{opened}"
x = "double"
sold = "double"
[recipe]
min_rows = 20
[kafka]
events = "doors"
[storage]
root = "{root}"
"""
AT, OPENED = datetime.fromisoformat("2024-05-03T10:30:00+00:00"), datetime.fromisoformat("2024-05-03T06:00:00+00:00")


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "k" * 32)
    cache.cache_clear()


class Served:
    """A fleet whose model learned from times, and its pyfunc."""

    def __init__(self, folder: Path, opened: str = "timestamp") -> None:
        past = Past(parse(TEXT.format(root=folder / "root", opened=opened), "fleet.toml", {}))
        random = np.random.default_rng(5)
        at = pd.Series([START + timedelta(hours=n) for n in range(60)]).astype("datetime64[us, UTC]")
        opened_at = at - pd.to_timedelta(random.integers(1, 300, 60), unit="m")
        rows = pd.DataFrame({"at": at, "event_time": at, "opened": opened_at, "x": random.normal(size=60)})
        rows["label"] = (at - opened_at).dt.total_seconds() / 600 + rows["x"] + at.dt.hour
        rows = rows.assign(group_key='["a"]', event_id=[f"e{n}" for n in range(60)])
        asks = pd.DataFrame({"group_key": ['["a"]']})
        (row,) = fit_groups(rows, asks, Recipe.of(past.config), hour(61), past.signer).to_dict("records")
        assert row["status"] == "fitted", row["error"]
        made = {name: row[name] for name in ("group_key", "model_id", "recipe_id", "codec", "signature", "payload")}
        told = {
            "round_id": "batch-0", "trained_through": hour(60), "fitted_at": hour(61), "clock": hour(61), "epoch": 0,
            "decision": "promoted", "decided_at": hour(61), "by": "batch",
        }  # fmt: skip
        past.put(tables.MODELS, "batch", {**told, **made, "status": "fitted"})
        past.put(tables.PROMOTIONS, "batch", {**told, **made})
        self.fleet = Fleet(past.config)
        (folder / manifest.FOLDER).mkdir()
        manifest.write(past.config, self.fleet.champions(), folder / manifest.FOLDER)
        registry._save(past.config, folder / manifest.FOLDER, folder / "model", registry.pinned())
        self.model = mlflow.pyfunc.load_model(str(folder / "model"))

    def invoke(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        schema = self.model.metadata.get_input_schema()
        found = scoring_server.invocations(json.dumps(body), "application/json", self.model, schema)
        assert found.status == 200
        return list(json.loads(found.response)["predictions"])

    @property
    def expected(self) -> float:
        """What the fleet answers to the row with real times."""
        frame = pd.DataFrame([{"store": "a", "at": AT, "opened": OPENED, "x": 1.0}])
        return float(self.fleet.predict(frame)["prediction"].iloc[0])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPINNEY_SIGNING_KEY", "k" * 32)
        return Served(tmp_path_factory.mktemp("served"))


def row(at: Any, opened: Any) -> dict[str, Any]:
    return {"store": "a", "at": at, "opened": opened, "x": 1}


@pytest.mark.parametrize(
    ("at", "opened"),
    [
        (AT.isoformat(), OPENED.isoformat()),
        ("2024-05-03T10:30:00Z", "2024-05-03T08:00+02:00"),
        ("2024-05-03 10:30:00", "2024-05-03 06:00"),
        (AT.timestamp(), OPENED.timestamp()),
        (int(AT.timestamp()), int(OPENED.timestamp())),
        (int(AT.timestamp() * 1000), int(OPENED.timestamp() * 1000)),
    ],
    ids=["iso", "zones", "spaces", "float", "seconds", "milliseconds"],
)
def test_times_are_answered_however_json_says_them(served: Served, at: Any, opened: Any) -> None:
    told = row(at, opened)
    columns, values = list(told), list(told.values())
    bodies = [
        {"dataframe_records": [told]},
        {"dataframe_split": {"columns": columns, "data": [values]}},
        {"instances": [told]},
        {"inputs": {name: [value] for name, value in told.items()}},
    ]
    for body in bodies:
        (answer,) = served.invoke(body)
        assert answer["prediction"] == served.expected
        assert answer["answered_by"] == "own"


def test_rows_with_and_without_a_time_go_together(served: Served) -> None:
    rows = [row(AT.isoformat(), OPENED.timestamp()), row(AT.isoformat(), None), row("2024-05-03", "")]
    answers = served.invoke({"dataframe_records": rows})
    assert answers[0]["prediction"] == served.expected
    assert [each["answered_by"] for each in answers] == ["own"] * 3


def test_what_pandas_writes_as_json_is_answered(served: Served) -> None:
    frame = pd.DataFrame([{"store": "a", "at": AT, "opened": OPENED, "x": 1.0}])
    for form in ("epoch", "iso"):
        body = json.loads(frame.to_json(orient="split", date_format=form))
        assert served.invoke({"dataframe_split": body})[0]["prediction"] == served.expected


def test_a_text_that_is_no_time_is_told_to_who_asked(served: Served) -> None:
    said = r"column opened: expected timestamp, ISO 8601 .*; got str 'soon' in row 0"
    with pytest.raises(MlflowException, match=said):
        served.invoke({"dataframe_records": [row(AT.isoformat(), "soon")]})


def test_the_declared_types_stand_beside_the_model(served: Served) -> None:
    assert served.model.metadata.metadata["columns"]["opened"] == "timestamp"


def test_a_frame_with_real_times_is_answered_as_before(served: Served) -> None:
    frame = pd.DataFrame([{"store": "a", "at": pd.Timestamp(AT), "opened": pd.Timestamp(OPENED), "x": 1.0}])
    assert served.model.predict(frame)["prediction"].iloc[0] == served.expected
