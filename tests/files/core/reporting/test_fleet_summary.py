from __future__ import annotations

from typing import Any

import pyarrow as pa

from spinney.core.reporting.fleet_summary import BaselineComparison, Summary, summarize_fleet
from spinney.core.reporting.incumbent_comparison import Basis, ComparedErrors, IncumbentComparison
from spinney.tables.readers.fit_metrics import MEASURES

NOTHING = IncumbentComparison("absolute", (), ())


def standing(key: str, state: str = "fresh", model_id: str | None = "m") -> dict[str, Any]:
    return {"group_key": key, "state": state, "model_id": model_id and f"{model_id}-{key}", "recipe": "ridge 3f9c2ab0"}


def summarize(rows: list[dict[str, Any]], fits: dict[str, dict[str, Any]], incumbent: Any = NOTHING) -> Summary:
    statuses = pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in standing("a")})
    known = [{"model_id": name, **fit} for name, fit in fits.items()]
    types = pa.schema([("model_id", pa.string()), *MEASURES])
    return summarize_fleet("shops", "absolute", statuses, pa.Table.from_pylist(known, schema=types), incumbent)


def fit(rows: int | None, loss: float | None, constant: float | None) -> dict[str, Any]:
    return {"heldout_rows": rows, "challenger_loss": loss, "constant_loss": constant}


def test_the_rows_count_alike_and_the_groups_that_a_constant_beats_come_worst_first() -> None:
    rows = [standing("a"), standing("b"), standing("c", "stale"), standing("d"), standing("e", "none", None)]
    fits = {"m-a": fit(10, 1.0, 2.0), "m-b": fit(30, 3.0, 2.0), "m-c": fit(10, 4.0, 1.0), "m-d": fit(0, None, None)}
    found = summarize(rows, fits)
    assert (found.groups, found.unmeasured) == (5, 1)
    assert {name: n for name, n in found.states.items() if n} == {"fresh": 3, "stale": 1, "none": 1}
    assert found.states["held"] == 0
    # (10 × 1 + 30 × 3 + 10 × 4) / 50 and (10 × 2 + 30 × 2 + 10 × 1) / 50.
    assert found.against == (BaselineComparison("constant", "held_out", 3, 50, 2.8, 1.8, 2),)
    assert [(each.group_key, each.ratio) for each in found.worst] == [("c", 4.0), ("b", 1.5)]


def test_a_constant_that_is_always_right_is_beaten_by_nobody_who_errs() -> None:
    fits = {"m-a": fit(5, 0.0, 0.0), "m-b": fit(5, 0.1, 0.0)}
    found = summarize([standing("a"), standing("b")], fits)
    assert [each.group_key for each in found.worst] == ["b"]


def test_the_incumbent_stands_beside_the_fleet_where_there_is_one() -> None:
    groups = (ComparedErrors("a", Basis.ANSWERED, 4, 1.0, 3.0), ComparedErrors("b", Basis.ANSWERED, 6, 2.0, 1.0))
    whole = (ComparedErrors(None, Basis.ANSWERED, 10, 1.6, 1.8),)
    found = summarize([standing("a"), standing("b")], {}, IncumbentComparison("absolute", whole, groups))
    assert found.against == (BaselineComparison("incumbent", "answered", 2, 10, 1.8, 1.6, 1),)
    assert found.unmeasured == 2


def test_an_empty_fleet_has_a_summary() -> None:
    found = summarize([], {})
    assert (found.groups, found.against, found.worst) == (0, (), ())
