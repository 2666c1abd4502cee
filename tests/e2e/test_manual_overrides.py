"""Champions moved by hand, by processes of their own, while the stream runs: the next answer is the other model's."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import ledger
import pytest
import shop
from shop import Shops
from spinney_process import SECONDS, spinney

from batch.load import load
from batch.weekly import retrain
from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.storage.reported_offsets import read_lag
from spinney.storage.retrain_requests import read_requests
from streaming.app import Application

WHO = ("north", 1)
KEY, OTHER = '["north","1"]', '["south","4"]'
RISE = 100.0
"""By how much everyone's sales rise between the two models."""

X = 5.0


class Story:
    """Two models a group; the older is promoted, pinned against a batch and a policy, unpinned, and all goes back."""

    def __init__(self, spark: Any, shops: Shops) -> None:
        self.spark, self.shops, self.asked = spark, shops, 0
        shops.init()
        self.old, self.new = self.fit(0.0), self.fit(RISE)
        self.app = Application(spark, shops.config)
        try:
            self.app.start()
            self.before = self.ask()
            self.by_hand("promote", *self.key, "--model", self.old)
            self.promoted = self.ask()
            self.by_hand("pin", *self.key)
            self.labels_make_it_stale()
            self.eventually(lambda: bool(self.held("verdicts")))
            self.batch = json.loads(self.done("retrain", "--group", KEY, "--json").stdout)
            self.pinned = self.ask()
            self.by_hand("unpin", *self.key)
            self.unpinned = self.ask()
            self.by_hand("rollback", "--all", "--as-of", "batch-1")
            self.rolled_back = self.ask()
            self.rounds_by_policies = self.shops.table(tables.ROUNDS)
            words = ("--group", OTHER, "--request", "--reason", "to see it", "--by", "ada")
            self.requested = self.done("retrain", *words)
            store = FleetStore.of(shops.config)
            self.eventually(lambda: not read_requests(store))  # though no shard has anything to report
            self.lag = read_lag(store, "score")
        finally:
            self.app.stop()
        self.app.check()
        Application(spark, shops.config).drain()
        self.found = ledger.differences(shops)
        self.why = self.done("why", *self.key).stdout

    key = (WHO[0], str(WHO[1]))

    def fit(self, rise: float) -> str:
        """Rows with labels so much higher, and a batch. Returns the model of KEY."""
        since = 300.0 * bool(rise)
        rows = [
            shop.sale(f"h{rise}-{region}-{number}-{i}", region, number, float(i % 11 - 5), since + 8.0 * i)
            for region, number in (WHO, ("south", 4))
            for i in range(30)
        ]
        for row in rows:
            row["sales"] += rise
        rows.append(shop.sale(f"tick{rise}", *WHO, 0.0, since + 310.0) | {"sales": rise})
        load(self.shops.config, str(self.shops.history(rows, f"history{rise}")))
        retrain(self.shops.config, spark=self.spark)
        models = self.shops.table(tables.MODELS)
        return str(models[models["group_key"] == KEY].sort_values("fitted_at")["model_id"].iloc[-1])

    def by_hand(self, verb: str, *words: str) -> None:
        self.done(verb, *words, "--reason", f"to see {verb}", "--by", "ada", "--yes")

    def done(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        done = spinney(self.shops, verb, *words)
        assert done.returncode == 0, done.stderr
        return done

    def ask(self) -> Any:
        """Send one event of KEY. Returns its answer: the first that is given after whatever was done before."""
        self.asked += 1
        name = f"ask-{self.asked}"
        self.shops.events([shop.sale(name, *WHO, X, 800.0 + self.asked)])
        self.eventually(lambda: bool((self.shops.table(tables.PREDICTIONS)["event_id"] == name).any()))
        rows = self.shops.table(tables.PREDICTIONS)
        (row,) = rows[rows["event_id"] == name].itertuples(index=False)
        return row

    def labels_make_it_stale(self) -> None:
        rows = [shop.sale(f"more-{i}", *WHO, float(i), 700.0 + i) for i in range(12)]
        for row in rows:
            row["sales"] += RISE
        self.shops.outcomes(rows)
        self.shops.events(rows)
        self.shops.events([shop.sale("tick", "south", 4, 0.0, 790.0)])

    def held(self, table: str) -> list[Any]:
        rows = self.shops.table(tables.VERDICTS if table == "verdicts" else tables.PROMOTIONS)
        return list(rows[(rows["group_key"] == KEY) & (rows["decision"] == "held")].itertuples(index=False))

    def eventually(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not what():
            self.app.check()
            assert time.monotonic() < deadline
            time.sleep(0.3)


@pytest.fixture(scope="module")
def story(spark: Any, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(spark, Shops(tmp_path_factory.mktemp("by-hand"), broker))


def test_the_first_answer_after_a_promotion_by_hand_is_the_older_models(story: Story) -> None:
    assert (story.before.model_id, story.promoted.model_id) == (story.new, story.old)
    assert story.promoted.prediction == pytest.approx(shop.slope(*WHO) * X + WHO[1], abs=0.5)
    assert story.before.prediction > story.promoted.prediction + 10
    assert story.promoted.answered_by == "own"


def test_a_pinned_group_that_grows_stale_is_held_by_the_stream_and_fits_nothing(story: Story) -> None:
    verdict = story.held("verdicts")[0]
    assert verdict.policy == "new_rows"
    assert verdict.reason.endswith("; pinned by a person")
    rounds = story.rounds_by_policies
    assert list(rounds.loc[rounds["kind"] == "stream", "fitted"]) == []


def test_a_challenger_that_a_batch_would_have_promoted_is_held_and_the_pinned_model_answers_on(story: Story) -> None:
    assert (story.batch["fitted"], story.batch["held"]) == (1, 1)
    (held,) = story.held("promotions")
    assert held.reason.startswith("pinned by a person; without the pin: promoted")
    assert held.trained_through > story.shops.table(tables.MODELS)["trained_through"].min()
    assert (story.pinned.model_id, story.unpinned.model_id) == (story.old, story.old)


def test_the_fleet_goes_back_to_how_it_was_after_a_round(story: Story) -> None:
    assert story.rolled_back.model_id == story.new


def test_machines_and_people_leave_the_books_in_balance(story: Story) -> None:
    assert story.found == []


def test_why_reports_each_step_with_name_and_reason(story: Story) -> None:
    for verb in ("promote", "pin", "unpin", "rollback"):
        assert f"to see {verb}" in story.why
    assert "ada" in story.why


def test_a_group_that_a_person_asks_for_is_retrained_once_by_the_running_stream(story: Story) -> None:
    assert story.requested.stderr == f"{OTHER}: requested; the stream retrains it in its next round\n"
    rounds = story.shops.table(tables.ROUNDS)
    (row,) = rounds[rounds["kind"] == "stream"].itertuples(index=False)
    assert (row.groups_in, json.loads(row.reasons)) == (1, {"manual": 1})
    verdicts = story.shops.table(tables.VERDICTS)
    (verdict,) = verdicts[verdicts["policy"] == "manual"].itertuples(index=False)
    assert (verdict.group_key, verdict.reason) == (OTHER, "asked for by ada: to see it")


def test_a_running_stream_reports_how_far_its_topic_reaches(story: Story) -> None:
    (lag,) = story.lag
    assert lag.topic == story.shops.config.kafka.events
    assert lag.seen_at is not None
    assert lag.records == 0, "every event was answered before"
