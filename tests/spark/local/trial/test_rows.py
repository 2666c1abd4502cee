"""A trial's rows are those that a round fits on, and so is its model."""

from __future__ import annotations

import json
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pytest

from schemas import tables
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fitting import fit_groups
from spinney.local.trial.fit import fit_trial
from spinney.local.trial.rows import read_stored_rows
from spinney.retraining.fitting import training_row_reader
from spinney.retraining.round_request import READ
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.table_files import GroupIndex

TIMES = ('features = ["price", "stock"]', 'features = ["at", "price", "stock"]')
CHOICE = (
    "[recipe]\n",
    """[recipe]
estimator = "best_of"
params = { compared_rows = 5, candidates = [{ estimator = "seasonal" }, { estimator = "ridge" }] }
""",
)
LABELS_INSIDE = ('outcomes = "sold"\n', "")


@pytest.mark.parametrize(
    "changes", [(), (("window_rows = 30", "window_rows = 500"),), (LABELS_INSIDE,), (TIMES, CHOICE)]
)
def test_a_trial_fits_the_rows_of_a_round_and_gives_its_model(world, changes) -> None:
    fleet = world(*changes)
    config = fleet.config
    fleet.sell("a", 1, 200)
    fleet.sell("b", 1, 260)  # the clock runs on with another group: the oldest of a's rows are beyond the window
    if config.record_schema.has_label_in_event:
        again = fleet.rows(tables.EVENTS)
        fleet.put(
            tables.EVENTS, [{**row, "event_id": row["event_id"] + "x", "sold": row["price"] * 2} for row in again]
        )
    key = '["a","1"]'
    found = read_stored_rows(FleetStore.of(config), config.recipe.window, key)
    source = training_row_reader.TrainingTables.of(
        FleetStore.of(config), config.recipe, delta.pin_versions(FleetStore.of(config), *READ), found.clock
    )
    read = training_row_reader.read_group_rows(source, pa.array([key]), GroupIndex([key], config.fleet.shards))
    rows = read.table.to_pandas().assign(group_key=key)
    trial = fit_trial(config, found)
    row = fit_groups(
        rows, pd.DataFrame({"group_key": [key]}), Recipe.of(config), found.clock, fleet.signer, lambda: 0.0
    ).iloc[0]
    assert trial.rows == row["rows"] >= 30
    assert trial.model_id == row["model_id"]
    assert trial.trained_from >= found.clock - timedelta(days=10)
    report = json.loads(row["metrics"])
    assert trial.losses.heldout == report["challenger_loss"]
    assert dict(trial.candidates) == report.get("candidates", {})
