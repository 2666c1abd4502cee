"""The second example by the commands of its README, against a real broker.

Nothing in the code knows a flight: an integer key, labels inside the events, three classes, a string feature; then a
boolean target and a forest of one's own that is too large to travel with its promotion. The forest's commands are
processes, since PYTHONPATH names its folder; the others run in this process, with the Spark session that is there.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from spinney_process import SECONDS, called, environment, fork_server

from schemas import tables
from spinney.core.config import Config
from spinney.core.training.loss import MIN_PROBABILITY
from spinney.serving.model_cache import CARRIED_BYTES
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import delta

EXAMPLE = Path(__file__).parents[2] / "examples" / "machines"
HISTORY = 12 * 240
STREAM = 13 * 48
GLOBAL, NEVER_WORN, NEWCOMER = "{}", '["12"]', '["99"]'


Call = Callable[[list[str], Path, Mapping[str, str]], "subprocess.CompletedProcess[str]"]
"""Runs `spinney` with these words, in this folder, with these variables."""


def as_a_process(words: list[str], folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(EXAMPLE), str(EXAMPLE.parents[1])])
    with_path = {**environment(), **variables, "PYTHONPATH": path}
    return fork_server().run(words, folder=folder, environment=with_path, timeout_s=SECONDS)


@dataclass
class Run:
    """A fleet after the README's commands, and what each of them said."""

    file: Path
    folder: Path
    variables: dict[str, str]
    call: Call
    said: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)

    def spinney(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        self.said[verb] = self.call([verb, "--config", str(self.file), *words], self.folder, self.variables)
        return self.said[verb]

    @property
    def config(self) -> Config:
        root = {"SPINNEY_STORAGE__ROOT": self.variables["SPINNEY_STORAGE__ROOT"]}
        return read_config(self.file, root)

    def table(self, contract: Any) -> pd.DataFrame:
        return delta.read_table(FleetStore.of(self.config), contract).to_pandas(maps_as_pydicts="strict")


def loop(name: str, folder: Path, broker: str, call: Call) -> Run:
    """Run every command of the README, each of which must end with 0."""
    done = subprocess.run([sys.executable, str(EXAMPLE / "generate.py"), str(folder)], check=False)
    assert done.returncode == 0
    suffix = uuid.uuid4().hex[:8]
    run = Run(
        EXAMPLE / name,
        folder,
        {
            "SPINNEY_KAFKA__BOOTSTRAP_SERVERS": broker,
            "SPINNEY_KAFKA__EVENTS": f"readings-{suffix}",
            "SPINNEY_KAFKA__PREDICTIONS": f"predictions-{suffix}",
            "SPINNEY_STORAGE__ROOT": str(folder / "root"),
        },
        call,
    )
    for words in (
        ("init",),
        ("check",),
        ("load", str(folder / "history.parquet"), "--json"),
        ("retrain", "--all", "--json"),
        ("produce", str(folder / "stream.jsonl")),
        ("stream", "--once"),
        ("fleet", "--json"),
        ("why", "3"),
    ):
        done = run.spinney(*words)
        assert done.returncode == 0, f"spinney {' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return run


@pytest.fixture(scope="module")
def machines(spark: Any, tmp_path_factory: pytest.TempPathFactory, broker: str) -> Run:
    return loop("fleet.toml", tmp_path_factory.mktemp("machines"), broker, called)


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory, broker: str) -> Run:
    return loop("forest.toml", tmp_path_factory.mktemp("forest"), broker, as_a_process)


def test_history_is_loaded_whole_and_every_machine_and_the_fleet_together_are_fitted(machines: Run) -> None:
    assert json.loads(machines.said["load"].stdout)["added"] == {"events": HISTORY, "dead_letters": 0}
    first = json.loads(machines.said["retrain"].stdout)
    assert {name: first[name] for name in ("groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred")} == {
        "groups_in": 13,
        "fitted": 13,
        "failed": 0,
        "too_few_rows": 0,
        "kept": 0,
        "deferred": 0,
    }


