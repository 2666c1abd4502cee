"""Which rounds are left to deliver, and when there is nothing to ask MLflow for."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.stores import delta, tracking
from spinney.stores.tracking import Deliverer, backlog
from spinney.stores.tracking.rounds import by_run, over
from spinney.stores.tracking.runs import Run

AT = datetime(2024, 5, 1, 23, tzinfo=UTC)


@pytest.fixture
def config(configured):
    made = configured()
    delta.create_tables(made)
    return made


def recorded(kind: str, batch_id: int) -> dict:
    at = AT + timedelta(minutes=20 * batch_id)
    return {"round_id": f"{kind}-{batch_id}", "kind": kind, "batch_id": batch_id, "started_at": at}


def run(through: int, *, deleted: bool = False) -> Run:
    return Run("id", sys.maxsize if deleted else through, open=True, deleted=deleted)


def left(config, **runs: Run) -> dict[str, list[int]]:
    named = {name.replace("_", " ", 1).replace("_", "-"): each for name, each in runs.items()}
    found = by_run(backlog.after(backlog.opened(config), named))
    return {name: [row["batch_id"] for row in rows] for name, rows in found.items()}


def test_only_rounds_after_those_delivered_are_read(config, put) -> None:
    assert backlog.is_empty(backlog.opened(config))
    put(config, tables.ROUNDS, [recorded("stream", n) for n in range(5)], "stream")
    put(config, tables.ROUNDS, [recorded("batch", n) for n in range(3)], "batch")
    assert not backlog.is_empty(backlog.opened(config))
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
def test_a_run_that_was_told_of_nothing_or_deleted_does_not_hide_what_is_left(runs: list[Run], through: int) -> None:
    assert backlog.delivered_through(runs) == through


def test_a_run_is_over_when_its_batch_or_its_day_is(monkeypatch) -> None:
    monkeypatch.setattr(tracking.rounds, "today", lambda: date(2024, 5, 2))
    assert [over(name) for name in ("batch-0", "stream 2024-05-01", "stream 2024-05-02")] == [True, True, False]
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

    def deliver(*_) -> None:
        asked.append("asked")
        if asked[-2] == "look 2":
            raise ConnectionError

    monkeypatch.setattr(tracking, "deliver", deliver)
    deliverer = Deliverer(config)
    deliverer._stopping = SimpleNamespace(wait=wait)  # type: ignore[assignment]
    deliverer._deliver_until_stopped()
    looked = [asked[at - 1] for at, each in enumerate(asked) if each == "asked"]
    assert looked == ["look 0", "look 2", "look 3", "look 5", "look 7"]
