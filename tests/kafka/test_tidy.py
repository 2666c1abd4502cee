"""Tables are tidied by another process's request while the stream runs, and vacuumed while it stands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ledger
import pytest
import shop
from deltalake import DeltaTable
from shop import Shops
from spinney_process import SECONDS, spinney

from batch.load import load
from batch.weekly import retrain
from schemas import tables
from spinney.operations import maintenance
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.app import Application

WHO = ("north", 1)
KEY = '["north","1"]'
OF_A_WAVE = 12


class Story:
    """Waves of events and labels with tidying in between; a stop, a vacuum, and another wave."""

    def __init__(self, spark: Any, shops: Shops) -> None:
        self.spark, self.shops, self.waves = spark, shops, 0
        shops.init()
        rows = [shop.sale(f"h{i}", *WHO, float(i % 11 - 5), 8.0 * i) for i in range(30)]
        load(shops.config, str(shops.history(rows)))
        retrain(shops.config, spark=spark)
        self.app = Application(spark, shops.config)
        self.app.start()
        try:
            for _ in range(2):
                self.wave()
            self.asked = self.tidied()
            self.files = self.count_files()
            self.wave(rise=100.0)
            self.eventually(lambda: "stream" in set(shops.table(tables.ROUNDS)["kind"]))
            self.again = self.tidied()
            self.wave()
        finally:
            self.app.stop()
        self.app.check()
        Application(spark, shops.config).drain()
        self.gone = self.vacuumed()
        self.wave(wait=False)
        Application(spark, shops.config).drain()
        self.found = ledger.differences(shops)

    def wave(self, rise: float = 0.0, *, wait: bool = True) -> None:
        """Events of two shops, one by one so that there are many files, their labels, and a tick of the clock."""
        self.waves += 1
        at = 400.0 + 200.0 * self.waves
        rows = [shop.sale(f"w{self.waves}-{i}", *WHO, float(i), at + i) for i in range(OF_A_WAVE)]
        for row in rows:
            row["sales"] += rise
        self.shops.outcomes(rows)
        for some in (rows[:4], rows[4:], [shop.sale(f"tick{self.waves}", "south", 4, 0.0, at + 150.0)]):
            self.shops.events(some)
            sent = sum(each.topic.endswith(".events") for each in self.shops.ledger)
            if wait:
                self.eventually(lambda sent=sent: len(self.shops.table(tables.PREDICTIONS)) == sent)

    def tidied(self) -> dict[str, dict[str, Any]]:
        done = spinney(self.shops, "tidy", "--yes", "--json", "--wait", str(SECONDS - 30))
        assert done.returncode == 0, done.stderr
        return {each["directory"]: each for each in json.loads(done.stdout)}

    def count_files(self) -> dict[str, int]:
        opened = ((each.name, delta.open_table(each)) for each in FleetStore.of(self.shops.config).every_directory())
        return {name: len(table.file_uris()) for name, table in opened if table is not None}

    def vacuumed(self) -> int:
        """How many files are gone that were put together: none is waited for, since every reader has caught up."""
        before = self.count_parquet()
        for directory in FleetStore.of(self.shops.config).every_directory():
            DeltaTable(directory.uri).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
        return before - self.count_parquet()

    def count_parquet(self) -> int:
        return len(list(Path(self.shops.root, "tables").rglob("*.parquet")))

    def eventually(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not what():
            self.app.check()
            assert time.monotonic() < deadline
            time.sleep(0.3)


@pytest.fixture(scope="module")
def story(spark: Any, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(spark, Shops(tmp_path_factory.mktemp("tidy"), broker))


def test_a_running_stream_puts_its_own_files_together_when_it_is_asked(story: Story) -> None:
    assert story.asked["predictions"]["small"] > 3
    assert story.asked["health/score"]["small"] > 3
    assert story.files["predictions"] < story.asked["predictions"]["files"]
    writers = {maintenance.lease_of(each) for each in FleetStore.of(story.shops.config).every_directory()}
    assert {maintenance.read_answer(FleetStore.of(story.shops.config), name).error for name in writers} == {None}


def test_a_group_grows_stale_and_is_retrained_over_tables_that_were_put_together(story: Story) -> None:
    rounds = story.shops.table(tables.ROUNDS)
    assert rounds.loc[rounds["kind"] == "stream", "fitted"].sum() >= 1
    assert set(story.again) == set(story.asked)


def test_files_that_are_no_part_of_a_table_any_more_are_missed_by_nobody(story: Story) -> None:
    assert story.gone > 10
    assert story.found == []
