"""Mode `round`: what MLflow is told of rounds, once, whatever happens meanwhile."""

from __future__ import annotations

import io
import json
import logging
import shutil
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_batch_log_limits, validate_param_and_metric_name
from stored_rounds import DAY, retrained, sales, took_place

from schemas import tables
from spinney import tracking
from spinney.core.config import parse
from spinney.core.errors import Busy
from spinney.core.keys import shard_of
from spinney.core.recipes.recipe import Recipe
from spinney.storage import charter, leases, signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta, recipe_store
from spinney.tracking import Deliverer, deliver, plots
from spinney.tracking.group_runs import GROUP
from spinney.tracking.mlflow_client import DeliveryClient, DeliveryStopped
from spinney.tracking.runs import FLEET


def client_of(fleet) -> MlflowClient:
    return MlflowClient(tracking_uri=fleet.config.tracking.uri)


def runs(fleet) -> dict:
    client = client_of(fleet)
    experiment = client.get_experiment_by_name("shops")
    found = [run for run in client.search_runs([experiment.experiment_id]) if "spinney.run" in run.data.tags]
    assert len({run.data.tags["spinney.run"] for run in found}) == len(found), "a run stands twice"
    return {run.data.tags["spinney.run"]: run for run in found}


def nested(fleet) -> list:
    client = client_of(fleet)
    experiment = client.get_experiment_by_name("shops")
    return [run for run in client.search_runs([experiment.experiment_id]) if GROUP in run.data.tags]


def steps(fleet, run, figure: str) -> list[tuple[int, float]]:
    return sorted((each.step, each.value) for each in client_of(fleet).get_metric_history(run.info.run_id, figure))


def test_one_run_a_batch_and_one_a_stream_and_day_with_rounds_as_steps(fleet) -> None:
    took_place(fleet, "stream", 3, DAY, groups=5)
    took_place(fleet, "stream", 4, DAY + timedelta(hours=1), groups=7)
    took_place(fleet, "stream", 9, DAY + timedelta(days=1), groups=2)
    took_place(fleet, "batch", 0, DAY, groups=11, recipe_id=Recipe.of(fleet.config).recipe_id)
    assert deliver(fleet.config) == 4
    found = runs(fleet)
    assert found.keys() == {"stream 2024-05-01", "stream 2024-05-02", "batch-0"}
    assert steps(fleet, found["stream 2024-05-01"], "groups_in") == [(3, 5.0), (4, 7.0)]
    assert steps(fleet, found["stream 2024-05-02"], "reason.new_rows") == [(9, 2.0)]
    assert steps(fleet, found["batch-0"], "seconds.fit") == [(0, 1.25)]
    batch = found["batch-0"]
    assert batch.info.start_time == DAY.timestamp() * 1000
    assert batch.info.status == "FINISHED"
    assert batch.data.params["estimator"] == Recipe.of(fleet.config).estimator == "linear"
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


class CutOff(Exception):  # noqa: N818 - said as what is so
    """The deliverer ends here."""


def cut_off_before(patch, nth: int) -> None:
    """Have the deliverer die before its nth call to MLflow."""
    real, calls = DeliveryClient.ask, iter(range(nth))

    def ask(self, *arguments, **named):
        if next(calls) == nth - 1:
            raise CutOff
        return real(self, *arguments, **named)

    patch.setattr(DeliveryClient, "ask", ask)


def test_a_delivery_cut_off_before_any_of_its_calls_is_made_good_by_the_next(
    fleet, empty_store, tmp_path, monkeypatch
) -> None:
    took_place(fleet, "stream", 3, DAY)
    retrained(fleet, "batch", 0, sales(3))
    monkeypatch.setattr(plots, "draw", lambda *_, **__: {name: b"drawn" for name in FILES if name.endswith("png")})
    for nth in range(1, 100):
        shutil.copy(empty_store, tmp_path / f"{nth}.db")
        mine = type(fleet)(at(fleet.config, f"sqlite:///{tmp_path}/{nth}.db"))
        with monkeypatch.context() as patch:
            cut_off_before(patch, nth)
            try:
                deliver(mine.config)
                break
            except CutOff:
                pass
        deliver(mine.config)
        found = runs(mine)
        assert found.keys() == {"stream 2024-05-01", "batch-0"}
        assert set(steps(mine, found["stream 2024-05-01"], "groups_in")) == {(3, 5.0)}
        assert set(steps(mine, found["batch-0"], "groups_in")) == {(0, 3.0)}
        assert files(mine, found["batch-0"]) == FILES
        assert {run.info.status for run in found.values()} == {"FINISHED"}
        assert deliver(mine.config) == 0
    assert nth > 15


