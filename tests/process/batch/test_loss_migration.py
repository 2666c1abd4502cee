"""A living fleet gets another loss: loaded, fitted, migrated, and it goes on. Without Spark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import loaded_stores
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from loaded_stores import START, fit

from schemas import tables
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.errors import StoreError
from spinney.core.recipes.recipe import Recipe
from spinney.fleet import Fleet
from spinney.operations.interventions import Attribution, OverrideRequest, OverrideVerb, carry_out_override
from spinney.operations.migration import carry_out_migration, plan_migration
from spinney.page_data.group_figures import read_group_figures
from spinney.serving.manifest import Manifest, write_manifest
from spinney.storage import charter, signing_key
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tracking import plots, rounds

TEXT = """\
[fleet]
name = "stores"
group = ["store"]
event_id = "id"
event_time = "at"
target = "sold"
loss = "{loss}"
features = ["x"]
[fleet.columns]
store = "string"
sold = "double"
x = "int"
{columns}
[recipe]
min_rows = 5
[intervals]
coverage = 0.5
[kafka]
events = "t.events"
[storage]
root = "{root}"
[tracking]
mode = "off"
"""
Edit = Callable[..., Config]


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """The fleet's configuration with a loss, and other columns."""
    monkeypatch.setenv(signing_key.KEY, SECRET)
    return lambda loss="absolute", columns="": configured(tmp_path, loss, columns)


SECRET = "k" * 32


def configured(place: Path, loss: str = "absolute", columns: str = "") -> Config:
    return parse(TEXT.format(root=place / "root", loss=loss, columns=columns), "fleet.toml", {})


def sell(config: Config, place: Path, first: int) -> None:
    """Load 40 events of each of three stores, with the predictions of the system before."""
    loaded_stores.sell(config, place, first, more_each_store=1, x=lambda n: n % 7, prediction=lambda _: 3.0)


def answers(of: Fleet | Manifest) -> pd.DataFrame:
    frame = pd.DataFrame({"store": ["s0", "s1"], "at": [START] * 2, "x": [1, 2]})
    return of.predict(frame)[["prediction", "lower", "upper", "answered_by"]]


def put_health(config: Config, *rows: dict[str, Any]) -> None:
    """Append rows of `health` as a batch of scores writes them."""
    place = FleetStore.of(config).directory(tables.HEALTH, "score")
    schema = arrow_schema(place.contract)
    shard = keys.shard_of('["s1"]', config.fleet.shards)
    same = {"shard": shard, "group_key": '["s1"]', "model_id": "m", "rows": 1, "labelled": 1, "batch_id": 0}
    same["observed_on"] = START.date()
    whole = [{name: (same | row).get(name) for name in schema.names} for row in rows]
    write_deltalake(place.uri, pa.Table.from_pylist(whole, schema=schema), mode="append")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the root of three stores with 40 events each, all with a model."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(signing_key.KEY, SECRET)
        sell(configured(place), place, 0)
        fit(configured(place))
    return place


@pytest.fixture
def living(made: Path, edited: Edit, tmp_path: Path) -> Config:
    """The same fleet at a root of its own."""
    shutil.copytree(made / "root", tmp_path / "root")
    return edited()


def test_after_the_change_models_and_intervals_answer_as_before_and_new_models_are_measured_by_the_new_loss(
    living: Config, edited: Edit, tmp_path: Path
) -> None:
    before = answers(Fleet(living))
    assert before["lower"].notna().all()
    config = edited("squared")
    with pytest.raises(StoreError, match=r"stored losses are by the old one.*spinney migrate"):
        fit(config)
    done = carry_out_migration(FleetStore.of(config), {})
    assert done.loss is not None
    assert (done.loss.was, done.loss.becomes) == ("absolute", "squared")
    pd.testing.assert_frame_equal(answers(Fleet(config)), before)
    sell(config, tmp_path, 40)
    fit(config)
    decided = delta.read_table(
        FleetStore.of(config), tables.PROMOTIONS, ["decided_at", "loss_name", "champion_loss", "challenger_loss"]
    ).sort_by("decided_at")
    assert decided.column("loss_name").to_pylist() == ["absolute"] * 3 + ["squared"] * 3
    assert decided.column("champion_loss").null_count == 3  # of the first models; later ones were compared by one loss
    recorded = delta.read_table(FleetStore.of(config), tables.ROUNDS, ["started_at", "loss_name"]).sort_by("started_at")
    assert recorded.column("loss_name").to_pylist() == [None, "squared"]
    assert answers(Fleet(config))["answered_by"].tolist() == ["own", "own"]


