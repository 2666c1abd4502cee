"""A process killed between each pair of its writes, the world moved on, started again: the books still balance.

One fleet lives through every crash point, one after the other. Before each restart new records come (bad ones and
duplicates too), a group is refitted by the weekly batch, or the range of `x` is edited so that what was valid is not
any more and the other way round.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ledger
import pytest
import shop
from shop import Shops
from spinney_process import spinney

from batch.load import load
from batch.weekly import retrain
from schemas import tables
from spinney.core.errors import StoreError
from spinney.tables.delta import DirectoryWriter
from streaming.app import Application

GROUPS = [("north", 1), ("north", 2), ("north", 3), ("south", 4), ("south", 5), ("south", 6)]
NARROW, SHIFTED = (0.0, 100.0), (50.0, 150.0)
XS = (20.0, 75.0, 120.0)
"""Valid in the first ranges only, in both, in the second only."""

WEEKLY = ("weekly.plan", "weekly.fit", "weekly.fit.1", "weekly.gate.1")
SMALL_PARTS = ("SPINNEY_BUDGET__PART_SECONDS", "0.01")
"""The parents are a part, then four groups, then the last two."""

INGEST = ("ingest.events", "ingest.outcomes", "ingest.dead_letters")
LATER = ("score.publish", "score.predictions", "score.health", "labels.health", "labels.index")
RETRAIN = ("retrain.plan", "retrain.fit", "retrain.gate", "retrain.record")
POINTS = (*WEEKLY, *INGEST, *LATER, *RETRAIN)
WITH_ALL_QUERIES = ("labels.health", "retrain.plan")
"""Points whose process runs every query, and so goes on with what others were killed in. Each query costs its start."""


@dataclass
class World:
    """A fleet and what happens around it."""

    shops: Shops
    spark: Any
    moves: int = 0
    before: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        self.shops.init()
        rows = [shop.sale(f"h-{who[1]}-{i}", *who, float(i % 9), 8.0 * i) for who in GROUPS for i in range(20)]
        load(self.shops.config, str(self.shops.history(rows)))

    def more_history(self) -> None:
        rows = [shop.sale(f"h2-{who[1]}-{i}", *who, float(i % 7), 300.0 + i) for who in GROUPS for i in range(5)]
        load(self.shops.config, str(self.shops.history(rows, "more")))

    def move(self) -> None:
        """News of every kind: three hours of events, labels of these and of those before, bad records, duplicates."""
        self.moves += 1
        now, at = self.moves, 1000.0 + 180.0 * self.moves
        rows = [shop.sale(f"m{now}-{who[1]}-{i}", *who, XS[i % 3], at + i) for who in GROUPS for i in range(6)]
        tick = shop.sale(f"m{now}-tick", *GROUPS[0], 75.0, at + 170)
        self.shops.events([*rows, tick])
        self.shops.events(rows[:4])
        early = shop.sale(f"m{now + 1}-1-1", *GROUPS[0], 75.0, at + 181)  # its event comes with the next move
        self.shops.outcomes([*rows[::2], *self.before[1::2], early, *rows[:2]])
        self.shops.bad([(b"hello", "not_json"), (None, "null_value")])
        self.shops.bad([(b"[]", "not_an_object"), (f"cut {now}".encode(), "not_json")], outcomes=True)
        self.before = rows

    def edit(self) -> None:
        self.shops.edit(*(SHIFTED if self.shops.ranges == NARROW else NARROW))

    def promote(self, group: int) -> None:
        region, number = GROUPS[group % len(GROUPS)]
        retrain(self.shops.config, [f'["{region}","{number}"]'], spark=self.spark)

    def drain(self, *only: str) -> None:
        Application(self.spark, self.shops.config, only).drain()

    def crash_stream(self, point: str) -> None:
        only = () if point in WITH_ALL_QUERIES else ("--only", point.partition(".")[0])
        self.crash(point, "stream", "--once", *only)

    def crash(self, point: str, verb: str, *words: str) -> None:
        done = spinney(self.shops, verb, *words, crash_at=point)
        self.ended[point], self.said[point] = done.returncode, done.stderr[-3000:]

    def counts(self) -> dict[str, int]:
        wanted = (tables.EVENTS, tables.OUTCOMES, tables.DEAD_LETTERS, tables.PREDICTIONS, tables.PROMOTIONS)
        return {each.name: len(self.shops.table(each)) for each in wanted}

    def without_guard(self, query: str) -> list[str]:
        """What the comparison says of a copy of this fleet, as it is now, that goes on without the replay guard."""
        copied = World(self.shops.copy(f"without-guard-{query}"), self.spark)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DirectoryWriter, "is_stored", lambda *_: False)
            with suppress(StoreError):  # a round that was planned twice does not even get fitted
                copied.drain(query)
        return ledger.differences(copied.shops)


@dataclass
class Crashed:
    """After every crash: the fleet. mutants: what was found in copies that went on without the replay guard."""

    world: World
    mutants: dict[str, list[str]]


@pytest.fixture(scope="module")
def crashed(spark: Any, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Crashed:
    world = World(Shops(tmp_path_factory.mktemp("crashed"), broker, NARROW), spark)
    mutants = {}
    world.begin()
    for point in WEEKLY:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(*SMALL_PARTS)
            world.crash(point, "retrain", "--all")
        if point == "weekly.plan":
            world.more_history()
    world.promote(0)  # and finishes the round that was cut off
    world.move()
    for point in INGEST:
        world.crash_stream(point)
        if point == "ingest.dead_letters":
            mutants["ingest"] = world.without_guard("ingest")
        world.move()
        if point != "ingest.outcomes":
            world.edit()
    for i, point in enumerate(LATER):
        world.crash_stream(point)
        world.move()
        world.promote(i + 1)
        world.edit()
    for i, point in enumerate(RETRAIN):
        world.crash_stream(point)
        if point == "retrain.record":
            mutants["retrain"] = world.without_guard("retrain")
        world.move()
        world.edit()
        world.promote(i + 2)
        if point != RETRAIN[-1]:  # after the last one, all four queries drain at once
            world.drain("ingest", "score", "labels")
    world.drain()
    world.drain()
    return Crashed(world, mutants)


@pytest.mark.parametrize("point", POINTS)
def test_the_process_was_killed_at_the_point(crashed: Crashed, point: str) -> None:
    assert crashed.world.ended[point] == -signal.SIGKILL, crashed.world.said[point]


def test_after_every_crash_nothing_is_lost_and_nothing_is_there_twice(crashed: Crashed) -> None:
    assert ledger.differences(crashed.world.shops) == []


def test_a_batch_killed_between_its_parts_fitted_no_group_twice(crashed: Crashed) -> None:
    models = crashed.world.shops.table(tables.MODELS)
    first = models[models["round_id"] == "batch-0"]
    assert len(first) == len(GROUPS) + 3  # two regions and all together
    assert first["group_key"].is_unique
    rounds = crashed.world.shops.table(tables.ROUNDS).set_index("round_id")
    assert rounds.loc["batch-0", "groups_in"] == rounds.loc["batch-0", "fitted"] == len(first)


def test_the_faults_left_their_traces(crashed: Crashed) -> None:
    """Without these the comparison would have had nothing to find."""
    shops = crashed.world.shops
    copies = [each for each in ledger.answers_by_id(shops).values() if len(each) > 1]
    assert copies  # published, killed, published again
    reasons = shops.table(tables.DEAD_LETTERS)["reason"]
    assert {"out_of_range", "not_json", "not_an_object", "null_value"} == set(reasons)
    stored, dead = set(shops.table(tables.EVENTS)["x"]), set()
    for sent in shops.ledger:
        low, high = NARROW if sent.edits % 2 == 0 else SHIFTED
        if sent.x is not None and not low <= sent.x <= high:
            dead.add(sent.x)
    assert set(XS) <= stored  # each of the three was valid at some time
    assert dead == {20.0, 120.0}
    rounds = shops.table(tables.ROUNDS)
    assert rounds.loc[rounds["kind"] == "stream", "fitted"].sum() > 0
    assert len(rounds[rounds["kind"] == "batch"]) >= 8


@pytest.mark.parametrize(
    ("query", "tables_written_twice"),
    [
        ("ingest", ("dead_letters",)),  # of events and outcomes the copies are recognised by their ids, too
        ("retrain", ("verdicts",)),
    ],
)
def test_without_the_replay_guard_the_same_comparison_fails(
    crashed: Crashed, query: str, tables_written_twice: tuple[str, ...]
) -> None:
    found = crashed.mutants[query]
    for table in tables_written_twice:
        assert any(each.startswith(f"{table}: twice") for each in found), found
