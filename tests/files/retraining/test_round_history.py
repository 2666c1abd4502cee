from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake
from handwritten_history import fleet_toml

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import RoundKind
from spinney.core.config import Config, parse
from spinney.core.planning.round_cost import PastRound
from spinney.retraining.round_history import fit_times, largest_round_groups, past_rounds
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def put(config: Config, base: Contract, part: str, *rows: Mapping[str, Any]) -> None:
    place = FleetStore.of(config).directory(base, part)
    schema = arrow_schema(place.contract)
    whole = [{name: row.get(name) for name in schema.names} for row in rows]
    write_deltalake(place.uri, pa.Table.from_pylist(whole, schema=schema), mode="append")


def recorded(batch_id: int, groups_in: int, deferred: int, **seconds: float) -> dict[str, Any]:
    row = {"round_id": f"r{batch_id}", "batch_id": batch_id, "groups_in": groups_in, "deferred": deferred}
    return {**row, "kind": "stream", "seconds": json.dumps(seconds), "started_at": NOW}


def fitted(batch_id: int, *times: float | None) -> list[dict[str, Any]]:
    row = {"shard": 0, "round_id": "r", "recipe_id": "r", "status": "fitted", "fitted_at": NOW, "clock": NOW}
    return [{**row, "group_key": f'["{n}"]', "batch_id": batch_id, "fit_ms": ms} for n, ms in enumerate(times)]


def test_past_rounds_are_those_of_one_path_that_one_run_carried_out_with_what_their_fits_took(tmp_path: Path) -> None:
    config = parse(fleet_toml(tmp_path, parents="[[]]"), "fleet.toml", {})
    delta.create_tables(FleetStore.of(config))
    assert past_rounds(FleetStore.of(config), RoundKind.STREAM) == []
    put(
        config, tables.ROUNDS, "stream",
        recorded(5, 9, 6, plan=0.5, fit=2.0, gate=0.25), recorded(3, 2, 0, plan=1.0, fit=1.0, gate=1.0),
        recorded(7, 4, 0, fit=9.0, gate=9.0),  # planned by a run that was killed
        recorded(8, 4, 0, plan=1.0, fit=1.0, gate=1.0),  # its models were forgotten
    )  # fmt: skip
    put(config, tables.ROUNDS, "batch", recorded(4, 100, 0, plan=1.0, fit=50.0, gate=9.0))
    put(config, tables.MODELS, "stream", *fitted(5, 10.0, 30.0, None), *fitted(3, 4.0, 4.0), *fitted(7, 1.0))
    put(config, tables.MODELS, "batch", *fitted(5, 999.0))
    assert past_rounds(FleetStore.of(config), RoundKind.STREAM) == [
        PastRound(2, 8.0, 4.0, 3.0),
        PastRound(3, 40.0, 30.0, 2.75),
    ]
    assert fit_times(FleetStore.of(config), RoundKind.STREAM, [5]) == {5: (40.0, 30.0)}
    assert fit_times(FleetStore.of(config), RoundKind.STREAM, [6]) == {}


def test_the_largest_round_of_a_path_is_reported_in_groups(tmp_path: Path) -> None:
    config = parse(fleet_toml(tmp_path, parents="[[]]"), "fleet.toml", {})
    assert largest_round_groups(FleetStore.of(config), RoundKind.BATCH) == 0, "without tables"
    delta.create_tables(FleetStore.of(config))
    assert largest_round_groups(FleetStore.of(config), RoundKind.BATCH) == 0, "before the first round"
    put(config, tables.ROUNDS, "batch", recorded(4, 100, 0), recorded(5, 3, 0))
    put(config, tables.ROUNDS, "stream", recorded(6, 999, 0))
    assert largest_round_groups(FleetStore.of(config), RoundKind.BATCH) == 100