def test_a_fleet_started_anew_under_the_same_name_is_delivered_from_its_first_round_on(fleet, tmp_path) -> None:
    """Its batches count from 0 again, on the same day."""
    took_place(fleet, "stream", 7, DAY)
    took_place(fleet, "batch", 0, DAY)
    deliver(fleet.config)
    text = fleet.config.text.replace(f"{tmp_path}/root", f"{tmp_path}/anew")
    anew = type(fleet)(parse(text, "fleet.toml", {}))
    delta.create_tables(FleetStore.of(anew.config))
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
    with leases.held(FleetStore.of(fleet.config), [leases.TRACKING]):
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

    monkeypatch.setattr(tracking.rounds, "datetime", Tomorrow)
    assert deliver(fleet.config) == 0
    (run,) = runs(fleet).values()
    assert run.info.status == "FINISHED"


FILES = {"groups.parquet", "round.json", "losses.png", "fit_times.png", "outcomes.png"}


def files(fleet, run) -> set[str]:
    return {each.path for each in client_of(fleet).list_artifacts(run.info.run_id)}


def artifact(fleet, run, name: str, folder) -> bytes:
    return Path(client_of(fleet).download_artifacts(run.info.run_id, name, str(folder))).read_bytes()


def test_a_batch_has_every_group_in_one_file_its_recipe_its_data_versions_and_figures(fleet, tmp_path) -> None:
    rows = sales(3)
    broken = rows["group_key"].iloc[0]
    fitted = retrained(fleet, "batch", 0, rows, errors={broken: "no"}).set_index("group_key")
    kept = {"group_key": '["z","1"]', "decision": "kept", "model_id": "old", "reason": "the same rows", "epoch": 0}
    fleet.put(tables.PROMOTIONS, [{**kept, "shard": 0, "round_id": "batch-0", "decided_at": DAY, "clock": DAY,
                                   "batch_id": 0}], "batch")  # fmt: skip
    deliver(fleet.config)
    (run,) = runs(fleet).values()
    assert files(fleet, run) == FILES
    groups = pq.read_table(io.BytesIO(artifact(fleet, run, "groups.parquet", tmp_path))).to_pylist()
    assert [row["group_key"] for row in groups] == sorted([*fitted.index, kept["group_key"]])
    failed, second, third, same = groups
    assert (failed["status"], failed["error_class"], failed["error"]) == ("failed", "ValueError", "no")
    assert (failed["decision"], failed["model_id"]) == (None, None)
    for row in (second, third):
        stored = fitted.loc[row["group_key"]]
        assert (row["status"], row["decision"], row["model_id"]) == ("fitted", "promoted", stored["model_id"])
        assert (row["rows"], row["fit_ms"], row["codec"]) == (12, stored["fit_ms"], "linear")
        report = json.loads(stored["metrics"])
        assert {name: row[name] for name in report} == report
    assert (same["status"], same["decision"], same["model_id"], same["rows"]) == ("kept", "kept", "old", None)
    assert "payload" not in failed
    report = json.loads(artifact(fleet, run, "round.json", tmp_path))
    assert (report["recipe"]["estimator"], report["recipe"]["min_rows"], report["pins"]) == ("linear", 8, {"events": 7})
    assert run.data.params["version.events"] == "7"
    assert artifact(fleet, run, "losses.png", tmp_path).startswith(b"\x89PNG")


def test_a_recipe_that_was_edited_since_is_not_reported_as_the_rounds_own(fleet, tmp_path) -> None:
    took_place(fleet, "batch", 0, DAY, recipe_id="another")
    deliver(fleet.config)
    (run,) = runs(fleet).values()
    assert run.data.params == {"recipe_id": "another", "version.events": "7"}
    assert "recipe" not in json.loads(artifact(fleet, run, "round.json", tmp_path))