def test_what_is_registered_after_the_change_has_the_intervals_of_the_fleet(
    living: Config, edited: Edit, tmp_path: Path
) -> None:
    config = edited("squared")
    carry_out_migration(FleetStore.of(config), {})
    (tmp_path / "manifest").mkdir()
    write_manifest(config, Fleet(config).champions(), tmp_path / "manifest")
    found, expected = answers(Manifest(tmp_path / "manifest")), answers(Fleet(config))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)  # l² and √l in float32


def test_an_edit_that_is_not_migrated_yet_and_an_older_configuration_change_no_interval_and_no_name(
    living: Config, edited: Edit
) -> None:
    before, squared = answers(Fleet(living)), edited("squared")
    pd.testing.assert_frame_equal(answers(Fleet(squared)), before)
    assert {status.loss_name for status in Fleet(squared).groups()} == {"absolute"}
    carry_out_migration(FleetStore.of(squared), {})
    assert charter.losses_of(FleetStore.of(living)) == charter.losses_of(FleetStore.of(squared))
    pd.testing.assert_frame_equal(answers(Fleet(living)), before)


def test_the_status_and_the_history_of_a_group_name_each_loss(living: Config, edited: Edit, tmp_path: Path) -> None:
    assert "absolute loss" not in str(Fleet(living).why('["s1"]'))
    assert {status.loss_name for status in Fleet(living).groups()} == {"absolute"}
    config = edited("squared")
    carry_out_migration(FleetStore.of(config), {})
    assert {status.loss_name for status in Fleet(config).groups()} == {"absolute"}
    sell(config, tmp_path, 40)
    fit(config)
    history = Fleet(config).why('["s1"]')
    told = [entry["what"] for entry in history.happened]
    assert told.index("loss changed") == len(told) // 2
    decisions = [entry for entry in history.happened if "challenger_loss" in entry]
    assert [(entry["loss_name"], entry["said"].rpartition(" [")[2]) for entry in decisions] == [
        ("absolute", "absolute loss]"), ("squared", "squared loss]"),
    ]  # fmt: skip
    assert f"held-out {history.standing.loss_name} loss" in str(history)
    assert "the recent loss and the reference loss restart with it" in str(history)
    assert history.standing == next(status for status in Fleet(config).groups() if status.group_key == '["s1"]')


def test_no_mean_has_losses_of_both(living: Config, edited: Edit, tmp_path: Path) -> None:
    put_health(living, {"loss": 100.0, "last_event_time": START, "loss_name": "absolute"})
    before = Fleet(living).summary().against
    assert [(errors.other, errors.basis, errors.groups) for errors in before] == [
        ("constant", "held_out", 3), ("incumbent", "held_out", 3),
    ]  # fmt: skip
    config = edited("squared")
    carry_out_migration(FleetStore.of(config), {})
    summary = Fleet(config).summary()
    assert (summary.against, summary.unmeasured, summary.measure) == ((), 3, "squared")
    assert summary.begun_anew is not None
    assert summary.begun_anew.startswith("since the loss changed at ")
    put_health(config, {"loss": 4.0, "last_event_time": START + timedelta(hours=9), "loss_name": "squared"})
    figures = read_group_figures(FleetStore.of(config), '["s1"]')
    assert [(point.labelled, point.mean) for point in figures.errors] == [(1, 4.0)]
    assert figures.error_label == f"mean squared error, {summary.begun_anew}"
    bands = Fleet(config).figures().error.quantiles
    assert {value for band in bands if band is not None for value in band} == {4.0}
    # Rows that an earlier version wrote have no name: they are by the loss that the fleet was made with.
    put_health(config, {"loss": 9.0, "last_event_time": START + timedelta(hours=9)})
    assert len(read_group_figures(FleetStore.of(config), '["s1"]').errors) == 1
    sell(config, tmp_path, 40)
    fit(config)
    assert Fleet(config).summary().against[0].groups == 3


