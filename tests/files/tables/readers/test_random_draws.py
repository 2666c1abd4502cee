"""The gain from retraining, read from tables: only what counts is read, and in pieces."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from gain_rows import attempt, compared, drawn, promotion, verdict
from new_tables import create_tables

from schemas import tables
from spinney.core.config import Config
from spinney.core.migration import Migration
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables.readers import random_draws
from spinney.tables.readers.random_draws import WINDOW, read_retraining_gain

NOW = datetime(2024, 5, 1, tzinfo=UTC)
UNREADABLE = '{"watched_rows": this is no JSON'
"""Metrics that are an error as soon as they are parsed."""


@pytest.fixture
def config(configured) -> Config:
    made = configured()
    create_tables(FleetStore.of(made))
    return made


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
    monkeypatch.setattr(random_draws, "ROWS_AT_ONCE", piece)
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
