"""What a round said of each group, out of tables in which other rounds stand as well."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from new_tables import create_tables

from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.tracking import round_attempts

AT = datetime(2024, 5, 1, tzinfo=UTC)
ROUND = {"round_id": "batch-1", "kind": "batch", "batch_id": 1}


@pytest.fixture
def config(configured):
    made = configured()
    create_tables(FleetStore.of(made))
    return made


def attempt(key: str, status: str, metrics: dict | None = None, round_id: str = "batch-1", **more) -> dict:
    row = {"group_key": key, "shard": 0, "status": status, "round_id": round_id, "recipe_id": "r", "rows": 9}
    row |= {"fitted_at": AT, "clock": AT, "batch_id": 1, "metrics": None if metrics is None else json.dumps(metrics)}
    return row | more


def decision(key: str, message: str, model_id: str, round_id: str = "batch-1") -> dict:
    row = {"group_key": key, "shard": 0, "decision": message, "model_id": model_id, "round_id": round_id, "epoch": 0}
    return row | {"decided_at": AT, "clock": AT, "batch_id": 1, "reason": f"{message}, for a reason"}


def test_one_row_a_group_of_this_round_whatever_part_of_it_was_written_when(config, put) -> None:
    put(config, tables.MODELS, [attempt("b", "fitted", {"train_loss": 1.5}, model_id="m1")], "batch")
    put(config, tables.MODELS, [attempt("a", "too_few_rows", {})], "batch")
    put(config, tables.MODELS, [attempt("a", "fitted", {}, "batch-0", model_id="m0")], "batch")
    put(config, tables.MODELS, [attempt("c", "fitted", {}, model_id="of the stream")], "stream")
    put(config, tables.PROMOTIONS, [decision("b", "refused", "m1"), decision("d", "kept", "m9")], "batch")
    put(config, tables.PROMOTIONS, [decision("a", "promoted", "m0", "batch-0")], "batch")
    found = round_attempts.attempts_of_round(FleetStore.of(config), ROUND)
    assert found.column_names == list(round_attempts.COLUMNS)
    rows = [(row["group_key"], row["status"], row["decision"], row["model_id"]) for row in found.to_pylist()]
    assert rows == [
        ("a", "too_few_rows", None, None),
        ("b", "fitted", "refused", "m1"),
        ("d", "kept", "kept", "m9"),
    ]
    assert found.column("train_loss").to_pylist() == [None, 1.5, None]
    assert found.column("reason").to_pylist() == [None, "refused, for a reason", "kept, for a reason"]


def test_metrics_that_nobody_knows_are_columns_and_what_is_of_several_types_is_text(config, put) -> None:
    first = {"shadow": {"loss": 2, "recipe": "forest"}, "odd": "x", "rows": -1, "heldout_rows": 4}
    second = {"shadow": {"loss": 0.5, "wins": 3}, "odd": 7}
    put(config, tables.MODELS, [attempt("a", "fitted", first), attempt("b", "fitted", second)], "batch")
    found = round_attempts.attempts_of_round(FleetStore.of(config), ROUND).to_pydict()
    assert (found["shadow.loss"], found["shadow.wins"]) == ([2.0, 0.5], [None, 3])
    assert (found["shadow.recipe"], found["odd"]) == (["forest", None], ['"x"', "7"])
    assert (found["heldout_rows"], found["rows"]) == ([4, None], [9, 9]), "a column of the table is not written over"


def test_a_column_of_metrics_is_made_once_however_many_groups_have_it() -> None:
    class Texts(list):
        asked = 0

        def __len__(self) -> int:
            self.asked += 1
            return super().__len__()

    texts = Texts(['{"loss": 1, "rows": 2}'] * 50)
    assert round_attempts._metrics(texts) == {"loss": [1] * 50, "rows": [2] * 50}
    assert texts.asked == 2, "as many groups as there are, squared, is too long for a large fleet"


def test_a_round_of_nothing_has_the_same_columns(config) -> None:
    found = round_attempts.attempts_of_round(FleetStore.of(config), ROUND)
    assert (found.num_rows, found.column_names) == (0, list(round_attempts.COLUMNS))


def test_payloads_come_a_few_at_a_time_and_only_this_rounds(config, put) -> None:
    mine = [attempt(f"g{at}", "fitted", payload=bytes([at]), codec="linear") for at in range(150)]
    put(config, tables.MODELS, mine, "batch")
    put(config, tables.MODELS, [attempt("g1", "fitted", round_id="batch-0", payload=b"old")], "batch")
    found = {row["group_key"]: row["payload"] for row in round_attempts.stored_models(FleetStore.of(config), ROUND)}
    assert found == {f"g{at}": bytes([at]) for at in range(150)}