def test_a_new_model_has_losses_of_its_own_loss_only_and_an_earlier_one_comes_back_with_its_own(
    living: Config, edited: Edit, tmp_path: Path
) -> None:
    before = answers(Fleet(living))
    config = edited("squared")
    store = FleetStore.of(config)
    carry_out_migration(store, {})
    sell(config, tmp_path, 40)
    fit(config)
    columns = ["loss_name", "heldout_losses", "metrics"]
    of_squared = [
        row for row in delta.read_table(store, tables.MODELS, columns).to_pylist() if row["loss_name"] == "squared"
    ]
    assert len(of_squared) == 3
    for row in of_squared:
        mean = json.loads(row["metrics"])["challenger_loss"]
        assert sum(row["heldout_losses"]) / len(row["heldout_losses"]) == pytest.approx(mean)
    request = OverrideRequest(OverrideVerb.ROLLBACK, ('["s0"]', '["s1"]', '["s2"]'))
    carry_out_override(store, signing_key.load_signer(store), request, Attribution("ann", "it was better"))
    decided = delta.read_table(store, tables.PROMOTIONS, ["by", "loss_name", "decision"]).to_pylist()
    assert {row["loss_name"] for row in decided if row["by"] == "ann" and row["decision"] == "promoted"} == {"absolute"}
    pd.testing.assert_frame_equal(answers(Fleet(config)), before)


def test_a_round_that_mlflow_gets_after_the_change_is_drawn_with_its_own_loss(
    living: Config, edited: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = edited("squared")
    store = FleetStore.of(config)
    carry_out_migration(store, {})
    drawn: list[str] = []
    monkeypatch.setattr(plots, "draw", lambda *_, loss, **__: drawn.append(loss) or {})
    (row,) = delta.read_table(store, tables.ROUNDS).to_pylist()
    rounds.write_files(store, Recipe.of(config), row, tmp_path)
    assert drawn == ["absolute"]


def test_changed_back_the_first_losses_count_again(living: Config, edited: Edit) -> None:
    put_health(living, {"loss": 2.0, "last_event_time": START})
    before, measured = answers(Fleet(living)), Fleet(living).summary().against
    for loss in ("squared", "absolute"):
        config = edited(loss)
        carry_out_migration(FleetStore.of(config), {})
    pd.testing.assert_frame_equal(answers(Fleet(config)), before)
    assert Fleet(config).summary().against == measured
    assert [point.mean for point in read_group_figures(FleetStore.of(config), '["s1"]').errors] == [2.0]


def test_a_dry_run_says_which_losses_convert_and_which_means_restart(living: Config, edited: Edit) -> None:
    put_health(living, {"loss": 2.0, "last_event_time": START})
    config = edited("squared")
    plan = plan_migration(FleetStore.of(config), {})
    assert plan.loss is not None
    assert [(state.groups, state.what.partition(":")[0]) for state in plan.loss.states] == [
        (3, "convert"),
        (3, "convert; the intervals stay as they are"),
        (None, "convert where the loss of each row is stored; others count as labels only"),
        (3, "restart with each group's next model"),
        (3, "restart"),
        (1, "restart"),
    ]
    assert plan.notes[0].startswith("the loss changes from absolute to squared: new labels")
    assert (plan.changes, plan.obstacles) == ((), ())
    charter.check_unchanged(FleetStore.of(living))


class Killed(BaseException):
    """Ends a call as a signal would: nothing that it might do afterwards is done."""


def killed(config: Config, crash_at: str) -> None:
    """Carry out a migration in this process, and end it right after a step."""

    def kill(step: str, _: int) -> None:
        if step == crash_at:
            raise Killed

    with pytest.raises(Killed), observed_by(kill):
        carry_out_migration(FleetStore.of(config), {})


def test_killed_anywhere_the_same_call_again_ends_a_change_of_loss_and_columns(living: Config, edited: Edit) -> None:
    before = answers(Fleet(living))
    config = edited("squared", 'rate = "double"')
    for crash_at in ("migrate.begun", "migrate.table"):
        killed(config, crash_at)
        for each in (living, config):
            with pytest.raises(StoreError, match=r"a migration was started .* `spinney migrate --yes`"):
                charter.ensure_charter(FleetStore.of(each))
    again = carry_out_migration(FleetStore.of(config), {})
    assert any("was completed" in note for note in again.notes)
    pd.testing.assert_frame_equal(answers(Fleet(config)), before)
    losses = charter.losses_of(FleetStore.of(config))
    assert [(change.before, change.after) for change in losses.changes] == [("absolute", "squared")]


def test_with_the_old_loss_a_change_that_has_not_ended_is_undone(living: Config, edited: Edit) -> None:
    killed(edited("squared"), "migrate.begun")
    assert carry_out_migration(FleetStore.of(edited()), {}).loss is None
    charter.check_unchanged(FleetStore.of(living))
    assert not charter.losses_of(FleetStore.of(living)).is_changed
