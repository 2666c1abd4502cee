"""A stream is stopped, the command changes the loss, and the stream goes on with labels that were pending.

A second root, copied before the change, goes on without it. What is derived from labels, held-out rows and intervals is
computed again from the rows by pandas and scikit-learn.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shop
from click.testing import CliRunner
from loaded_stores import fit
from shop import Shops
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from batch.load import load
from schemas import tables
from spinney.cli import main
from spinney.core.errors import StoreError
from spinney.core.intervals.conformal import calibrate
from spinney.fleet import Fleet
from spinney.gateway.answers.champion_refresh import ChampionRefresh
from spinney.gateway.answers.fleet_answers import FleetAnswers, Records
from spinney.gateway.protocols.json_body import read_json
from spinney.serving.model_cache import ModelCache
from spinney.storage.layout import FleetStore
from spinney.storage.signing_key import load_signer
from streaming.app import Application

OWN = [("north", 1), ("north", 2), ("north", 3), ("south", 4), ("south", 5)]
RISING, BUSY = ("north", 2), ("south", 5)
"""Groups of which a label comes for every event. The errors of the first one rise."""

HISTORY_ROWS = 60
ERRORS = (0.5, -1.25, 2.0, -0.75, 1.5, -2.5, 0.25)
"""What a sale lies above its shop's line, in turn."""


def key(who: tuple[str, int]) -> str:
    return json.dumps([who[0], str(who[1])], separators=(",", ":"))


def sale(name: str, who: tuple[str, int], n: int, minutes: float, error: float = 0.0) -> dict[str, Any]:
    """The nth sale of a shop. error: added to the one of its turn."""
    row = shop.sale(f"{name}-{who[0]}-{who[1]}-{n}", *who, float(n % 11 - 5), minutes)
    row["sales"] += ERRORS[(n + who[1]) % len(ERRORS)] + error
    return row


def configure(shops: Shops, loss: str) -> None:
    text = shops.file.read_text(encoding="utf-8")
    for before, after in (
        ('loss = "absolute"', f'loss = "{loss}"'),
        ('patience = "36500d"', 'patience = "36d"'),
    ):
        text = text.replace(before, after)
    shops.file.write_text(text, encoding="utf-8")


def held_out_errors(rows: pd.DataFrame, held_out: int) -> np.ndarray:
    """Errors on the newest rows of a model that is fitted to the others. rows: oldest first."""
    model = make_pipeline(StandardScaler(), Ridge(alpha=0.001))
    older, newest = rows.iloc[:-held_out], rows.iloc[-held_out:]
    model.fit(older[["x"]].to_numpy(), older["sales"])
    return np.asarray(newest["sales"] - model.predict(newest[["x"]].to_numpy()))


