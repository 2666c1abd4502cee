"""Rounds in a real MLflow with a real SQLite store; no session is started."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from schemas import tables
from spinney.core.config import parse
from spinney.core.errors import Busy
from spinney.core.recipe import Recipe
from spinney.stores import delta, leases, tracking
from spinney.stores.tracking import Deliverer, deliver

DAY = datetime(2024, 5, 1, 9, tzinfo=UTC)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """MLflow takes seconds to make its tables: once for all tests."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def fleet(world, empty_store, tmp_path):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return world(("[storage]", f'[tracking]\nuri = "sqlite:///{tmp_path}/mlflow.db"\n[storage]'))


def took_place(fleet, kind: str, batch_id: int, at: datetime, groups: int = 5, **more) -> None:
    row = {
        "round_id": f"{kind}-{batch_id}", "kind": kind, "groups_in": groups, "fitted": groups - 1, "failed": 1,
        "mean_champion_loss": None, "mean_challenger_loss": 0.5, "reasons": json.dumps({"new_rows": groups}),
        "seconds": json.dumps({"fit": 1.25}), "started_at": at, "clock": at, "recipe_id": "r", "batch_id": batch_id,
    }  # fmt: skip
    fleet.put(tables.ROUNDS, [{**row, **more}], kind)


def client_of(fleet) -> MlflowClient:
    return MlflowClient(tracking_uri=fleet.config.tracking.uri)


def runs(fleet) -> dict:
    client = client_of(fleet)
    experiment = client.get_experiment_by_name("shops")
    found = client.search_runs([experiment.experiment_id])
    assert len({run.data.tags["spinney.run"] for run in found}) == len(found), "a run stands twice"
    return {run.data.tags["spinney.run"]: run for run in found}


def steps(fleet, run, figure: str) -> list[tuple[int, float]]:
    return sorted((each.step, each.value) for each in client_of(fleet).get_metric_history(run.info.run_id, figure))


def test_one_run_a_batch_and_one_a_stream_and_day_with_rounds_as_steps(fleet) -> None:
    took_place(fleet, "stream", 3, DAY, groups=5)
    took_place(fleet, "stream", 4, DAY + timedelta(hours=1), groups=7)
    took_place(fleet, "stream", 9, DAY + timedelta(days=1), groups=2)
    took_place(fleet, "batch", 0, DAY, groups=11)
    assert deliver(fleet.config) == 4
    found = runs(fleet)
    assert found.keys() == {"stream 2024-05-01", "stream 2024-05-02", "batch-0"}
    assert steps(fleet, found["stream 2024-05-01"], "groups_in") == [(3, 5.0), (4, 7.0)]
    assert steps(fleet, found["stream 2024-05-02"], "reason.new_rows") == [(9, 2.0)]
    assert steps(fleet, found["batch-0"], "seconds.fit") == [(0, 1.25)]
    batch = found["batch-0"]
    assert batch.info.start_time == DAY.timestamp() * 1000
    assert batch.info.status == "FINISHED"
    assert batch.data.params["estimator"] == Recipe.of(fleet.config).estimator == "ridge"
    assert batch.data.params["features"] == "price, stock"
    assert "mean_champion_loss" not in batch.data.metrics
    assert batch.data.metrics["mean_challenger_loss"] == 0.5


def test_delivering_again_adds_nothing_and_new_rounds_are_added_to_their_day(fleet) -> None:
    took_place(fleet, "stream", 3, DAY)
    assert deliver(fleet.config) == 1
    assert deliver(fleet.config) == 0
    took_place(fleet, "stream", 4, DAY + timedelta(hours=1))
    assert deliver(fleet.config) == 1
    (run,) = runs(fleet).values()
    assert [step for step, _ in steps(fleet, run, "fitted")] == [3, 4]


def test_a_delivery_cut_off_before_its_mark_is_repeated_into_the_same_run(fleet, monkeypatch) -> None:
    took_place(fleet, "stream", 3, DAY)

    def cut_off(*_):
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_tag", cut_off)
        with pytest.raises(ConnectionError):
            deliver(fleet.config)
    assert deliver(fleet.config) == 1
    (run,) = runs(fleet).values()
    assert set(steps(fleet, run, "groups_in")) == {(3, 5.0)}


