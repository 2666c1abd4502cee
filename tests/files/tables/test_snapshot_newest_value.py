"""The greatest value of a column, out of no more files than may hold it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from schemas import tables
from spinney.core.config import Config
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.snapshot import ShardRange, Snapshot, take_snapshot

START = datetime(2024, 5, 1, tzinfo=UTC)
EVERY = ShardRange(0, 3)
MILLISECOND = timedelta(milliseconds=1)


def filled(config: Config, put, *newest: datetime) -> Snapshot:
    """Events in one file each, with the statistics that Spark writes: whole milliseconds, rounded outwards."""
    delta.create_tables(FleetStore.of(config))
    for at, time in enumerate(newest):
        rows = [
            {"group_key": f'["s{at}","1"]', "event_id": f"e{n}", "event_time": time - timedelta(hours=n)}
            for n in (0, 1)
        ]
        put(config, tables.EVENTS, [{**row, "ingested_on": START.date()} for row in rows])
    found = take_snapshot(FleetStore.of(config).directory(tables.EVENTS))
    cut = []
    for file in found.files:
        least, greatest = file.ranges["event_time"]
        whole = greatest.replace(microsecond=greatest.microsecond // 1000 * 1000)
        cut.append(replace(file, ranges={"event_time": (least, whole)}))
    return replace(found, files=tuple(cut))


def test_files_that_cannot_hold_it_are_not_opened(configured, put) -> None:
    times = [START + timedelta(hours=5), START + timedelta(hours=9), START]
    found = filled(configured(), put, *times)
    for file in found.files:
        if file.ranges["event_time"][1] < times[1]:
            (found.folder / file.path).unlink()
    assert found.greatest("event_time", EVERY) == times[1]


@pytest.mark.parametrize("order", list(permutations([100, 700, 900])))
def test_of_times_within_one_millisecond_the_greatest_is_found(configured, put, order: tuple[int, ...]) -> None:
    found = filled(configured(), put, *(START + timedelta(microseconds=each) for each in order))
    assert found.greatest("event_time", EVERY) == START + timedelta(microseconds=900)


@pytest.mark.parametrize("unknown", [0, 1])
def test_a_file_whose_log_entry_says_nothing_is_opened(configured, put, unknown: int) -> None:
    times = [START + timedelta(hours=5), START + timedelta(hours=9)]
    found = filled(configured(), put, *times)
    files = [
        replace(file, ranges={}) if file.ranges["event_time"][0] == times[unknown] - timedelta(hours=1) else file
        for file in found.files
    ]
    assert [file.ranges for file in files].count({}) == 1
    assert replace(found, files=tuple(files)).greatest("event_time", EVERY) == times[1]


def test_an_empty_table_has_none(configured) -> None:
    delta.create_tables(FleetStore.of(configured()))
    assert take_snapshot(FleetStore.of(configured()).directory(tables.EVENTS)).greatest("event_time", EVERY) is None