def test_each_reading_is_stored_and_answered_once_by_a_class_with_probabilities_that_sum_to_one(machines: Run) -> None:
    events, answers = machines.table(tables.EVENTS), machines.table(tables.PREDICTIONS)
    streamed = events[~events["topic"].str.startswith("load:")]
    assert len(answers) == len(streamed) == STREAM
    assert set(answers["event_id"]) == set(streamed["event_id"])
    assert set(answers["prediction"]) == {"fine", "worn", "faulty"}
    for row in answers.itertuples():
        assert sum(row.probabilities.values()) == pytest.approx(1.0)
        assert row.probabilities[row.prediction] == max(row.probabilities.values())
    assert dict(zip(answers["event_id"], answers["label"], strict=True)) == dict(
        zip(streamed["event_id"], streamed["wear"], strict=True)
    )


def test_each_answer_is_by_the_machines_own_model_and_a_newcomers_by_all_together(machines: Run) -> None:
    answers, models = machines.table(tables.PREDICTIONS), machines.table(tables.MODELS)
    owner = dict(zip(models["model_id"], models["group_key"], strict=True))
    by_group = answers.groupby("group_key")
    assert {key: set(rows["answered_by"]) for key, rows in by_group} == {
        **{f'["{number}"]': {"own"} for number in range(1, 13)},
        NEWCOMER: {"global"},
    }
    for key, rows in by_group:
        assert {owner[each] for each in rows["model_id"]} == {GLOBAL if key == NEWCOMER else key}


def test_a_machine_that_only_ever_was_fine_is_answered_by_that_class(machines: Run) -> None:
    answers = machines.table(tables.PREDICTIONS)
    mine = answers[answers["group_key"] == NEVER_WORN]
    assert len(mine) == 48
    assert list(mine["probabilities"]) == [{"fine": 1.0}] * 48


def test_what_was_learnt_is_better_than_guessing(machines: Run) -> None:
    answers = machines.table(tables.PREDICTIONS)
    right = (answers["prediction"] == answers["label"]).mean()
    assert right > answers["label"].value_counts(normalize=True).max() + 0.1


def test_health_counts_every_label_once_and_ticks_the_clock_of_every_shard(machines: Run) -> None:
    health = machines.table(tables.HEALTH)
    ticks, rows = health[health["group_key"].isna()], health[health["group_key"].notna()]
    assert (rows["rows"].sum(), rows["labelled"].sum()) == (STREAM, STREAM)
    assert set(ticks["shard"]) == {0, 1, 2, 3}
    assert ticks["last_event_time"].max() == machines.table(tables.EVENTS)["event_time"].max()
    answers = machines.table(tables.PREDICTIONS)
    found = rows.groupby("group_key")["loss"].sum()
    pairs = zip(answers["probabilities"], answers["label"], strict=True)
    reported = pd.Series([probabilities.get(label, 0.0) for probabilities, label in pairs], index=answers["group_key"])
    by_hand = -reported.clip(lower=MIN_PROBABILITY).map(math.log).groupby(level=0).sum()
    pd.testing.assert_series_equal(found.sort_index(), by_hand.sort_index(), check_names=False, rtol=1e-6)


def test_the_stream_refits_what_its_policies_call_stale_and_says_why(machines: Run) -> None:
    rounds = machines.table(tables.ROUNDS)
    streamed = rounds[rounds["kind"] == "stream"]
    assert streamed["fitted"].sum() > 0
    ended = streamed["fitted"] + streamed["failed"] + streamed["too_few_rows"] + streamed["kept"] + streamed["deferred"]
    assert (ended == streamed["groups_in"]).all()
    plans = machines.table(tables.VERDICTS)
    fit = plans[(plans["decision"] == "fit") & plans["round_id"].str.startswith("stream")]
    assert set(fit[fit["group_key"] == NEWCOMER]["policy"]) == {"new_group"}
    assert set(fit[fit["group_key"] == '["3"]']["policy"]) <= {"new_rows", "error_rise"}


