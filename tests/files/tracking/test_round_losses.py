"""The gain that the rounds of a run measured, from tables that are filled by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from new_tables import create_tables

from schemas import tables
from spinney.core.config import Config
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.readers.random_draws import WINDOW
from spinney.tracking import round_losses
from spinney.tracking.round_losses import gains_of_rounds

DAY = datetime(2024, 5, 1, tzinfo=UTC)
A, B, C = '["a",1]', '["b",1]', '["c",1]'


@pytest.fixture
def config(configured) -> Config:
    made = configured()
    create_tables(FleetStore.of(made))
    return made


def drawn(config: Config, put, key: str, at: datetime, queue: str = "random") -> None:
    """A round of the stream took a group and gave it the champion `new`."""
    of_round = {"group_key": key, "round_id": f"stream-{key}", "epoch": 0, "clock": at}
    numbers = f'{{"rows_since":3,"queue":"{queue}"}}'
    put(config, tables.VERDICTS, [{**of_round, "judged_at": at, "decision": "fit", "numbers": numbers}], "stream")
    promoted = {"model_id": "new", "decision": "promoted", "decided_at": at}
    put(config, tables.PROMOTIONS, [{**of_round, **promoted}], "stream")


def attempt(batch: int, key: str, metrics: str) -> Mapping[str, Any]:
    of_round = {"round_id": f"batch-{batch}", "batch_id": batch, "status": "fitted", "recipe_id": "r"}
    return {**of_round, "group_key": key, "fitted_at": DAY, "clock": DAY, "metrics": metrics}


def compared(predecessor: float) -> str:
    losses_of_both = {"watched_champion_loss": 3.0, "predecessor_loss": predecessor}
    return json.dumps({"champion_id": "new", "watched_rows": 9, **losses_of_both})


def round_row(batch: int) -> Mapping[str, Any]:
    started = DAY + timedelta(hours=batch)
    return {"round_id": f"batch-{batch}", "batch_id": batch, "kind": "batch", "started_at": started}


@pytest.mark.parametrize("most", [0, 1_000])
def test_each_round_has_the_gain_of_the_drawn_groups_that_it_compared(
    config: Config, put, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    for module in (round_losses, lookup):
        monkeypatch.setattr(module, "MAX_LOOKUP_GROUPS", most)
    drawn(config, put, A, DAY - timedelta(days=1))
    drawn(config, put, B, DAY - WINDOW)
    drawn(config, put, C, DAY - timedelta(days=1), "rank")
    unreadable = '{"watched_rows": this is no JSON'  # an error as soon as it is parsed
    attempts = [
        attempt(0, A, compared(4.5)), attempt(0, B, compared(7.0)), attempt(0, C, unreadable),
        attempt(1, A, compared(3.5)), attempt(2, A, "{}"), attempt(3, A, compared(99.0)),
    ]  # fmt: skip
    put(config, tables.MODELS, attempts, "batch")
    assert gains_of_rounds(FleetStore.of(config), [round_row(batch) for batch in (0, 1, 2)]) == {
        "batch-0": {"gain": 2.75, "gain_groups": 2.0},  # (1.5 + 4) / 2
        "batch-1": {"gain": 0.5, "gain_groups": 1.0},
    }


def test_draws_before_the_window_do_not_count_at_whatever_hour_the_rounds_are_delivered(config: Config, put) -> None:
    drawn(config, put, A, DAY - WINDOW - timedelta(seconds=1))
    drawn(config, put, B, DAY - WINDOW)
    put(config, tables.MODELS, [attempt(5, key, compared(lost)) for key, lost in ((A, 99.0), (B, 4.0))], "batch")
    rows = [round_row(batch) for batch in (2, 5)]
    for delivered in (rows, rows[1:]):
        assert gains_of_rounds(FleetStore.of(config), delivered) == {"batch-5": {"gain": 1.0, "gain_groups": 1.0}}


def test_rounds_that_compared_no_drawn_group_read_no_history(config: Config, put, monkeypatch) -> None:
    put(config, tables.MODELS, [attempt(0, A, "{}")], "batch")
    monkeypatch.setattr(lookup, "read_batches_where", None)
    assert gains_of_rounds(FleetStore.of(config), [round_row(0)]) == {}
