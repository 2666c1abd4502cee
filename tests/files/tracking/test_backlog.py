"""Which rounds are left to deliver, and when there is nothing to ask MLflow for."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest
from new_tables import create_tables

from schemas import tables
from schemas.vocabulary import RoundKind
from spinney import tracking
from spinney.storage.layout import FleetStore
from spinney.tracking import Deliverer, backlog
from spinney.tracking.rounds import is_over, rounds_by_run
from spinney.tracking.runs import Run

AT = datetime(2024, 5, 1, 23, tzinfo=UTC)


@pytest.fixture
def config(configured):
    made = configured()
    create_tables(FleetStore.of(made))
    return made


def recorded(kind: str, batch_id: int) -> dict:
    at = AT + timedelta(minutes=20 * batch_id)
    return {"round_id": f"{kind}-{batch_id}", "kind": kind, "batch_id": batch_id, "started_at": at}


def run(through: int, *, deleted: bool = False) -> Run:
    return Run("id", sys.maxsize if deleted else through, open=True, deleted=deleted)


def left(config, **runs: Run) -> dict[str, list[int]]:
    named = {name.replace("_", " ", 1).replace("_", "-"): each for name, each in runs.items()}
    found = rounds_by_run(backlog.undelivered_rounds(backlog.unfinished_rounds(FleetStore.of(config)), named), named)
    return {name: [row["batch_id"] for row in rows] for name, rows in found.items()}


def test_only_rounds_after_those_delivered_are_read(config, put) -> None:
    assert backlog.is_empty(backlog.unfinished_rounds(FleetStore.of(config)))
    put(config, tables.ROUNDS, [recorded("stream", n) for n in range(5)], "stream")
    put(config, tables.ROUNDS, [recorded("batch", n) for n in range(3)], "batch")
    assert not backlog.is_empty(backlog.unfinished_rounds(FleetStore.of(config)))
    days = {"stream 2024-05-01": [0, 1, 2], "stream 2024-05-02": [3, 4]}
    assert left(config) == {**days, "batch-0": [0], "batch-1": [1], "batch-2": [2]}
    assert left(config, stream_2024_05_01=run(1), **{"batch-1": run(1)}) == {
        "stream 2024-05-01": [2], "stream 2024-05-02": [3, 4], "batch-2": [2],
    }  # fmt: skip
    done = {"batch-0": run(0), "batch-1": run(1), "batch-2": run(2)}
    assert left(config, stream_2024_05_01=run(2), stream_2024_05_02=run(4), **done) == {}


@pytest.mark.parametrize(
    ("runs", "through"),
    [
        ([], -1),
        ([run(3), run(7)], 7),
        ([run(3), run(-1)], -1),  # made, and told of nothing: none of its rounds is delivered
        ([run(3), run(0, deleted=True)], 3),
        ([run(0, deleted=True)], -1),
    ],
)
def test_a_run_without_rounds_or_deleted_does_not_hide_what_is_left(runs: list[Run], through: int) -> None:
    assert backlog.delivered_through(runs) == through


def test_an_edited_recipe_begins_another_run_of_the_day_and_rounds_without_a_fit_go_on_with_what_there_is() -> None:
    recipes = [None, "a", "a", "b", None, "a"]
    rows = [recorded("stream", n) | {"recipe_id": recipe} for n, recipe in enumerate(recipes, 1)]
    first, second = "stream 2024-05-01", "stream 2024-05-02"
    expected = {first: [1, 2], second: [3], f"{second} from 4": [4, 5], f"{second} from 6": [6]}

    def named(rows: list[dict], known: dict[str, Run]) -> dict[str, list[int]]:
        return {name: [row["batch_id"] for row in of] for name, of in rounds_by_run(rows, known).items()}

    assert named(rows, {}) == expected
    for cut in range(1, 6):  # the same, however many were delivered before
        before = rounds_by_run(rows[:cut])
        recipe = {name: next((row["recipe_id"] for row in of if row["recipe_id"]), None) for name, of in before.items()}
        known = {name: Run("id", of[-1]["batch_id"], open=True, recipe_id=recipe[name]) for name, of in before.items()}
        later = named(rows[cut:], known)
        assert later == {name: [n for n in of if n > cut] for name, of in expected.items() if of[-1] > cut}


def test_a_run_that_was_made_without_rounds_is_looked_at_again_under_its_name() -> None:
    rows = [recorded("stream", n) | {"recipe_id": recipe} for n, recipe in ((0, "a"), (1, "b"))]
    known = {"stream 2024-05-01": Run("id", 0, open=True, recipe_id="a"), "stream 2024-05-01 from 1": run(-1)}
    assert rounds_by_run(rows, known).keys() == known.keys()


def test_a_run_is_over_when_its_batch_or_its_day_is(monkeypatch) -> None:
    monkeypatch.setattr(tracking.rounds, "today", lambda: date(2024, 5, 2))
    first, second = "stream 2024-05-01", "stream 2024-05-02"
    names = ("batch-0", first, f"{first} from 7", second, f"{second} from 9")
    assert [is_over(name) for name in names] == [True, True, True, False, False]
    assert backlog.kind_of("stream 2024-05-01") == RoundKind.STREAM


def test_mlflow_is_asked_only_when_a_round_was_recorded_the_day_ended_or_the_last_time_failed(
    config, put, monkeypatch
) -> None:
    day, asked = [date(2024, 5, 1)], []
    monkeypatch.setattr(backlog, "today", lambda: day[-1])
    happens = {
        1: lambda: None,
        2: lambda: put(config, tables.ROUNDS, [recorded("stream", 0)], "stream"),
        3: lambda: None,  # the delivery before this one failed
        4: lambda: None,
        5: lambda: day.append(date(2024, 5, 2)),
        6: lambda: None,
        7: lambda: put(config, tables.ROUNDS, [recorded("batch", 0)], "batch"),
    }
    looks = iter(range(8))

    def wait(_: float) -> bool:
        look = next(looks)
        happens.get(look, lambda: None)()
        asked.append(f"look {look}")
        return look == 7

    def deliver(*_, ends_stream: bool) -> None:
        assert not ends_stream
        asked.append("asked")
        if asked[-2] == "look 2":
            raise ConnectionError

    monkeypatch.setattr(tracking, "deliver", deliver)
    deliverer = Deliverer(config)
    deliverer._stopping = SimpleNamespace(wait=wait)  # type: ignore[assignment]
    deliverer._deliver_until_stopped()
    looked = [asked[at - 1] for at, each in enumerate(asked) if each == "asked"]
    assert looked == ["look 0", "look 2", "look 3", "look 5", "look 7"]