@pytest.mark.parametrize("mode", ["round", "group"])
def test_a_recipe_edited_during_a_day_begins_another_run_with_its_own_parameters(tracked, mode) -> None:
    """A parameter cannot be changed in MLflow."""
    fleet = tracked(f'mode = "{mode}"')
    took_place(fleet, "stream", 3, DAY, recipe_id="one")
    took_place(fleet, "stream", 4, DAY + timedelta(hours=1), recipe_id="another")
    assert deliver(fleet.config) == 2
    took_place(fleet, "stream", 5, DAY + timedelta(hours=2), recipe_id="another")
    took_place(fleet, "stream", 6, DAY + timedelta(hours=3), recipe_id=Recipe.of(fleet.config).recipe_id)
    assert deliver(fleet.config) == 2
    found = runs(fleet)
    day = "stream 2024-05-01"
    assert found.keys() == {day, f"{day} from 4", f"{day} from 6"}
    assert found[day].data.params == {"recipe_id": "one"}
    assert found[f"{day} from 4"].data.params == {"recipe_id": "another"}
    assert found[f"{day} from 6"].data.params["estimator"] == "linear"
    assert steps(fleet, found[f"{day} from 4"], "version.events") == [(4, 11.0), (5, 12.0)]
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_a_recipe_that_was_kept_is_reported_whole_after_it_was_edited(fleet) -> None:
    before = replace(Recipe.of(fleet.config), estimator="constant", params=(("statistic", '"median"'),))
    recipe_store.store_recipe(FleetStore.of(fleet.config), fleet.signer, before)
    took_place(fleet, "batch", 0, DAY, recipe_id=before.recipe_id)
    deliver(fleet.config)
    (run,) = runs(fleet).values()
    assert (run.data.params["estimator"], run.data.params["estimator.statistic"]) == ("constant", '"median"')


def test_every_round_with_a_model_has_its_loss_also_one_that_kept_them_all(fleet) -> None:
    for batch in (0, 1):
        took_place(fleet, "batch", batch, DAY + timedelta(hours=batch), mean_challenger_loss=None)
    took_place(fleet, "stream", 0, DAY, mean_challenger_loss=None)
    rows = [("batch", 0, "a", "promoted", 1.0), ("batch", 0, "b", "unproven", 2.0), ("batch", 1, "a", "kept", None),
            ("stream", 0, "c", "promoted", 3.0)]  # fmt: skip
    for kind, batch, model, decision, loss in rows:
        of_model = {"model_id": model, "decision": decision, "challenger_loss": loss}
        key = f'["{model}"]'
        of_model |= {"group_key": key, "shard": shard_of(key, fleet.config.fleet.shards)}
        row = {"decided_at": DAY, "clock": DAY, **of_model}
        fleet.put(tables.PROMOTIONS, [{**row, "round_id": f"{kind}-{batch}", "batch_id": batch, "epoch": 0}], kind)
    of_group = {"group_key": '["c"]', "shard": shard_of('["c"]', fleet.config.fleet.shards)}
    drawn = {**of_group, "round_id": "stream-0", "batch_id": 0, "decision": "fit", "judged_at": DAY}
    fleet.put(tables.VERDICTS, [{**drawn, "numbers": '{"rows_since":3,"queue":"random"}'}], "stream")
    watched = '{"champion_id": "c", "watched_rows": 9, "watched_champion_loss": 3.0, "predecessor_loss": 4.5}'
    later = {**of_group, "round_id": "batch-1", "batch_id": 1, "status": "fitted", "recipe_id": "r"}
    fleet.put(tables.MODELS, [{**later, "fitted_at": DAY, "clock": DAY, "metrics": watched}], "batch")
    deliver(fleet.config)
    assert {name: run.data.metrics.get("gain") for name, run in runs(fleet).items()} == {
        "batch-0": None,
        "batch-1": 1.5,  # 4.5 - 3: it compared the champion that the stream's round has promoted
        "stream 2024-05-01": None,
    }
    expected = {
        name: (run.data.metrics["mean_loss"], run.data.metrics["measured"]) for name, run in runs(fleet).items()
    }
    assert expected == {"batch-0": (1.5, 2.0), "batch-1": (1.0, 1.0), "stream 2024-05-01": (3.0, 1.0)}


