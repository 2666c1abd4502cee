"""Rows that are tried from a file, and the same rows loaded and retrained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from file_cases import NOON, RANGED

from batch.load import load
from batch.weekly import retrain
from schemas import tables
from spinney.core import keys
from spinney.local.trial.fit import fit_trial
from spinney.local.trial.rows import open_rows, read_file_rows
from spinney.sources import ReadOptions
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta

ROWS = 90


def _history(folder: Path, kind: str) -> Path:
    """Of every ten rows one without x, one outside its range, one that is rejected, one that stands twice."""
    frame = pd.DataFrame({"id": [f"s{n - n % 10 if n % 10 == 9 else n}" for n in range(ROWS)], "store": "007"})
    frame["at"] = NOON + pd.to_timedelta(range(ROWS), unit="h")
    frame["x"] = [np.nan if n % 10 == 1 else 200.0 if n % 10 == 2 else n * n % 97 / 7 for n in range(ROWS)]
    frame["sold"] = 3 * frame["x"].fillna(1.0) + frame.index % 4
    frame.loc[frame.index % 10 == 3, "store"] = None
    if kind == "parquet":
        frame.to_parquet(folder / "a.parquet", index=False)
    elif kind == "csv":
        frame.to_csv(folder / "a.csv", index=False, sep=";", decimal=",")
    else:
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        (folder / "a.jsonl").write_text("\n".join(json.dumps(row, default=str) for row in rows))
    return folder / f"a.{kind}"


def test_try_of_a_file_and_retrain_after_its_load_give_one_model_whatever_the_kind_of_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    key, models = keys.encode(["007"]), set()
    for kind in ("parquet", "csv", "jsonl"):
        config = RANGED.config(tmp_path / f"root of {kind}")
        place = str(_history(tmp_path, kind))
        trial = fit_trial(
            config, read_file_rows(config.record_schema, open_rows(config.record_schema, place, ReadOptions()), key)
        )
        assert load(config, place).rejections.counts == {("out_of_range", "x"): 9, ("null_key", "store"): 9}
        retrain(config, [key], spark=None)
        (fitted,) = delta.read_table(FleetStore.of(config), tables.MODELS).to_pylist()
        assert trial.rows == fitted["rows"] == ROWS - 3 * 9
        models |= {trial.model_id, fitted["model_id"]}
    assert len(models) == 1
