"""A small fleet is retrained without Spark, its parents too."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from file_cases import CLASSIC, NOON

from batch.load import load
from batch.weekly import retrain
from schemas import tables
from spinney.core.keys import is_parent
from spinney.retraining import parent_fitting
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta

ROWS, STORES = 120, 3


def refuse():
    raise AssertionError("Spark was asked for")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    frame = pd.DataFrame({"id": [f"s{n}" for n in range(ROWS)], "store": [f"{n % STORES}" for n in range(ROWS)]})
    frame["at"] = [NOON + timedelta(hours=n) for n in range(ROWS)]
    frame["x"] = [n * n % 97 / 7 for n in range(ROWS)]
    frame["sold"] = 3 * frame["x"] + 10 * frame["store"].astype(int)
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    config = CLASSIC.config(tmp_path / "root")
    assert config.fleet.parents == ((),)
    load(config, str(tmp_path / "a.parquet"))
    return config


def test_every_group_and_the_parent_of_all_are_fitted_without_spark_and_kept_the_next_time(fleet) -> None:
    first, second = retrain(fleet, spark=refuse), retrain(fleet, spark=refuse)
    assert (first["groups_in"], first["fitted"], first["failed"]) == (STORES + 1, STORES + 1, 0)
    assert (second["groups_in"], second["kept"], second["fitted"]) == (STORES + 1, STORES + 1, 0)
    rows = {row["group_key"]: row["rows"] for row in delta.read_table(FleetStore.of(fleet), tables.MODELS).to_pylist()}
    assert rows == {'["0"]': 40, '["1"]': 40, '["2"]': 40, "{}": 120}
    assert sum(map(is_parent, rows)) == 1


def test_the_rows_of_all_parents_are_not_handed_over_as_one_batch(fleet, monkeypatch) -> None:
    """Blocks of whole parents are cut between batches: of one batch there would be one block, whatever its size."""
    handed: list[int] = []
    cut = parent_fitting.whole_groups

    def counted(batches, *rest):
        batches = list(batches)
        handed.extend(each.num_rows for each in batches)
        return cut(batches, *rest)

    monkeypatch.setattr(parent_fitting, "BATCH_ROWS", 50)
    monkeypatch.setattr(parent_fitting, "whole_groups", counted)
    assert retrain(fleet, ["{}"], spark=refuse)["fitted"] == 1
    assert max(handed) <= 50
    assert sum(handed) == ROWS + 1  # and one row that counts them
    (row,) = delta.read_table(FleetStore.of(fleet), tables.MODELS).to_pylist()
    assert row["rows"] == ROWS


def test_a_parent_alone_is_fitted_without_spark(fleet) -> None:
    assert retrain(fleet, ["{}"], spark=refuse)["fitted"] == 1