class Story:
    """`changed` gets the squared loss; `kept` is a copy that keeps the absolute one, and reads the same topics."""

    def __init__(self, spark: Any, shops: Shops) -> None:
        self.spark, self.changed = spark, shops
        configure(shops, "absolute")
        shops.init(partitions=1)
        self.history = [sale("h", who, n, 4.0 * n) for who in OWN for n in range(HISTORY_ROWS)]
        load(shops.config, str(shops.history([*self.history, shop.sale("tick", *OWN[0], 0.0, 400.0)])))
        fit(shops.config)
        self.before_the_change()
        self.kept = shops.copy("kept")
        configure(self.kept, "absolute")
        self.change_the_loss()
        self.labels_come()
        self.they_ask_again()

    def drain(self, shops: Shops, *only: str) -> None:
        Application(self.spark, shops.config, only).drain()

    def before_the_change(self) -> None:
        """Labels that are mature, labels that wait for the clock, and events that wait for their labels."""
        self.mature = self.sales("mature", 0, 1)
        self.immature = self.sales("immature", 2, 3)
        self.unlabelled = self.sales("unlabelled", 4, 5)
        self.changed.outcomes([*self.mature, *self.immature])
        asked = [sale("before", who, 3, 485.0) for who in OWN]
        self.changed.events([*self.mature, *self.immature, *self.unlabelled, *asked])
        self.drain(self.changed)

    def sales(self, name: str, *numbers: int) -> list[dict[str, Any]]:
        """Sales of both groups, a quarter of an hour apart: each label in a step of its own of `health`."""
        return [
            sale(name, who, n, 401.0 + 15.0 * n, 10.0 * 3.0**n if who == RISING else 0.0)
            for who in (RISING, BUSY)
            for n in numbers
        ]

    def change_the_loss(self) -> None:
        configure(self.changed, "squared")
        with pytest.raises(StoreError, match="stored losses are by the old one"):
            self.drain(self.changed)
        command = ["migrate", "--config", str(self.changed.file), "--yes", "--json"]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        self.migration = json.loads(done.stdout)

    def labels_come(self) -> None:
        """Those of events from before and from after the change; then all of them are mature."""
        self.after = self.sales("after", 6, 7)
        asked = [sale("between", who, 3, 600.0) for who in OWN]
        self.changed.outcomes([*self.unlabelled, *self.after])
        self.changed.events([*self.after, *asked])
        self.drain(self.changed)
        self.drain(self.kept)

    def they_ask_again(self) -> None:
        self.asked = [sale("again", who, 3, 601.0) for who in OWN]
        self.changed.events(self.asked)
        self.drain(self.changed, "score")

    def answers(self, name: str) -> pd.DataFrame:
        """The stream's answers to the events of that name, by group."""
        rows = self.changed.table(tables.PREDICTIONS)
        found = rows[rows["event_id"].str.startswith(f"{name}-")].set_index("group_key")
        return found[["model_id", "prediction", "lower", "upper", "answered_by"]].loc[[key(who) for who in OWN]]

    def champion_errors(self, who: tuple[str, int]) -> np.ndarray:
        """Errors on the held-out rows of the group's last champion: the newest fifth of its rows."""
        labelled = [*self.history, *self.mature, *self.immature, *self.unlabelled, *self.after]
        rows = pd.DataFrame([row for row in labelled if shop.group_key(row) == key(who)]).sort_values("at")
        return held_out_errors(rows, len(rows) // 5)


@pytest.fixture(scope="module")
def story(spark: Any, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(spark, Shops(tmp_path_factory.mktemp("losses"), broker))


def test_the_command_says_what_it_has_done(story: Story) -> None:
    assert (story.migration["done"], story.migration["loss"]["was"], story.migration["loss"]["becomes"]) == (
        True, "absolute", "squared",
    )  # fmt: skip


def test_each_label_is_counted_once_by_the_loss_of_its_time(story: Story) -> None:
    predicted = story.changed.table(tables.PREDICTIONS).set_index("event_id")["prediction"]
    counted = story.changed.table(tables.HEALTH).query("labelled > 0")
    for name, labels, power in (
        ("absolute", [*story.mature, *story.immature], 1),
        ("squared", [*story.unlabelled, *story.after], 2),
    ):
        frame = pd.DataFrame(labels).set_index("event_id")
        losses = (frame["sales"] - predicted[frame.index]).abs() ** power
        expected = losses.groupby(frame.apply(shop.group_key, axis=1)).agg(["count", "sum"])
        found = counted[counted["loss_name"] == name].groupby("group_key")[["labelled", "loss"]].sum()
        assert found["labelled"].to_dict() == expected["count"].to_dict() == {key(RISING): 4, key(BUSY): 4}
        assert found["loss"].to_dict() == pytest.approx(expected["sum"].to_dict())


def plan_of(shops: Shops) -> dict[str, dict[str, Any]]:
    """Group → its verdict in the round of the stream, with its numbers."""
    rows = shops.table(tables.VERDICTS)
    planned = rows[(rows["decision"] == "fit") & rows["round_id"].str.startswith("stream")]
    return {
        row.group_key: {"policy": row.policy, "model_id": row.model_id, **json.loads(row.numbers)}
        for row in planned.itertuples(index=False)
    }


def test_the_verdicts_are_those_of_a_fleet_that_kept_its_loss(story: Story) -> None:
    changed, kept = plan_of(story.changed), plan_of(story.kept)
    assert {group: row["policy"] for group, row in changed.items()} == {
        key(RISING): "error_rise",
        key(BUSY): "new_rows",
    }
    names = ("policy", "model_id", "rows_since", "champion_rows", "wait_rows", "refusals", "failures", "limit")
    for group, row in changed.items():
        assert [row[name] for name in names] == [kept[group][name] for name in names]
        assert row["evidence"] == pytest.approx(kept[group]["evidence"], rel=1e-3)
    assert changed[key(BUSY)]["rows_since"] == 8  # of before and of after the change


def test_the_recent_loss_has_the_labels_that_matured_after_the_change_and_there_is_no_reference_yet(
    story: Story,
) -> None:
    predicted = story.changed.table(tables.PREDICTIONS).set_index("event_id")["prediction"]
    labels = pd.DataFrame([*story.immature, *story.unlabelled, *story.after]).sort_values("at").set_index("event_id")
    losses = (labels["sales"] - predicted[labels.index]) ** 2
    for who in (RISING, BUSY):
        mine = losses[labels.apply(shop.group_key, axis=1) == key(who)].to_numpy()
        weights = (1 - 1 / 30) ** np.arange(len(mine))[::-1]
        numbers = plan_of(story.changed)[key(who)]
        assert numbers["recent_loss"] == pytest.approx(np.average(mine, weights=weights), rel=1e-5)
        assert "reference_loss" not in numbers


def test_challenger_and_champion_are_compared_by_the_new_loss_and_the_round_has_their_mean(story: Story) -> None:
    decided = story.changed.table(tables.PROMOTIONS).query("by == 'stream'").set_index("group_key")
    assert set(decided.index) == {key(RISING), key(BUSY)}
    assert set(decided["loss_name"]) == {"squared"}
    means = {}
    for who in (RISING, BUSY):
        row, errors = decided.loc[key(who)], story.champion_errors(who)
        means[key(who)] = float(np.mean(errors**2))
        np.testing.assert_allclose(row["heldout_losses"], errors**2, rtol=1e-5)
        # Both recipes fit the same model to the older rows: they differ in their loss only.
        assert (row["challenger_loss"], row["champion_loss"]) == pytest.approx((means[key(who)],) * 2)
    (stored,) = story.changed.table(tables.ROUNDS).query("kind == 'stream'").itertuples(index=False)
    assert stored.loss_name == "squared"
    expected = np.mean(list(means.values()))
    assert (stored.mean_champion_loss, stored.mean_challenger_loss) == pytest.approx((expected, expected))


def test_until_its_next_model_a_group_is_answered_with_the_interval_of_before(story: Story) -> None:
    before, between = story.answers("before"), story.answers("between")
    pd.testing.assert_frame_equal(before, between)
    assert between["lower"].notna().all()


def test_intervals_are_calibrated_on_residuals_of_models_by_both_losses(story: Story) -> None:
    answers, config = story.answers("again"), story.changed.config
    shards = story.changed.table(tables.PREDICTIONS).groupby("group_key")["shard"].first()
    for shard in sorted(set(shards)):
        groups = [who for who in OWN if shards[key(who)] == shard]
        errors = [np.abs(story.champion_errors(who)) for who in sorted(groups)]
        residuals = pd.DataFrame(errors).to_numpy()
        expected = calibrate(residuals, config.intervals.coverage).half_widths(residuals)
        mine = answers.loc[[key(who) for who in sorted(groups)]]
        np.testing.assert_allclose((mine["upper"] - mine["lower"]) / 2, expected, rtol=1e-5)


def test_fleet_and_gateway_answer_as_the_stream_does(story: Story) -> None:
    config, streamed = story.changed.config, story.answers("again")
    frame = pd.DataFrame(story.asked)
    by_fleet = Fleet(config).predict(frame).set_index(streamed.index)
    feed = ChampionRefresh(FleetStore.of(config))
    gateway = FleetAnswers(config, load_signer(FleetStore.of(config)), lambda: feed.current, ModelCache())
    body = read_json(b"[" + b",".join(map(shop.text, story.asked)) + b"]")
    answered = gateway.answer(Records(body.value, lambda: body.exact, check_names=body.require_unique_names))
    by_gateway = pd.DataFrame(answered.entries(), index=streamed.index)
    for found in (by_fleet, by_gateway):
        pd.testing.assert_frame_equal(found[streamed.columns], streamed, check_dtype=False)


def test_fleet_and_why_name_the_loss_of_each_number(story: Story) -> None:
    fleet = Fleet(story.changed.config)
    statuses = {status.group_key: status for status in fleet.groups()}
    for who in OWN:
        is_new, errors = who in (RISING, BUSY), np.abs(story.champion_errors(who))
        status = statuses[key(who)]
        assert status.loss_name == ("squared" if is_new else "absolute")
        assert status.loss == pytest.approx(float(np.mean(errors**2 if is_new else errors)), rel=1e-5)
    history = fleet.why(key(RISING))
    told = [(entry["what"], entry.get("loss_name")) for entry in history.happened]
    assert told == [
        ("judged fit", None),
        ("fitted", "absolute"),
        ("promoted", "absolute"),
        ("loss changed", None),
        ("judged fit", "squared"),
        ("fitted", "squared"),
        ("promoted", "squared"),
    ]
    assert "held-out squared loss" in str(history)
    summary = fleet.summary()
    assert summary.measure == "squared"
    assert summary.begun_anew is not None
