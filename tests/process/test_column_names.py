"""A fleet may call its columns whatever our own frames once called theirs: it is judged, fitted and asked all the same.

The oracle is the same fleet whose columns have names that nobody else uses.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from handwritten_history import Past
from unvalidated_records import unvalidated

from schemas import tables
from spinney.core.config import Config, parse
from spinney.core.errors import ConfigError
from spinney.core.keys import shard_of
from spinney.core.recipes.recipe import Recipe
from spinney.fleet import Fleet
from spinney.retraining.fitting import spark_fitting
from spinney.retraining.fitting.spark_fitting import Fitter
from spinney.retraining.fitting.training_row_reader import TrainingTables
from spinney.retraining.round_fitting import requests_of
from spinney.storage.layout import FleetStore
from spinney.tables.delta import DirectoryWriter
from spinney.tables.row_writing import RowWriting, TargetTable, WrittenRows
from streaming.ingest import stored_rows

NAMES = (
    *("key", "value", "record_time", "reason", "detail", "field", "unknown_fields", "kind", "arrived_at"),
    *("distinct_in", "distinct_id", "place", "key_store", "is_ask", "champion_id", "champion_codec"),
    *("champion_payload", "champion_signature", "champion_trained_through", "model_id", "payload"),
    *("epoch", "decision", "prediction"),
    *("answered_by", "probabilities", "rows", "text", "v", "fields", "at", "trained_through", "status", "_read"),
    *("_typed", "_value", "_judged", "#group", "#place", "#place_min", "#parent", "#origin", "#hash", "#task"),
)
START = datetime(2024, 5, 1, tzinfo=UTC)
KEY = '["a"]'


def configured(root: Path, names: tuple[str, ...]) -> Config:
    columns = "\n".join(f'"{name}" = "double"' for name in names)
    features = json.dumps(names)
    text = f"""\
[fleet]
name = "named"
group = ["shop"]
event_id = "sale"
event_time = "when"
target = "sold"
features = {features}
[fleet.columns]
shop = "string"
sold = "double"
{columns}
[recipe]
min_rows = 5
[kafka]
events = "sales"
[storage]
root = "{root}"
"""
    return parse(text, "fleet.toml", {})


def events(names: tuple[str, ...]) -> list[dict[str, Any]]:
    random = np.random.default_rng(7)
    values = random.normal(size=(60, len(names)))
    return [
        {
            "sale": f"e{n}",
            "when": (START + timedelta(minutes=n)).isoformat(),
            "shop": "a",
            "sold": float(row.sum() + n % 3),
            **dict(zip(names, row.tolist(), strict=True)),
        }
        for n, row in enumerate(values)
    ]


def stored(config: Config, rows: list[dict[str, Any]]) -> None:
    """As the stream would: validated in a worker, and written by the task that has the rows."""
    place = FleetStore.of(config).directory(tables.EVENTS)
    values = [json.dumps(row).encode() for row in rows]
    records = unvalidated(values, "sales", START, record_time=START + timedelta(days=1))
    parts = list(stored_rows(config.record_schema, ()).of([records]))
    assert [(kind, found.num_rows) for kind, found in parts] == [("event", len(rows))]
    folder = Path(place.uri)
    target = TargetTable(folder, place.contract)
    (report,) = RowWriting({"event": target}, 0).write(parts)
    files = WrittenRows.of(pa.Table.from_batches([report]), "event", target).add_actions()
    DirectoryWriter(place, "ingest", "c").append_files(files, step="events", batch_id=0)


def answered(root: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """What the fleet answers to new rows after one fit."""
    config = configured(root, names)
    past = Past(config)
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "k" * 32)
    stored(config, events(names))
    clock = START + timedelta(days=1)
    fitting = Fitter(
        Recipe.of(config), past.signer, clock, TrainingTables.of(FleetStore.of(config), config.recipe, {}, clock), ()
    )
    shard = shard_of(KEY, config.fleet.shards)
    plan = pd.DataFrame({"shard": [shard], "group_key": [KEY], "champion_id": [None], "events": [60]})
    asked = spark_fitting.task_batches(requests_of(plan))
    (made,) = pa.Table.from_batches(fitting.fit_tasks(asked)).to_pylist()
    assert made["status"] == "fitted", made["error"]
    row = {"fitted_at": clock, "clock": clock, "decided_at": clock, "epoch": 0, "decision": "promoted", "by": "stream"}
    past.put(tables.PROMOTIONS, "stream", {**made, **row, "round_id": "r"})
    frame = pd.DataFrame(events(names)).drop(columns=["sold", "when"])
    return Fleet(config).predict(frame)


def test_columns_may_have_any_name_that_no_table_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = answered(tmp_path / "odd", NAMES, monkeypatch)
    plain = answered(tmp_path / "plain", tuple(f"x{n:03}" for n in range(len(NAMES))), monkeypatch)
    assert found["answered_by"].tolist() == ["own"] * 60
    np.testing.assert_array_equal(found["prediction"], plain["prediction"])


@pytest.mark.parametrize("name", ["_spinney_kind", "_SPINNEY_x"])
def test_names_that_are_kept_for_our_own_columns_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"fleet\.columns\.{name}.*does not begin with _spinney_"):
        configured(tmp_path, (name,))
