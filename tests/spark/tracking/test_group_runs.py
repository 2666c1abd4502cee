"""Mode `group`: a run for each attempted group, once, with its model, whatever the server does."""

from __future__ import annotations

import json
from datetime import timedelta

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from pyrate_limiter import Limiter
from sklearn.dummy import DummyRegressor
from stored_rounds import DAY, retrained, sales, took_place

from schemas import tables
from spinney.core import keys
from spinney.core.config import parse
from spinney.core.errors import Corrupt
from spinney.core.models import codec
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim
from spinney.fleet import Fleet
from spinney.storage import signing_key
from spinney.tracking import deliver
from spinney.tracking.group_runs import GROUP, PARENT, ROUND, RoundGroupRuns
from spinney.tracking.mlflow_client import DeliveryClient, DeliveryProgress, DeliveryStopped


@pytest.fixture
def fleet(tracked, monkeypatch):
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    return tracked('mode = "group"')


CREATE = "/api/2.0/mlflow/runs/create"


def client_of(fleet) -> MlflowClient:
    return MlflowClient(tracking_uri=fleet.config.tracking.uri)


def runs_of(fleet, parent: str) -> list:
    """The nested runs of the run of this name, in the fleet's own experiment."""
    client = client_of(fleet)
    ids = [client.get_experiment_by_name(fleet.config.fleet.name).experiment_id]
    (above,) = [run for run in client.search_runs(ids) if run.data.tags.get("spinney.run") == parent]
    return list(client.search_runs(ids, f"tags.`{PARENT}` = '{above.info.run_id}'"))


@pytest.fixture
def opened():
    """As a person opens a run's model."""
    before = mlflow.get_tracking_uri()

    def load(fleet, run):
        mlflow.set_tracking_uri(fleet.config.tracking.uri)
        return mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")

    yield load
    mlflow.set_tracking_uri(before)


def asked(key: str) -> pd.DataFrame:
    """A few events of a group, a price missing among them."""
    shop, dept = keys.decode(key)
    rows = pd.DataFrame({"price": [0.5, -1.0, np.nan], "stock": [3, 0, 1], "shop": shop, "dept": dept})
    return rows.astype({"dept": "int32", "stock": "int32"})