def test_a_fleet_started_anew_under_the_same_name_is_delivered_from_its_first_round_on(fleet, tmp_path) -> None:
    """Its batches count from 0 again, on the same day."""
    took_place(fleet, "stream", 7, DAY)
    took_place(fleet, "batch", 0, DAY)
    deliver(fleet.config)
    text = fleet.config.text.replace(f"{tmp_path}/root", f"{tmp_path}/anew")
    anew = type(fleet)(parse(text, "fleet.toml", {}))
    delta.create_tables(anew.config)
    took_place(anew, "stream", 0, DAY + timedelta(hours=1), groups=2)
    took_place(anew, "batch", 0, DAY + timedelta(hours=2), groups=9)
    assert deliver(anew.config) == 2
    assert (deliver(anew.config), deliver(fleet.config)) == (0, 0)
    client = client_of(fleet)
    found = client.search_runs([client.get_experiment_by_name("shops").experiment_id])
    groups = sorted((run.data.tags["spinney.run"], run.data.metrics["groups_in"]) for run in found)
    assert groups == [("batch-0", 5.0), ("batch-0", 9.0), ("stream 2024-05-01", 2.0), ("stream 2024-05-01", 5.0)]


def test_one_process_delivers_at_a_time_and_the_other_leaves_it_to_it(fleet, caplog) -> None:
    took_place(fleet, "batch", 0, DAY)
    with leases.held(fleet.config, [tracking.NAME]):
        with pytest.raises(Busy):
            deliver(fleet.config)
        tracking.deliver_now(fleet.config)
    assert not [record for record in caplog.records if record.name == tracking.log.name]
    assert client_of(fleet).get_experiment_by_name("shops") is None
    tracking.deliver_now(fleet.config)
    assert runs(fleet).keys() == {"batch-0"}


def test_todays_run_stays_open_and_is_closed_once_its_day_is_over(fleet, monkeypatch) -> None:
    now = datetime.now(UTC)
    took_place(fleet, "stream", 0, now)
    deliver(fleet.config)
    (run,) = runs(fleet).values()
    assert run.info.status == "RUNNING"

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return now + timedelta(days=1)

    monkeypatch.setattr(tracking, "datetime", Tomorrow)
    assert deliver(fleet.config) == 0
    (run,) = runs(fleet).values()
    assert run.info.status == "FINISHED"


def test_calls_grow_neither_with_the_groups_nor_with_the_runs_that_are_done(fleet, monkeypatch) -> None:
    calls: list[str] = []
    for name in ("search_runs", "create_run", "log_batch", "log_param", "set_tag", "set_terminated", "get_run"):
        real = getattr(MlflowClient, name)
        monkeypatch.setattr(
            MlflowClient,
            name,
            lambda self, *a, _real=real, _name=name, **k: calls.append(_name) or _real(self, *a, **k),
        )
    counts = []
    for batch, groups in enumerate((3, 100_000)):
        took_place(fleet, "batch", batch, DAY, groups=groups)
        calls.clear()
        assert deliver(fleet.config) == 1
        counts.append(len(calls))
    assert counts[0] == counts[1]
    for batch in range(2, 6):
        took_place(fleet, "batch", batch, DAY + timedelta(days=batch))
    deliver(fleet.config)
    calls.clear()
    assert deliver(fleet.config) == 0
    assert calls == ["search_runs"]


def test_nothing_is_sent_when_tracking_is_off_or_nothing_happened(world, tmp_path) -> None:
    off = world(("[storage]", '[tracking]\nuri = "http://127.0.0.1:1"\nmode = "off"\n[storage]'))
    took_place(off, "batch", 0, DAY)
    assert deliver(off.config) == 0
    deliverer = Deliverer(off.config)
    deliverer.start()
    deliverer.stop()


@pytest.fixture
def down(monkeypatch) -> str:
    """A port that nobody listens on."""
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"):
        monkeypatch.setenv(name, "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def at(config, uri: str):
    return config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": uri})})


def test_what_a_server_missed_while_it_was_down_arrives_once(fleet, down, caplog) -> None:
    took_place(fleet, "stream", 0, DAY)
    unreachable = at(fleet.config, down)
    with pytest.raises(Exception, match=r"Max retries exceeded|API request"):
        deliver(unreachable)
    with caplog.at_level(logging.WARNING, tracking.log.name):
        deliverer = Deliverer(unreachable)
        deliverer.start()
        deliverer.stop()
    (said,) = [record.getMessage() for record in caplog.records if record.name == tracking.log.name]
    assert said.startswith(f"MLflow at {down}: ")
    assert said.endswith("rounds are kept and delivered later")
    took_place(fleet, "stream", 1, DAY + timedelta(hours=2))
    back = Deliverer(fleet.config)
    back.start()
    back.stop()
    (run,) = runs(fleet).values()
    assert steps(fleet, run, "groups_in") == [(0, 5.0), (1, 5.0)]
