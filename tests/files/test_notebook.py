"""The notebook of the flights runs, on a small fleet that is where the demo would leave its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import notebook
import pandas as pd
import pytest
from handwritten_history import Past, hour

from schemas import tables
from spinney.core import keys
from spinney.core.config import parse
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fitting import fit_groups
from spinney.serving.model_cache import cache

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples" / "flights" / "fleet.ipynb"
FIRST, SECOND = datetime.fromisoformat("2013-02-12T00:00Z"), datetime.fromisoformat("2013-02-13T00:00Z")
GROUPS = ('["AA","LGA","DFW"]', '["US","LGA","DCA"]')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where it is run: the examples, and tables that this test fills."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "k" * 32)
    monkeypatch.setenv("SPINNEY_STORAGE__ROOT", "set by the notebook")
    cache.cache_clear()
    yield tmp_path
    cache.cache_clear()


def fill() -> None:
    """`batch-0` fits two groups and everyone on six weeks; a day later the stream fits the first group again."""
    text = Path("examples/flights/fleet.toml").read_text(encoding="utf-8")
    past = Past(parse(text, "fleet.toml", {"SPINNEY_STORAGE__ROOT": "work/demo"}))
    flights = pd.read_parquet("examples/flights/departures.parquet").dropna(subset=["air_time_min"])
    flights["group_key"] = [
        keys.encode(each) for each in flights[["carrier", "origin", "dest"]].itertuples(index=False)
    ]
    events = flights.rename(columns={"scheduled_departure": "event_time", "air_time_min": "label"})
    for key in GROUPS:
        past.put(tables.EVENTS, "", {"group_key": key, "event_id": "e", "event_time": FIRST, "ingested_at": hour(0)})
    both = events[events["group_key"].isin(GROUPS)]
    everyone = both.assign(group_key=keys.GLOBAL)
    fitted(past, "batch", 1, pd.concat([both, everyone]), FIRST)
    fitted(past, "stream", 2, both[both["group_key"] == GROUPS[0]], SECOND)


def fitted(past: Past, part: str, at: int, rows: pd.DataFrame, until: datetime) -> None:
    older = rows[rows["event_time"] < until]
    asks = older[["group_key"]].drop_duplicates().reset_index(drop=True)
    found = fit_groups(older, asks, Recipe.of(past.config), until, past.signer)
    assert set(found["status"]) == {"fitted"}
    expected = {"shard": 0, "round_id": f"{part}-{at - 1}", "fitted_at": hour(at), "clock": until, "epoch": 0}
    wanted = ("group_key", "model_id", "codec", "payload", "signature", "trained_through", "rows", "status")
    models = [{**{name: row[name] for name in wanted}, **expected} for row in found.to_dict("records")]
    decided = {"decision": "promoted", "decided_at": hour(at), "by": part, "reason": "passed", "challenger_loss": 5.0}
    past.put(tables.MODELS, part, *models)
    past.put(tables.PROMOTIONS, part, *({**model, **decided} for model in models))
    past.put(tables.ROUNDS, part, {"round_id": f"{part}-{at - 1}", "kind": part, "started_at": hour(at)})


def test_every_cell_runs_and_answers_are_those_of_now_and_of_the_first_round(folder: Path) -> None:
    fill()
    names: dict[str, Any] = {}
    shown = [notebook.ran("".join(cell["source"]), names) for cell in notebook.code(notebook.read(FILE))]
    assert all(shown), "each cell shows something"
    assert os.environ["SPINNEY_STORAGE__ROOT"] == "work/demo"
    assert sorted(names["groups"]["group_key"]) == sorted(GROUPS)
    asked = names["next_day"]["carrier"] + names["next_day"]["origin"] + names["next_day"]["dest"]
    refitted, other = (asked == "AALGADFW").to_numpy(), (asked == "USLGADCA").to_numpy()
    assert min(refitted.sum(), other.sum()) > 5
    assert (names["answers"]["answered_by"] == "own").to_numpy().tolist() == (refitted | other).tolist()
    assert names["other"].tolist() == refitted.tolist()
    assert "image/png" in shown[-1][-1]["data"]


def test_what_is_stored_in_it_came_out_of_its_code() -> None:
    stored = notebook.read(FILE)
    assert stored["metadata"]["outputs_of"] == notebook.digest(stored), (
        "run tests/support/notebook.py on the demo's tables"
    )
    assert all(cell["outputs"] for cell in notebook.code(stored))


def test_an_edited_cell_is_noticed() -> None:
    edited = json.loads(json.dumps(notebook.read(FILE)))
    notebook.code(edited)[0]["source"].append("1")
    assert edited["metadata"]["outputs_of"] != notebook.digest(edited)
