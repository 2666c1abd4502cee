"""What is stored of the incumbent and of the fleet's fits is brought together: the rows of first models, no others."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from spinney.core import keys
from spinney.core.config import parse
from spinney.core.reporting.incumbent_comparison import Basis, ComparedErrors
from spinney.fleet import Fleet
from spinney.storage import signing_key

FIRST, CHOSEN = keys.encode(["a", 1]), keys.encode(["b", 1])
ROWS = 10


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    """An event an hour with the label inside, 0; the incumbent is wrong by as many as the hours since the start."""
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    made = Past(parse(fleet_toml(tmp_path / "root"), "fleet.toml", {}))
    for shop, key in (("a", FIRST), ("b", CHOSEN)):
        rows = [{"group_key": key, "event_id": f"{shop}{n}", "shard": 0, "batch_id": 0} for n in range(ROWS)]
        event = {"shop": shop, "dept": 1, "price": 1.0, "sold": 0.0, "ingested_on": date(2024, 5, 1)}
        times = [{"event_time": hour(n), "ingested_at": hour(n)} for n in range(ROWS)]
        made.put(tables.EVENTS, "", *(row | at | event for row, at in zip(rows, times, strict=True)))
        made.put(tables.INCUMBENT, "", *(row | {"prediction": float(n)} for n, row in enumerate(rows)))
    return made


def fitted(past: Past, key: str, champion_id: str | None) -> None:
    """A champion, fitted on all ten rows; the fifth that was held out are those of hours 8 and 9."""
    metrics = {"heldout_rows": 2, "challenger_loss": 1.5, "champion_id": champion_id}
    row = {"group_key": key, "model_id": f"m{key}", "shard": 0, "round_id": "stream-1", "batch_id": 0}
    row |= {"trained_from": hour(0), "trained_through": hour(ROWS - 1), "fitted_at": hour(ROWS), "rows": ROWS}
    row |= {"recipe_id": "by hand", "status": "fitted", "clock": hour(ROWS), "metrics": json.dumps(metrics)}
    past.put(tables.MODELS, "stream", row)
    decided = {"epoch": 0, "decision": "promoted", "decided_at": hour(ROWS), "by": "stream", "reason": "passed"}
    past.put(tables.PROMOTIONS, "stream", {**row, **decided})


def test_where_labels_are_inside_the_events_held_out_rows_are_compared(past: Past) -> None:
    fitted(past, FIRST, champion_id=None)
    assert Fleet(past.config).incumbent().groups == (ComparedErrors(FIRST, Basis.HELD_OUT, 2, 8.5, 1.5),)


def test_a_champion_that_a_gate_chose_by_those_rows_is_not_measured_on_them(past: Past) -> None:
    fitted(past, FIRST, champion_id=None)
    fitted(past, CHOSEN, champion_id="before")
    past.put(tables.MODELS, "people", {"group_key": CHOSEN, "model_id": "before", "trained_through": hour(2)})
    found = Fleet(past.config).incumbent()
    assert found.whole == (ComparedErrors(None, Basis.HELD_OUT, 2, 8.5, 1.5),)
    assert [each.group_key for each in found.groups] == [FIRST]