def test_the_listing_names_every_machine_and_one_machines_life_is_reported_in_words(machines: Run) -> None:
    listed = json.loads(machines.said["fleet"].stdout)
    assert {row["group_key"] for row in listed} == {f'["{number}"]' for number in (*range(1, 13), 99)}
    assert all(row["model_id"] for row in listed)
    output = machines.said["why"].stdout
    assert output.startswith('["3"]: ')
    assert "the batch refits every group" in output


def test_answers_reach_the_predictions_topic_as_they_stand_in_the_table(machines: Run, broker: str) -> None:
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": broker, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"})
    consumer.subscribe([machines.variables["SPINNEY_KAFKA__PREDICTIONS"]])
    sent: dict[str, Any] = {}
    try:
        while len(sent) < STREAM:
            messages = consumer.consume(STREAM - len(sent), timeout=30)
            assert messages, f"{len(sent)} of {STREAM} came"
            for message in messages:
                report = json.loads(message.value())
                assert message.key().decode() == report["group_key"]
                sent[report["event_id"]] = report
    finally:
        consumer.close()
    answers = machines.table(tables.PREDICTIONS).set_index("event_id")
    assert {name: report["prediction"] for name, report in sent.items()} == answers["prediction"].to_dict()
    assert {name: report["model_id"] for name, report in sent.items()} == answers["model_id"].to_dict()


def test_a_forest_too_large_to_travel_with_its_promotion_is_fetched_and_answers(forest: Run) -> None:
    promotions, models = forest.table(tables.PROMOTIONS), forest.table(tables.MODELS)
    size = models.set_index("model_id")["payload"].map(len)
    large = set(size[size > CARRIED_BYTES].index)
    assert len(large) > 10
    carried = promotions.set_index("model_id")["payload"].notna()
    assert {name for name, there in carried.items() if there} == set(carried.index) - large
    answers = forest.table(tables.PREDICTIONS)
    assert len(answers) == STREAM
    assert answers["model_id"].isin(large).sum() > STREAM / 2


def test_a_boolean_is_answered_by_its_name_and_labels_are_reported_the_same_way(forest: Run) -> None:
    answers, health = forest.table(tables.PREDICTIONS), forest.table(tables.HEALTH)
    assert set(answers["prediction"]) == {"true", "false"}
    assert set(answers["label"]) == {"true", "false"}
    assert all(sum(each.values()) == pytest.approx(1.0) for each in answers["probabilities"])
    assert health["labelled"].sum() == STREAM
    assert (answers["prediction"] == answers["label"]).mean() > 0.85


def test_champions_of_large_payloads_are_compared_and_replaced_in_the_stream(forest: Run) -> None:
    promotions = forest.table(tables.PROMOTIONS)
    mine = promotions[(promotions["by"] == "stream") & (promotions["group_key"] != NEWCOMER)]
    assert mine["champion_loss"].notna().any()
    assert set(mine["decision"]) <= {"promoted", "unproven", "refused"}


def test_another_payload_of_the_same_estimator_is_another_recipe_than_the_built_in_one(
    forest: Run, machines: Run
) -> None:
    recipes = {*forest.table(tables.MODELS)["recipe_id"]}, {*machines.table(tables.MODELS)["recipe_id"]}
    assert len(recipes[0]) == len(recipes[1]) == 1
    assert recipes[0] != recipes[1]


def test_a_drain_with_nothing_to_read_starts_no_spark(machines: Run) -> None:
    done = machines.spinney("stream", "--once", "--only", "ingest")
    assert done.returncode == 0
    assert "nothing to do" in done.stderr
    assert "Spark starts" not in done.stderr