def test_a_streams_run_ends_with_the_stream_and_goes_on_when_that_begins_again_the_same_day(fleet) -> None:
    now = datetime.now(UTC)

    def status() -> str:
        (run,) = runs(fleet).values()
        return str(run.info.status)

    took_place(fleet, "stream", 0, now)
    deliver(fleet.config)
    assert status() == "RUNNING"
    tracking.deliver_now(fleet.config)  # a batch beside it ends no stream's run
    assert status() == "RUNNING"
    deliverer = Deliverer(fleet.config)
    deliverer.start()
    deliverer.stop()
    assert status() == "FINISHED"
    took_place(fleet, "stream", 1, now)
    deliver(fleet.config)
    assert status() == "RUNNING"
    tracking.deliver_now(fleet.config, ends_stream=True)
    assert status() == "FINISHED"
    (run,) = runs(fleet).values()
    assert [step for step, _ in steps(fleet, run, "fitted")] == [0, 1]


def test_more_than_one_call_may_carry_goes_in_several_and_odd_names_are_made_such_as_mlflow_takes() -> None:
    reported = []

    class Asked:
        def ask(self, call, run_id, metrics, params, *, synchronous) -> None:
            _validate_batch_log_limits(metrics, params, [])
            for each in (*metrics, *params):
                assert validate_param_and_metric_name(each.key)
            reported.append((call, run_id, len(metrics), len(params)))

    row = {"started_at": DAY, "batch_id": 3}
    metrics = tracking.rounds.round_metrics(row, {f"loss({at})/../x": float(at) for at in range(1000)})
    tracking.rounds.log_batch(Asked(), "r", {f"a,{at}": "b" for at in range(250)}, metrics)
    assert reported == [("log_batch", "r", 900, 100), ("log_batch", "r", 100, 100), ("log_batch", "r", 0, 50)]
    assert metrics[7].key == "loss_7__.._x"
    assert len(tracking.rounds.mlflow_name("x" * 999)) == 250


def test_as_many_calls_for_a_thousand_groups_as_for_three_and_one_for_runs_that_are_done(fleet, server) -> None:
    uri, layer = server
    config = at(fleet.config, uri)
    counts = []
    for batch, groups in enumerate((1, 3, 1000)):  # the first makes the experiment
        retrained(fleet, "batch", batch, sales(groups))
        layer.reset()
        assert deliver(config) == 1
        counts.append(layer.calls.total())
    assert counts[1] == counts[2] < 20
    layer.reset()
    assert deliver(config) == 0
    assert layer.calls == {"experiments/get-by-name": 1, "runs/search": 1}


def test_a_run_that_the_server_made_although_it_reported_an_error_exists_once(fleet, server) -> None:
    """MLflow's client repeats the call, and the server makes a second run."""
    uri, layer = server
    took_place(fleet, "batch", 0, DAY)
    layer.lose = lambda path, before: "502 Bad Gateway" if path.endswith("runs/create") and lost() else None
    once = iter([True])

    def lost() -> bool:
        return next(once, False)

    there = type(fleet)(at(fleet.config, uri))
    assert deliver(there.config) == 1
    assert (layer.calls["runs/create"], layer.calls["runs/delete"]) == (2, 1)
    mine = {FLEET: charter.ensure_charter(FleetStore.of(fleet.config)).fleet_id}
    client = client_of(there)
    found = client.search_runs([client.get_experiment_by_name("shops").experiment_id], "tags.`spinney.run` = 'batch-0'")
    (run,) = [run for run in found if mine.items() <= run.data.tags.items()]
    assert run.info.status == "FINISHED"
    assert files(there, run) == FILES


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


