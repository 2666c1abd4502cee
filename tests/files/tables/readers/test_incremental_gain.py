"""The gain that a process keeps is always what a reading of all rows gives, though it reads only new files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from deltalake import DeltaTable
from gain_rows import attempt, compared, drawn, promotion, verdict
from new_tables import create_tables

from schemas import tables
from spinney.core.config import Config
from spinney.core.migration import Migration
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables.readers import incremental_gain
from spinney.tables.readers.incremental_gain import IncrementalGain
from spinney.tables.readers.random_draws import WINDOW, DrawnComparisons, read_comparisons, read_retraining_gain

NOW = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def config(configured) -> Config:
    made = configured()
    create_tables(FleetStore.of(made))
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[DrawnComparisons]:
    """What was read anew, in place of new files alone."""
    found: list[DrawnComparisons] = []

    def recorded(store: FleetStore) -> DrawnComparisons:
        found.append(read_comparisons(store))
        return found[-1]

    monkeypatch.setattr(incremental_gain, "read_comparisons", recorded)
    return found


def gain_of(store: FleetStore) -> tuple[int, float]:
    """Groups and gain of a reading of all rows."""
    found = read_retraining_gain(store)
    assert found is not None
    return found.groups, found.gain


def test_the_gain_of_random_histories_is_that_of_all_rows_after_each_of_them(config: Config, put, reads) -> None:
    store, random = FleetStore.of(config), np.random.default_rng(5)
    kept, champions = IncrementalGain(store), dict[str, str]()
    assert kept.read(NOW) is None
    for n in range(25):
        at, key = NOW + timedelta(minutes=2 * n), f'["{random.choice(list("abcde"))}",1]'
        if key not in champions or random.random() < 0.4:
            champions[key] = drawn(config, put, key, at, random.choice(["random", "random", "rank"]))
        else:
            lost = float(random.integers(1, 9))
            metrics = [compared(champions[key], int(random.integers(0, 50)), lost), None, '{"heldout_rows":3}']
            put(config, tables.MODELS, [attempt(key, at, text) for text in metrics], random.choice(["stream", "batch"]))
        assert kept.read(NOW) == read_retraining_gain(store)
    assert gain_of(store)[0] > 2
    assert len(reads) == 1, "all rows at first, then those of new files"


def test_a_comparison_that_is_stored_with_its_champion_between_two_readings_counts(config: Config, put) -> None:
    store = FleetStore.of(config)
    kept = IncrementalGain(store)
    assert kept.read(NOW) is None
    for at, lost in ((NOW, 4.0), (NOW + timedelta(minutes=1), 6.0)):
        champion = drawn(config, put, '["a",1]', at)
        put(config, tables.MODELS, [attempt('["a",1]', at, compared(champion, 12, lost))], "stream")
    found = kept.read(NOW)
    assert found == read_retraining_gain(store)
    assert found is not None
    assert (found.groups, found.champions, found.gain) == (1, 2, 2.0)  # (4 - 3 + 6 - 3) / 2


def test_nothing_is_read_while_no_fit_is_stored(config: Config, put, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FleetStore.of(config)
    champion = drawn(config, put, '["a",1]', NOW)
    put(config, tables.MODELS, [attempt('["a",1]', NOW, compared(champion, 12, 4.0))], "stream")
    kept = IncrementalGain(store)
    found = kept.read(NOW)
    put(config, tables.VERDICTS, [verdict('["b",1]', NOW, "random", "r")], "stream")
    put(config, tables.PROMOTIONS, [promotion('["b",1]', NOW, "m", "r")], "stream")
    monkeypatch.setattr(DrawnComparisons, "with_champions", lambda *_: pytest.fail("read"))
    assert kept.read(NOW) is found


def test_draws_that_have_left_the_window_are_seen_within_the_hour(config: Config, put, reads) -> None:
    store = FleetStore.of(config)
    for key, lost in (('["a",1]', 4.0), ('["b",1]', 8.0)):
        put(config, tables.MODELS, [attempt(key, NOW, compared(drawn(config, put, key, NOW), 12, lost))], "stream")
    kept = IncrementalGain(store)
    first = kept.read(NOW)
    assert kept.read(NOW + timedelta(minutes=59)) is first
    drawn(config, put, '["c",1]', NOW + WINDOW + timedelta(seconds=1))
    assert kept.read(NOW + timedelta(hours=1)) is None
    assert len(reads) == 2
    kept.read(NOW + timedelta(hours=1), again=True)
    assert len(reads) == 3


def test_files_that_were_put_together_or_replaced_do_not_change_the_gain(config: Config, put, reads) -> None:
    store = FleetStore.of(config)
    kept, champion = IncrementalGain(store), drawn(config, put, '["a",1]', NOW)
    place = store.directory(tables.MODELS, "stream")
    for rows, lost in ((10, 4.0), (12, 5.0)):
        put(config, tables.MODELS, [attempt('["a",1]', NOW, compared(champion, rows, lost))], "stream")
        kept.read(NOW)
    DeltaTable(place.uri).optimize.compact()
    put(config, tables.MODELS, [attempt('["a",1]', NOW, compared(champion, 14, 6.0))], "stream")
    assert kept.read(NOW) == read_retraining_gain(store)
    assert len(reads) == 1
    put(config, tables.MODELS, [attempt('["a",1]', NOW, compared(champion, 16, 7.0))], "stream")
    DeltaTable(place.uri).optimize.compact()
    DeltaTable(place.uri).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert kept.read(NOW) == read_retraining_gain(store)
    assert gain_of(store) == (1, 4.0)
    assert len(reads) == 2, "the file of the newest fit is gone"


def test_a_change_of_the_loss_drops_the_comparisons_by_the_one_before(config: Config, put) -> None:
    store, key = FleetStore.of(config), '["a",1]'
    made, champion = charter.ensure_charter(store), drawn(config, put, key, NOW)
    put(config, tables.MODELS, [attempt(key, NOW, compared(champion, 50, 9.0)) | {"loss_name": None}], "stream")
    kept = IncrementalGain(store)
    assert kept.read(NOW) is not None
    change = Migration("m", NOW.isoformat(), {}, {}, loss_before="squared", loss_after="absolute")
    charter.write_charter(store, replace(made, migrations=(change,)))
    assert kept.read(NOW) is None
    put(config, tables.MODELS, [attempt(key, NOW, compared(champion, 12, 4.0)) | {"loss_name": "absolute"}], "stream")
    assert kept.read(NOW) == read_retraining_gain(store)
    assert gain_of(store) == (1, 1.0)
