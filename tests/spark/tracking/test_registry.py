"""The fleet as one registered model in a real MLflow with a real SQLite store."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from handwritten_history import hour
from mlflow import MlflowClient
from oracles import DEPT, A, B, Shops, made, mixed
from pyspark.sql import functions as F

from spinney.cli import main
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import parse
from spinney.core.errors import Busy, StoreError
from spinney.core.recipes.recipe import Recipe
from spinney.serving.model_cache import cache
from spinney.storage import charter, leases
from spinney.storage.layout import FleetStore
from spinney.tracking import registry
from spinney.tracking.mlflow_client import DeliveryClient
from spinney.tracking.registry import RegisteredVersion

URI = "models:/shops@champion"


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "k" * 32)
    cache.cache_clear()
    yield
    cache.cache_clear()


@pytest.fixture
def fleet(tmp_path: Path, empty_store: Path) -> Iterator[Callable[..., Shops]]:
    """Makes a fleet of shops that has an MLflow to itself; this process asks that one too."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    yield lambda **how: made(tmp_path / "root", more=f'[tracking]\nuri = "{uri}"\n', **how)
    mlflow.set_tracking_uri(before)


def registered(shops: Shops, at: float = 100, alias: str = "champion") -> RegisteredVersion:
    return registry.register(shops.past.config, shops.fleet.champions(hour(at)), hour(at), alias)


def named(alias: str = "champion") -> int:
    return int(MlflowClient().get_model_version_by_alias("shops", alias).version)


def without_tables(shops: Shops) -> None:
    shutil.rmtree(shops.past.config.storage.root)
    cache.cache_clear()


@pytest.mark.parametrize("classes", [False, True])
def test_a_version_answers_mixed_rows_as_the_fleet_does_where_its_tables_are_not(fleet, classes: bool) -> None:
    shops = fleet(classes=classes)
    shops.round(30, A, B, DEPT)
    shops.round(50, A, flipped=True)
    frame = mixed().astype({"stock": float})
    frame.iloc[3, frame.columns.get_loc("stock")] = np.nan
    wanted = shops.fleet.predict(frame)
    assert set(wanted["answered_by"]) == {"own", "parent", "none"}
    registered(shops)
    without_tables(shops)
    pd.testing.assert_frame_equal(mlflow.pyfunc.load_model(URI).predict(frame), wanted, check_exact=True)


def test_the_very_same_is_found_again_and_the_alias_follows_the_one_that_is_asked_for(fleet) -> None:
    shops = fleet()
    shops.round(30, A, DEPT)
    first = registered(shops)
    again = registered(shops, at=120)
    assert (first.version, first.made, again.version, again.made) == (1, True, 1, False)
    shops.round(50, A)
    assert (registered(shops).version, named()) == (2, 2)
    back = registered(shops, at=40)
    assert (back.version, back.made, named()) == (1, False, 1)
    assert (registered(shops, alias="candidate").version, named("candidate"), named()) == (2, 2, 1)


@pytest.mark.parametrize("changed", ["signature", "code"])
def test_the_same_models_asked_in_another_way_are_another_version(fleet, tmp_path: Path, monkeypatch, changed) -> None:
    """Else a fault in how rows are taken would stay in what is registered, though the package has mended it."""
    shops = fleet()
    shops.past.round(1, {A: 1.0})
    registered(shops)
    if changed == "code":
        other = tmp_path / "registered_fleet.py"
        other.write_text(registry.CODE.read_text(encoding="utf-8") + "\n# mended\n", encoding="utf-8")
        monkeypatch.setattr(registry, "CODE", other)
    else:
        mended = registry.model_signature(
            FleetStore.of(parse(shops.text.replace('price = "double"', 'price = "double"\nx = "int"'), "", {}))
        )
        monkeypatch.setattr(registry, "model_signature", lambda _: mended)
    again = registered(shops)
    assert (again.version, again.made, named()) == (2, True, 2)


def test_a_version_says_of_which_fleet_and_moment_it_is_and_holds_no_pickle(fleet, tmp_path: Path) -> None:
    shops = fleet()
    shops.past.round(1, {A: 1.0, B: 2.0})
    shops.round(30, A, DEPT)
    registered(shops)
    reported = MlflowClient().get_model_version("shops", "1")
    charter = json.loads((tmp_path / "root" / "charter.json").read_text(encoding="utf-8"))
    assert reported.tags["spinney.fleet_id"] == charter["fleet_id"]
    assert reported.tags["spinney.as_of"] == hour(100).isoformat()
    assert reported.tags["spinney.recipes"] == f"{Recipe.of(shops.past.config).recipe_id}, by hand"
    assert reported.description.splitlines()[2:] == [
        "| shop | string | group |", "| dept | int | group |", "| price | double | feature |",
        "| stock | int | feature |", "| at | timestamp | for models of other features |",
    ]  # fmt: skip
    assert (reported.tags["spinney.groups"], reported.tags["spinney.parents"]) == ("2", "1")
    place = Path(mlflow.artifacts.download_artifacts(URI, dst_path=str(tmp_path / "copy")))
    files = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    assert {file for file in files if file.endswith((".pkl", ".pickle", ".joblib"))} == set()
    assert files >= {"registered_fleet.py", "artifacts/manifest/champions.parquet", "artifacts/manifest/fleet.toml"}
    pins = (place / "requirements.txt").read_text(encoding="utf-8").split()
    assert all("==" in pin for pin in pins)
    assert {"spinney", "scikit-learn", "numpy", "skops"} <= {pin.partition("==")[0] for pin in pins}