@pytest.mark.parametrize("mode", ["round", "group"])
def test_what_a_server_missed_while_it_was_down_arrives_once(tracked, down, caplog, monkeypatch, mode) -> None:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    fleet = tracked(f'mode = "{mode}"')
    retrained(fleet, "stream", 0, sales(2))
    unreachable = at(fleet.config, down)
    with pytest.raises(Exception, match=r"Max retries exceeded|API request"):
        deliver(unreachable)
    with caplog.at_level(logging.WARNING, tracking.log.name):
        tracking.deliver_now(unreachable)
    (output,) = [record.getMessage() for record in caplog.records if record.name == tracking.log.name]
    assert output.startswith(f"MLflow at {down}: ")
    assert output.endswith("rounds are kept and delivered later")
    retrained(fleet, "stream", 1, sales(2, seed=8), at=DAY + timedelta(hours=2))
    retrained(fleet, "batch", 0, sales(2, seed=9), at=DAY + timedelta(hours=3))
    tracking.deliver_now(fleet.config)
    found = runs(fleet)
    assert found.keys() == {"stream 2024-05-01", "batch-0"}
    assert steps(fleet, found["stream 2024-05-01"], "groups_in") == [(0, 2.0), (1, 2.0)]
    assert files(fleet, found["batch-0"]) == FILES
    assert len(nested(fleet)) == (6 if mode == "group" else 0)


def test_a_password_in_the_address_is_not_shown(fleet, down, caplog) -> None:
    took_place(fleet, "batch", 0, DAY)
    tracking.deliver_now(at(fleet.config, down.replace("//", "//ann:hush@")))
    (output,) = [record.getMessage() for record in caplog.records if record.name == tracking.log.name]
    assert "//ann:********@127.0.0.1" in output
    assert "hush" not in output


def test_what_a_person_deleted_in_mlflow_stays_deleted(fleet) -> None:
    took_place(fleet, "stream", 3, DAY)
    took_place(fleet, "batch", 0, DAY)
    assert deliver(fleet.config) == 2
    client = client_of(fleet)
    for run in runs(fleet).values():
        client.delete_run(run.info.run_id)
    took_place(fleet, "stream", 4, DAY + timedelta(hours=1))
    took_place(fleet, "batch", 1, DAY + timedelta(hours=2))
    assert (deliver(fleet.config), deliver(fleet.config)) == (1, 0)
    assert runs(fleet).keys() == {"batch-1"}


def test_an_experiment_that_was_deleted_is_reported_with_what_brings_it_back(fleet, caplog) -> None:
    took_place(fleet, "stream", 0, DAY)
    client = client_of(fleet)
    made = client.create_experiment("shops")
    client.delete_experiment(made)
    tracking.deliver_now(fleet.config)
    (output,) = [record.getMessage() for record in caplog.records if record.name == tracking.log.name]
    assert "experiment shops: expected one to write to; got one that was deleted." in output
    assert f"mlflow experiments restore -x {made};" in output
    client.restore_experiment(made)
    assert deliver(fleet.config) == 1


def test_the_documented_way_to_a_batchs_groups_finds_them_as_it_is_typed(fleet) -> None:
    retrained(fleet, "batch", 0, sales(2))
    deliver(fleet.config)
    text = (Path(__file__).parents[3] / "docs" / "tracking.md").read_text()
    typed = text.partition("```python\n")[2].partition("```")[0]
    mine = typed.replace("sqlite:///work/mlflow.db", fleet.config.tracking.uri).replace('"flights"', '"shops"')
    before, found = mlflow.get_tracking_uri(), {}
    try:
        exec(mine, found)
    finally:
        mlflow.set_tracking_uri(before)
    assert found["groups"]["decision"].tolist() == ["promoted", "promoted"]


def test_a_person_who_does_not_want_to_wait_leaves_the_rest_for_the_next_time(fleet, monkeypatch, caplog) -> None:
    begun, left = threading.Event(), threading.Event()

    def until_told(config, watch, *, ends_stream) -> None:
        watch.detail = "3 of 9 groups delivered"
        begun.set()
        assert watch.leaving.wait(30)
        left.set()
        raise DeliveryStopped

    def interrupted(self, *_) -> None:
        assert begun.wait(30)
        monkeypatch.setattr(threading.Thread, "join", real)
        raise KeyboardInterrupt

    real = threading.Thread.join
    monkeypatch.setattr(tracking, "deliver", until_told)
    monkeypatch.setattr(threading.Thread, "join", interrupted)
    tracking.deliver_now(fleet.config)
    assert left.is_set()
    (output,) = [record.getMessage() for record in caplog.records if record.name == tracking.log.name]
    assert output == "MLflow: 3 of 9 groups delivered; the rest follows with the next batch or stream"
