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
from mlflow import MlflowClient
from oracles import DEPT, A, B, Shops, made, mixed
from past import hour
from pyspark.sql import functions as F

from spinney.cli import main
from spinney.core.errors import Busy, StoreError
from spinney.core.recipe import Recipe
from spinney.stores import leases, registry
from spinney.stores.models import cache
from spinney.stores.registry import Registered
from spinney.stores.tracking.server import Server

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


def registered(shops: Shops, at: float = 100, alias: str = "champion") -> Registered:
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


def test_a_version_says_of_which_fleet_and_moment_it_is_and_holds_no_pickle(fleet, tmp_path: Path) -> None:
    shops = fleet()
    shops.past.round(1, {A: 1.0, B: 2.0})
    shops.round(30, A, DEPT)
    registered(shops)
    said = MlflowClient().get_model_version("shops", "1")
    charter = json.loads((tmp_path / "root" / "charter.json").read_text(encoding="utf-8"))
    assert said.tags["spinney.fleet_id"] == charter["fleet_id"]
    assert said.tags["spinney.as_of"] == hour(100).isoformat()
    assert said.tags["spinney.recipes"] == f"{Recipe.of(shops.past.config).recipe_id}, by hand"
    assert (said.tags["spinney.groups"], said.tags["spinney.parents"]) == ("2", "1")
    place = Path(mlflow.artifacts.download_artifacts(URI, dst_path=str(tmp_path / "copy")))
    files = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    assert {file for file in files if file.endswith((".pkl", ".pickle", ".joblib"))} == set()
    assert files >= {"registered_fleet.py", "artifacts/manifest/champions.parquet", "artifacts/manifest/fleet.toml"}
    pins = (place / "requirements.txt").read_text(encoding="utf-8").split()
    assert all("==" in pin for pin in pins)
    assert {"spinney", "scikit-learn", "numpy", "skops"} <= {pin.partition("==")[0] for pin in pins}


def test_the_calls_do_not_grow_with_the_groups(fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    ask = Server.ask
    monkeypatch.setattr(
        Server, "ask", lambda self, call, *rest, **named: calls.update([call]) or ask(self, call, *rest, **named)
    )
    shops = fleet()
    counted = []
    for at, groups in ((1, 2), (2, 3000)):
        calls.clear()
        shops.past.round(at, {f'["s{n}","1"]': float(n) for n in range(groups)})
        done = registered(shops)
        counted.append((done.manifest.groups, sum(calls.values()), set(calls.values())))
    # The second finds experiment and model; making the latter is tried each time.
    assert counted == [(2, 9, {1}), (3000, 8, {1})]


def test_a_server_that_is_down_is_said_and_no_alias_moves(fleet, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_two_do_not_register_at_once(fleet) -> None:
    shops = fleet()
    shops.round(30, A)
    with leases.held(shops.past.config, [registry.NAME]), pytest.raises(Busy, match="another process runs it"):
        registered(shops)


def test_a_fleet_without_a_champion_is_not_registered(fleet) -> None:
    with pytest.raises(StoreError, match=r"shops: expected a champion as of 2024-05-05T04:00:00\+00:00; got none"):
        registered(fleet())


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
    told = run("--json")
    assert told.exit_code == 1
    assert "1 champions whose signature does not hold: others answer in their place" in told.stderr
    said = json.loads(told.stdout)
    assert (said["version"], said["made"], said["alias"], said["manifest"]["refused"]) == (2, True, "champion", 1)


def test_a_spark_udf_of_it_answers_a_frame_of_all_groups_as_the_fleet_does(fleet, spark) -> None:
    shops = fleet()
    shops.round(30, A, B, DEPT)
    shops.round(50, A, flipped=True)
    registered(shops)
    frame = mixed(rows=20_000).reset_index(drop=True)
    wanted = shops.fleet.predict(frame)
    without_tables(shops)
    schema = "prediction double, model_id string, answered_by string"
    key = {"SPINNEY_SIGNING_KEY": "k" * 32}  # Spark's workers have the environment that its JVM was started with
    answer = mlflow.pyfunc.spark_udf(spark, URI, result_type=schema, env_manager="local", extra_env=key)
    rows = spark.createDataFrame(frame.assign(place=frame.index)).repartition(4)
    found = rows.select("place", answer(F.struct("shop", "dept", "price", "stock")).alias("it")).select("place", "it.*")
    # MLflow makes the text "None" of a null string in a struct: who was asked says it.
    there = F.when(F.col("answered_by") != "none", F.col("model_id"))
    answered = found.withColumn("model_id", there).toPandas().sort_values("place").drop(columns="place")
    pd.testing.assert_frame_equal(answered.reset_index(drop=True), wanted, check_exact=True)
    assert wanted["answered_by"].value_counts().to_dict() == {"own": 10_000, "parent": 5000, "none": 5000}
