"""Whether a round is fitted in this process or by Spark is decided once, from the whole plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from edited_fleet import editor, sell

from batch.group_selection import BatchView, Scope, plan_verdicts
from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core.config import Config
from spinney.core.planning.batch_parts import PartPacing
from spinney.retraining.fitting import local_fitting
from spinney.retraining.fitting.champion_reader import StoredChampions
from spinney.retraining.round_record import FinishedRound
from spinney.retraining.round_request import RoundRequest
from spinney.retraining.rounds import Rounds
from spinney.spark.session import LazySession
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.snapshot import ShardRange, take_snapshots

GROUPS = 3
ONE_BY_ONE = PartPacing(target_s=0.001, seconds_per_group=1.0, is_measured=True)


def no_spark() -> Any:
    raise AssertionError("Spark was started")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    config = editor(tmp_path)()
    sell(config, GROUPS)
    return config


def planned(config: Config, start: Callable[[], Any], predicted_seconds: float = 1.0) -> Rounds:
    view = BatchView.now_of(FleetStore.of(config))
    plan = plan_verdicts(no_spark, config, Scope(), view)
    assert plan.num_rows >= GROUPS
    rounds = Rounds(start, config, signing_key.load_signer(FleetStore.of(config)), RoundKind.STREAM, "c1")
    request = RoundRequest("r", plan.num_rows, 0, {}, view.clock, view.now, None, predicted_seconds, view.pins)
    rounds.plan(plan, request, 0)
    return rounds


def test_the_small_parts_of_a_large_round_are_not_fitted_here(config, monkeypatch) -> None:
    monkeypatch.setattr(local_fitting, "MAX_GROUPS", GROUPS - 1)
    rounds = planned(config, no_spark)
    assert not rounds.is_fitted_locally(0)
    with pytest.raises(AssertionError, match="Spark was started"):
        rounds.carry_out(0, ONE_BY_ONE)


def test_a_small_round_is_fitted_here_in_all_of_its_parts(config) -> None:
    rounds = planned(config, no_spark)
    assert rounds.is_fitted_locally(0)
    done: list[int] = []
    finished = rounds.carry_out(0, ONE_BY_ONE, lambda progress: done.append(progress.done))
    assert len(done) > 1
    times = delta.read_table(FleetStore.of(config), tables.MODELS, ["fit_ms"]).column("fit_ms").drop_null().to_pylist()
    assert finished.longest_ms == max(times) > 0
    assert finished.fit_ms == pytest.approx(sum(times)), "of all parts"
    assert rounds.carry_out(0) == FinishedRound(finished.request), "recorded already: nothing is read again"


def test_the_predictions_for_held_out_rows_are_in_the_promotion_and_come_with_the_champion_to_its_next_fit(
    config,
) -> None:
    planned(config, no_spark).carry_out(0)
    store, samples = FleetStore.of(config), ["model_id", "group_key", "heldout_losses", "heldout_predictions"]
    models = delta.read_table(store, tables.MODELS, samples).sort_by("group_key")
    assert delta.read_table(store, tables.PROMOTIONS, samples).sort_by("group_key") == models
    lengths = [pc.list_value_length(models.column(name)).to_pylist() for name in samples[2:]]
    assert lengths[0] == lengths[1]
    assert min(lengths[0]) >= 1
    ids = {"champion_id": models.column("model_id"), "predecessor_id": pa.nulls(models.num_rows, pa.string())}
    requests = pa.table({"group_key": models.column("group_key"), **ids})
    files = [path for each in take_snapshots(store, tables.MODELS) for path in each.files_for(ShardRange(0, 1_000))]
    stored = StoredChampions(files, requests).of(0, models.num_rows)
    for name in samples[2:]:
        assert stored.column(f"champion_{name}").to_pylist() == models.column(name).to_pylist()


@pytest.mark.parametrize("ahead", [True, False])
def test_nothing_is_fitted_here_once_spark_was_started(config, ahead: bool) -> None:
    start = LazySession(config, MagicMock)
    rounds = planned(config, start)
    assert rounds.is_fitted_locally(0)
    if ahead:
        start.start_in_background()
    else:
        start()
    assert not rounds.is_fitted_locally(0)


@pytest.mark.parametrize(("more_seconds", "is_here"), [(0, True), (1, False)])
def test_few_groups_that_take_long_are_fitted_by_spark(config, more_seconds: int, is_here: bool) -> None:
    assert planned(config, no_spark, local_fitting.MAX_PREDICTED_S + more_seconds).is_fitted_locally(0) is is_here


def test_a_parent_of_many_events_is_left_to_spark_though_the_groups_are_few() -> None:
    assert local_fitting.is_faster_than_spark(['["a"]'], 2_000_001, 1.0)
    assert local_fitting.is_faster_than_spark(['["a"]', "{}"], 2_000_000, 1.0)
    assert not local_fitting.is_faster_than_spark(['["a"]', "{}"], 2_000_001, 1.0)
