"""The gain from retraining, read from tables: only what counts is read, and in pieces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from new_tables import create_tables

from schemas import tables
from spinney.core.config import Config
from spinney.core.migration import Migration
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables import drawn_groups
from spinney.tables.drawn_groups import WINDOW, read_retraining_gain

NOW = datetime(2024, 5, 1, tzinfo=UTC)
UNREADABLE = '{"watched_rows": this is no JSON'
"""Metrics that are an error as soon as they are parsed."""


@pytest.fixture
def config(configured) -> Config:
    made = configured()
    create_tables(FleetStore.of(made))
    return made


def verdict(key: str, at: datetime, queue: str, round_id: str) -> Mapping[str, Any]:
    numbers = f'{{"rows_since":4,"queue":"{queue}"}}'
    return {"group_key": key, "judged_at": at, "decision": "fit", "round_id": round_id, "numbers": numbers}


def promotion(key: str, at: datetime, model_id: str, round_id: str) -> Mapping[str, Any]:
    of_round = {"round_id": round_id, "decided_at": at, "clock": at, "epoch": 0}
    return {"group_key": key, "model_id": model_id, "decision": "promoted", **of_round}


def attempt(key: str, at: datetime, metrics: str | None) -> Mapping[str, Any]:
    whole = {"group_key": key, "fitted_at": at, "clock": at, "status": "fitted", "recipe_id": "r", "round_id": "later"}
    return {**whole, "metrics": metrics}


def compared(champion: str, rows: int, predecessor: float) -> str:
    losses = {"watched_champion_loss": 3.0, "predecessor_loss": predecessor}
    return json.dumps({"champion_id": champion, "watched_rows": rows, **losses})


def drawn(config: Config, put, key: str, at: datetime, queue: str = "random") -> str:
    """A group that a round took and gave a new champion, whose id is returned."""
    round_id, champion = f"stream {key} {at}", f"{key} {at}"
    put(config, tables.VERDICTS, [verdict(key, at, queue, round_id)], "stream")
    put(config, tables.PROMOTIONS, [promotion(key, at, champion, round_id)], "stream")
    return champion


def test_only_metrics_of_comparisons_in_drawn_groups_are_parsed(config: Config, put) -> None:
    champion = drawn(config, put, '["a",1]', NOW)
    drawn(config, put, '["b",1]', NOW, "rank")
    attempts = [
        attempt('["a",1]', NOW, compared(champion, 12, 4.0)),
        attempt('["a",1]', NOW, UNREADABLE.replace("watched_rows", "watched-rows")),
        attempt('["a",1]', NOW, None),
        attempt('["b",1]', NOW, UNREADABLE),
        attempt('["c",1]', NOW, UNREADABLE),
    ]
    put(config, tables.MODELS, attempts, "batch")
    found = read_retraining_gain(FleetStore.of(config))
    assert found is not None
    assert (found.groups, found.rows, found.gain) == (1, 12, 1.0)


def test_comparisons_by_an_earlier_loss_do_not_count(config: Config, put) -> None:
    store = FleetStore.of(config)
    made = charter.ensure_charter(store)
    change = Migration("m", NOW.isoformat(), {}, {}, loss_before="squared", loss_after="absolute")
    charter.write_charter(store, replace(made, migrations=(change,)))
    champion = drawn(config, put, '["a",1]', NOW)
    attempts = [
        attempt('["a",1]', NOW, compared(champion, rows, predecessor)) | {"loss_name": name}
        for rows, predecessor, name in ((50, 9.0, None), (40, 9.0, "squared"), (12, 4.0, "absolute"))
    ]
    put(config, tables.MODELS, attempts[:2], "batch")
    assert read_retraining_gain(store) is None
    put(config, tables.MODELS, attempts[2:], "batch")
    found = read_retraining_gain(store)
    assert found is not None
    assert (found.rows, found.gain) == (12, 1.0)


@pytest.mark.parametrize("piece", [1, 3, 50_000])
def test_of_many_attempts_in_pieces_the_last_comparison_of_each_champion_counts(
    config: Config, put, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(drawn_groups, "ROWS_AT_ONCE", piece)
    first, second = (drawn(config, put, key, NOW) for key in ('["a",1]', '["b",1]'))
    for rows, lost in ((10, 9.0), (40, 5.0), (20, 7.0)):
        put(config, tables.MODELS, [attempt('["a",1]', NOW, compared(first, rows, lost))], "stream")
    put(config, tables.MODELS, [attempt('["b",1]', NOW, compared(second, 5, 7.0))], "batch")
    found = read_retraining_gain(FleetStore.of(config))
    assert found is not None
    assert (found.champions, found.rows, found.gain) == (2, 45, 3.0)  # (5 - 3 + 7 - 3) / 2


def test_draws_count_that_are_no_older_than_the_window_before_the_newest_verdict(config: Config, put) -> None:
    inside, outside = NOW - WINDOW, NOW - WINDOW - timedelta(seconds=1)
    for key, at, lost in (('["a",1]', inside, 4.0), ('["b",1]', outside, 99.0)):
        champion = drawn(config, put, key, at)
        put(config, tables.MODELS, [attempt(key, at + timedelta(days=1), compared(champion, 12, lost))], "batch")
    store = FleetStore.of(config)
    put(config, tables.VERDICTS, [verdict('["c",1]', NOW, "rank", "now")], "stream")
    found = read_retraining_gain(store)
    assert found is not None
    assert (found.groups, found.gain) == (1, 1.0)
    then = read_retraining_gain(store, NOW - timedelta(days=1))
    assert then is not None
    assert (then.groups, then.gain) == (2, 48.5)  # (1 + 96) / 2


def test_without_a_verdict_a_draw_or_a_new_champion_there_is_no_gain(config: Config, put) -> None:
    store = FleetStore.of(config)
    assert read_retraining_gain(store) is None
    put(config, tables.VERDICTS, [verdict('["a",1]', NOW, "rank", "r")], "stream")
    assert read_retraining_gain(store) is None
    put(config, tables.VERDICTS, [verdict('["a",1]', NOW, "random", "s")], "stream")
    assert read_retraining_gain(store) is None
    put(config, tables.PROMOTIONS, [promotion('["a",1]', NOW, "m", "s")], "stream")
    assert read_retraining_gain(store) is None


def test_a_kept_gain_is_read_again_after_a_fit_or_an_hour_and_not_after_other_changes(
    config: Config, put, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, reads = FleetStore.of(config), []
    original = read_retraining_gain
    monkeypatch.setattr(drawn_groups, "read_retraining_gain", lambda store: reads.append(1) or original(store))
    kept, keys = drawn_groups.KeptGain(store), ('["a",1]', '["b",1]')
    champions = [drawn(config, put, key, NOW) for key in keys]
    assert kept.read(NOW) is None
    for n, (key, champion) in enumerate(zip(keys, champions, strict=True), start=1):
        put(config, tables.MODELS, [attempt(key, NOW, compared(champion, 12, 4.0))], "stream")
        found = kept.read(NOW)
        assert found == original(store)
        assert found is not None
        assert (found.groups, len(reads)) == (n, 1 + n)
        drawn(config, put, f'["{n}",1]', NOW)  # a verdict and a promotion, whose champion no fit has compared yet
        assert kept.read(NOW) == found == original(store)
        assert len(reads) == 1 + n
    assert kept.read(NOW, again=True) == kept.read(NOW + timedelta(minutes=59))
    assert len(reads) == 4
    drawn(config, put, '["c",1]', NOW + WINDOW + timedelta(seconds=1))  # both draws have left the window
    assert kept.read(NOW + timedelta(hours=1)) is None
    assert len(reads) == 5