def test_the_calls_do_not_grow_with_the_groups(fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    ask = DeliveryClient.ask
    monkeypatch.setattr(
        DeliveryClient,
        "ask",
        lambda self, call, *rest, **named: calls.update([call]) or ask(self, call, *rest, **named),
    )
    shops = fleet()
    counted = []
    for at, groups in ((1, 2), (2, 3000)):
        calls.clear()
        shops.past.round(at, {f'["s{n}","1"]': float(n) for n in range(groups)})
        done = registered(shops)
        counted.append((done.manifest.groups, sum(calls.values()), set(calls.values())))
    # The second finds experiment and model; making the latter is tried each time.
    assert counted == [(2, 13, {1, 2}), (3000, 12, {1, 2})]
    calls.clear()
    registered(shops)
    assert calls.total() == 5


def test_a_server_that_is_down_is_reported_and_no_alias_moves(fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    shops = fleet()
    shops.round(30, A)
    registered(shops)
    shops.round(50, A)

    def refuses(*_: object, **__: object) -> None:
        raise ConnectionError("it is down")

    monkeypatch.setattr(MlflowClient, "create_model_version", refuses)
    with pytest.raises(StoreError, match=r"MLflow at \"sqlite.*: expected it to register .*; got it is down\. No"):
        registered(shops)
    assert named() == 1


def test_a_password_in_the_address_of_mlflow_is_not_shown(fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    shops = fleet()
    shops.round(30, A)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    there = parse(shops.text, "fleet.toml", {"SPINNEY_TRACKING__URI": "http://me:hush@127.0.0.1:9"})
    with pytest.raises(StoreError, match=r"API request to http://me:\*+@127\.0\.0\.1:9") as refused:
        registry.register(there, shops.fleet.champions(), hour(100), "champion")
    assert "hush" not in str(refused.value)


def test_a_version_and_its_run_stand_once_though_the_answers_were_lost(tmp_path: Path, server) -> None:
    """MLflow's client repeats both calls, and the server makes a second run and a second version."""
    uri, layer = server
    shops = made(tmp_path / "root")
    shops.round(30, A)
    there = parse(shops.text, "fleet.toml", {"SPINNEY_TRACKING__URI": uri, "SPINNEY_FLEET__NAME": "lost-answers"})
    lost = {"runs/create", "model-versions/create"}

    def lose(path: str, _: int) -> str | None:
        call = "/".join(path.split("/")[-2:])
        if call not in lost:
            return None
        lost.remove(call)
        return "502 Bad Gateway"

    layer.lose = lose
    done = registry.register(there, shops.fleet.champions(), hour(100), "champion")
    assert (layer.calls["runs/create"], layer.calls["model-versions/create"]) == (2, 2)
    client = MlflowClient(uri)
    (version,) = client.search_model_versions("name = 'lost-answers'")
    (run,) = client.search_runs([client.get_experiment_by_name("lost-answers").experiment_id])
    assert (int(version.version), version.run_id, run.info.status) == (done.version, run.info.run_id, "FINISHED")
    assert client.get_model_version_by_alias("lost-answers", "champion").version == version.version


class Killed(BaseException):
    """As `kill -9` in place of a call."""


@pytest.mark.parametrize("other_champions", [False, True])
@pytest.mark.parametrize(
    "call", ["log_artifacts", "create_model_version", "set_terminated", "set_registered_model_alias"]
)
def test_one_that_was_killed_leaves_no_run_without_an_end_and_no_second_version(
    fleet, monkeypatch: pytest.MonkeyPatch, call: str, other_champions: bool
) -> None:
    shops = fleet()
    shops.past.round(1, {A: 1.0})
    ask = DeliveryClient.ask

    def killed(self: DeliveryClient, asked: str, *rest: object, **named: object) -> object:
        if asked == call:
            raise Killed
        return ask(self, asked, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DeliveryClient, "ask", killed)
        with pytest.raises(Killed):
            registered(shops)
    if other_champions:
        shops.past.round(2, {A: 2.0})
    done = registered(shops)
    client = MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("shops").experiment_id])
    statuses = Counter(run.info.status for run in runs)
    versions = {int(each.version) for each in client.search_model_versions("name = 'shops'")}
    had_version = call in ("set_terminated", "set_registered_model_alias")
    assert named() == done.version == max(versions)
    assert len(versions) == (2 if other_champions and had_version else 1)
    ended = {"FINISHED": 2} if call == "set_registered_model_alias" else {"FINISHED": 1, "KILLED": 1}
    assert statuses == (ended if other_champions else {"FINISHED": 1})


def test_an_alias_of_another_fleet_of_the_same_name_is_taken_only_when_that_is_reported(fleet, tmp_path: Path) -> None:
    first = fleet()
    first.past.round(1, {A: 1.0})
    registered(first)
    other = made(tmp_path / "other", more=first.text.partition('root"\n')[2])
    other.past.round(1, {A: 2.0})
    owners = [charter.ensure_charter(FleetStore.of(each.past.config)).fleet_id for each in (first, other)]
    reported = (
        rf"@champion: expected a version of this fleet, {owners[1]}; got version 1 of {owners[0]}\. .*--take-over"
    )
    with pytest.raises(StoreError, match=reported):
        registered(other)
    assert len(MlflowClient().search_model_versions("name = 'shops'")) == 1
    assert registered(other, alias="mine").version == 2
    file = tmp_path / "other.toml"
    file.write_text(other.text, encoding="utf-8")
    words = ["register", "--config", str(file), "--take-over"]
    assert CliRunner().invoke(main, words, catch_exceptions=False).exit_code == 0
    assert named() == 2


def test_two_do_not_register_at_once(fleet) -> None:
    shops = fleet()
    shops.round(30, A)
    with (
        leases.held(FleetStore.of(shops.past.config), [leases.REGISTRY]),
        pytest.raises(Busy, match="another process runs it"),
    ):
        registered(shops)


def test_a_fleet_without_a_champion_is_not_registered(fleet) -> None:
    with pytest.raises(StoreError, match=r"shops: expected a champion as of 2024-05-05T04:00:00\+00:00; got none"):
        registry.register(fleet().past.config, Champions.empty(), hour(100), "champion")


def test_the_command_registers_says_so_and_a_dry_run_only_looks(fleet, tmp_path: Path) -> None:
    shops = fleet()
    shops.round(30, A, B, DEPT)
    file = tmp_path / "fleet.toml"
    file.write_text(shops.text, encoding="utf-8")

    def run(*words: str):
        return CliRunner().invoke(main, ["register", "--config", str(file), *words], catch_exceptions=False)

    looked = run("--dry-run", "--as-of", "stream-30")
    assert (looked.exit_code, looked.output.splitlines()[0].partition(" as of")[0]) == (
        0, "shops: a version would hold 3 models of 2 groups and 1 parents",
    )  # fmt: skip
    assert MlflowClient().search_registered_models() == []
    done = run()
    assert done.exit_code == 0
    assert "shops version 1 is new: 3 models of 2 groups and 1 parents as of " in done.output
    assert "champion is version 1: models:/shops@champion" in done.output
    shops.round(50, B, flipped=True)
    reported = run("--json")
    assert reported.exit_code == 1
    assert "1 champions whose signature does not hold: others answer in their place" in reported.stderr
    report = json.loads(reported.stdout)
    assert (report["version"], report["made"], report["alias"], report["manifest"]["refused"]) == (
        2,
        True,
        "champion",
        1,
    )


def test_a_spark_udf_of_it_answers_a_frame_of_all_groups_as_the_fleet_does(fleet, spark) -> None:
    shops = fleet()
    shops.round(30, A, B, DEPT)
    shops.round(50, A, flipped=True)
    registered(shops)
    frame = mixed(rows=20_000).reset_index(drop=True)
    wanted = shops.fleet.predict(frame)
    without_tables(shops)
    schema = "prediction double, lower double, upper double, model_id string, answered_by string"
    key = {"SPINNEY_SIGNING_KEY": "k" * 32}  # Spark's workers have the environment that its JVM was started with
    answer = mlflow.pyfunc.spark_udf(spark, URI, result_type=schema, env_manager="local", extra_env=key)
    rows = spark.createDataFrame(frame.assign(place=frame.index)).repartition(4)
    found = rows.select("place", answer(F.struct("shop", "dept", "price", "stock")).alias("it")).select("place", "it.*")
    # MLflow makes the text "None" of a null string in a struct: who was asked says it.
    there = F.when(F.col("answered_by") != "none", F.col("model_id"))
    answered = found.withColumn("model_id", there).toPandas().sort_values("place").drop(columns="place")
    pd.testing.assert_frame_equal(answered.reset_index(drop=True), wanted, check_exact=True)
    assert wanted["answered_by"].value_counts().to_dict() == {"own": 10_000, "parent": 5000, "none": 5000}