def test_eighty_groups_arrive_once_though_one_call_in_five_is_refused(fleet, server, opened, monkeypatch) -> None:
    uri, layer = server
    named = fleet.config.text.replace('name = "shops"', 'name = "eighty"')
    there = type(fleet)(parse(named, "fleet.toml", {"SPINNEY_TRACKING__URI": uri}))
    rows = sales(80)
    broken = set(rows["group_key"].unique()[::2])
    fitted = retrained(there, "batch", 0, rows, errors=dict.fromkeys(broken, "singular")).set_index("group_key")
    turns = []
    real = Limiter.try_acquire
    monkeypatch.setattr(Limiter, "try_acquire", lambda self, *a, **k: turns.append(1) or real(self, *a, **k))
    lost: list[int] = []

    def refuse(path: str, before: int) -> str | None:
        return "429 Too Many Requests" if before % 5 == 4 and before - 1 not in lost else None

    def lose(path: str, before: int) -> str | None:
        """The answers to ten calls that were carried out: the client repeats them, and makes second runs."""
        if path != CREATE or len(lost) == 10 or before - 1 in lost:
            return None
        lost.append(before)
        return "502 Bad Gateway"

    layer.refuse, layer.lose = refuse, lose
    assert deliver(there.config) == 1
    assert layer.refused > layer.calls.total() / 6
    assert len(turns) == layer.calls.total() - layer.refused, "each call waits for its turn; the client repeats it"
    layer.reset()
    found = runs_of(there, "batch-0")
    deleted = client_of(there).search_runs([found[0].info.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert len(deleted) == 10
    assert sorted(run.data.tags[GROUP] for run in found) == sorted(fitted.index)
    for run in found:
        stored, tags = fitted.loc[run.data.tags[GROUP]], run.data.tags
        report = {
            name: value for name, value in json.loads(stored["metrics"]).items() if isinstance(value, float | int)
        }
        assert run.data.metrics == {**report, "rows": 12.0, "fit_ms": stored["fit_ms"]}
        if run.data.tags[GROUP] in broken:
            assert (tags["spinney.status"], tags["spinney.error"], run.info.status) == ("failed", "singular", "FAILED")
        else:
            assert (tags["spinney.status"], tags["spinney.decision"]) == ("fitted", "promoted")
            assert (tags["spinney.model_id"], run.info.status) == (stored["model_id"], "FINISHED")
            assert run.data.params["estimator"] == "linear"
    for run in [run for run in found if run.data.tags[GROUP] not in broken][::20]:
        frame = asked(run.data.tags[GROUP])
        mine = opened(there, run).predict(frame)
        assert mine.tolist() == Fleet(there.config).predict(frame)["prediction"].tolist()
    assert deliver(there.config) == 0
    assert layer.calls["runs/create"] == 0


def test_a_delivery_that_dies_again_and_again_makes_no_run_twice_and_leaves_none_out(fleet, monkeypatch) -> None:
    """Each attempt dies one call later than the one before: after a run was made and before it was marked, too."""
    rows = sales(4)
    broken = rows["group_key"].iloc[0]
    retrained(fleet, "batch", 0, rows, errors={broken: "no"})
    real, died = DeliveryClient.ask, 0
    for nth in range(1, 60):
        calls = iter(range(nth))

        def ask(self, *arguments, _calls=calls, **named):
            if next(_calls, None) is None:
                raise ConnectionError
            return real(self, *arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(DeliveryClient, "ask", ask)
            try:
                deliver(fleet.config)
                break
            except ConnectionError:
                died += 1
    assert died > 10
    found = {run.data.tags[GROUP]: run for run in runs_of(fleet, "batch-0")}
    assert len(found) == len(runs_of(fleet, "batch-0")) == 4
    assert {run.info.status for run in found.values()} == {"FINISHED", "FAILED"}
    for key, run in found.items():
        kept = [each.path for each in client_of(fleet).list_artifacts(run.info.run_id, "model")]
        assert ("model/model.skops" in kept) == (key != broken)
    deleted = client_of(fleet).search_runs([found[broken].info.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert len(deleted) == 0


def test_a_group_that_is_retrained_twice_a_day_has_two_runs_in_the_days(fleet) -> None:
    retrained(fleet, "stream", 3, sales(2))
    assert deliver(fleet.config) == 1
    retrained(fleet, "stream", 4, sales(1, seed=8), at=DAY + timedelta(hours=1))
    assert deliver(fleet.config) == 1
    tags = [run.data.tags for run in runs_of(fleet, "stream 2024-05-01")]
    found = [(each[ROUND], keys.decode(each[GROUP])[0]) for each in tags]
    assert sorted(found) == [("stream-3", "s0000"), ("stream-3", "s0001"), ("stream-4", "s0000")]


def test_what_a_metric_is_called_need_not_be_known_and_nothing_that_is_no_number_is_one(fleet) -> None:
    metrics = {"shadow": {"loss": 0.25, "recipe": "forest"}, "candidates": {"ridge(a=1)": 2, "mean": None}}
    row = {"group_key": '["a","1"]', "status": "failed", "metrics": json.dumps(metrics), "recipe_id": "r", "shard": 0}
    fleet.put(tables.MODELS, [{**row, "round_id": "batch-0", "fitted_at": DAY, "clock": DAY, "batch_id": 0}], "batch")
    took_place(fleet, "batch", 0, DAY)
    deliver(fleet.config)
    (run,) = runs_of(fleet, "batch-0")
    assert run.data.metrics == {"shadow.loss": 0.25, "candidates.ridge_a_1_": 2.0}


def test_a_model_whose_signature_does_not_hold_is_named_and_not_handed_on(fleet, monkeypatch) -> None:
    retrained(fleet, "batch", 0, sales(1))
    monkeypatch.setenv(signing_key.KEY, "n" * 32)

    def parsed(*_, **__):
        raise AssertionError("a byte of it was parsed")

    monkeypatch.setattr(codec, "load", parsed)
    deliver(fleet.config)
    (run,) = runs_of(fleet, "batch-0")
    assert "expected a signature by one of 1 keys; got one that does not hold" in run.data.tags["spinney.model_refused"]
    assert client_of(fleet).list_artifacts(run.info.run_id) == []
    assert run.info.status == "FINISHED"


def test_a_pickle_is_handed_on_closed_and_refused_when_it_is_asked(fleet, opened) -> None:
    retrained(fleet, "batch", 0, sales(1))
    (row,) = fleet.rows(tables.MODELS)
    encoder = codec.load(row["codec"], row["payload"]).encoder
    name, payload = codec.dump(Model(encoder, DummyRegressor()), allow_pickle=True)
    signature = fleet.signer.sign(Claim(row["group_key"], row["model_id"], name), payload)
    more = {"round_id": "batch-1", "batch_id": 1, "codec": name, "payload": payload, "signature": signature}
    fleet.put(tables.MODELS, [row | more], "batch")
    took_place(fleet, "batch", 1, DAY)
    deliver(fleet.config)
    (run,) = runs_of(fleet, "batch-1")
    with pytest.raises(Corrupt, match="codec pickle: expected one that is allowed here"):
        opened(fleet, run).predict(asked(row["group_key"]))


def test_a_delivery_that_is_reported_to_leave_ends_before_its_next_call(fleet, monkeypatch) -> None:
    retrained(fleet, "batch", 0, sales(3))
    watch, real, delivered = DeliveryProgress(), RoundGroupRuns._deliver, []

    def one(self, *arguments) -> None:
        real(self, *arguments)
        delivered.append(watch.detail)
        watch.leaving.set()

    monkeypatch.setattr(RoundGroupRuns, "_deliver", one)
    with pytest.raises(DeliveryStopped):
        deliver(fleet.config, watch)
    assert delivered == ["0 of 3 groups of batch-0 delivered"]
    assert len(runs_of(fleet, "batch-0")) == 1
    monkeypatch.undo()
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    assert deliver(fleet.config) == 1
    assert len(runs_of(fleet, "batch-0")) == 3


def test_a_groups_run_that_a_person_deleted_before_it_had_ended_is_not_made_anew(fleet, monkeypatch) -> None:
    retrained(fleet, "batch", 0, sales(2))
    real, watch = DeliveryClient.ask, DeliveryProgress()

    def ask(self, call, *arguments, **named):
        if call == "set_terminated":
            raise ConnectionError
        return real(self, call, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DeliveryClient, "ask", ask)
        with pytest.raises(ConnectionError):
            deliver(fleet.config, watch)
    assert (watch.rounds, watch.asked_at) == (1, None)
    (begun,) = runs_of(fleet, "batch-0")
    client_of(fleet).delete_run(begun.info.run_id)
    assert deliver(fleet.config, watch) == 1
    (other,) = runs_of(fleet, "batch-0")
    assert other.data.tags[GROUP] != begun.data.tags[GROUP]
    assert watch.words == ""
