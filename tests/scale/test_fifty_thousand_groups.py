"""What is claimed for every group, for fifty thousand of them: two weekly rounds, then a round of the stream.

One group has 30 % of all rows and regions are parents. Counts have to add up, and every model is compared with sums by
Polars, some with scikit-learn.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from devices import (
    DEVICES,
    FEATURES,
    GIANT,
    GIANT_READINGS,
    READINGS,
    REGIONS,
    TEXT,
    Devices,
    ridge_by_polars,
    until,
)
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from batch.weekly import retrain
from schemas import tables
from spinney.core.config import parse
from spinney.core.keys import parent_key
from spinney.fleet import Fleet
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.progress import ProgressListener
from streaming.retrain import query

NEW = 5
"""Readings of each device between two rounds. `new_rows` waits for as many, and so does a refused group."""

WINDOW_ROWS = 500
MOST = 800
"""recipe.window_rows and budget.max_groups of the configuration."""

PARENTS = [parent_key(["region"], [f"r{at}"]) for at in range(REGIONS)]


@dataclass
class Story:
    """What happened to the fleet, step by step."""

    devices: Devices
    weekly: list[dict[str, Any]] = field(default_factory=list)
    expected: list[pl.DataFrame] = field(default_factory=list)
    answers: list[pd.DataFrame] = field(default_factory=list)

    def rows(self, base: Any, columns: list[str]) -> pd.DataFrame:
        return delta.read_table(FleetStore.of(self.devices.config), base, columns).to_pandas()


@pytest.fixture(scope="module")
def story(spark, tmp_path_factory) -> Story:
    root = tmp_path_factory.mktemp("fifty thousand") / "root"
    devices = Devices(parse(TEXT.format(root=root), "fleet.toml", {}))
    reported = Story(devices)
    fleet = Fleet(devices.config)
    frame = pd.DataFrame({"region": devices.regions, "device": devices.devices, **dict.fromkeys(FEATURES, 1.0)})
    frame["at"] = pd.Timestamp("2026-01-01", tz="UTC")
    devices.read(READINGS, since=0, more_of_giant=GIANT_READINGS)
    for since in (READINGS, READINGS + NEW):
        reported.weekly.append(retrain(devices.config, spark=spark) or {})
        # The newest reading is of hour since - 1 and sets the clock: what is younger than an hour is not mature.
        reported.expected.append(ridge_by_polars(until(devices.readings, since - 2), WINDOW_ROWS))
        reported.answers.append(fleet.predict(frame))
        devices.read(NEW, since=since)
    models = dict(zip(devices.keys, reported.answers[-1]["model_id"], strict=True))
    devices.answered(models, labelled=NEW, hour=READINGS + 2 * NEW + 1)
    reported.expected.append(ridge_by_polars(devices.readings, WINDOW_ROWS))
    progress = ProgressListener()
    retrain_query = query(spark, devices.config, devices.signer, once=True)
    running = retrain_query.start(devices.config, threading.Event(), progress, once=True)
    running.wait()
    progress.detach()
    assert running.error() is None
    reported.answers.append(fleet.predict(frame))
    return reported


@pytest.mark.parametrize("nth", [0, 1])
def test_a_weekly_round_fits_every_group_and_parent_and_its_counts_add_up(story: Story, nth: int) -> None:
    row, every = story.weekly[nth], DEVICES + REGIONS
    counts = {name: row[name] for name in ("groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred")}
    assert counts == {"groups_in": every, "fitted": every, "failed": 0, "too_few_rows": 0, "kept": 0, "deferred": 0}
    assert sum(row[name] for name in ("promoted", "unproven", "refused", "held")) == every
    models = story.rows(tables.MODELS, ["group_key", "round_id", "rows", "status"])
    mine = models[models["round_id"] == row["round_id"]].set_index("group_key")["rows"]
    assert mine.index.is_unique
    assert sorted(mine.index) == sorted([*story.devices.keys, *PARENTS])
    assert mine[GIANT] == WINDOW_ROWS
    assert mine[PARENTS].tolist() == [300] * REGIONS
    assert Counter(mine.drop([GIANT, *PARENTS])) == {READINGS - 1 + nth * NEW: DEVICES - 1}


def test_every_group_is_answered_by_its_own_model_and_as_polars_computes_it(story: Story) -> None:
    was_refused = [_is_refused(story, nth) for nth in (0, 1)]
    assert 0 < was_refused[0].sum() < DEVICES / 100  # a first model that is clearly worse than a constant, by chance
    assert 0 < was_refused[1].sum() < DEVICES / 2
    first, second = (expected["answer"].to_numpy() for expected in story.expected[:2])
    # A refused challenger leaves the champion of the first round, if there is one.
    expected = (first, np.where(was_refused[1], first, second))
    has_own = (~was_refused[0], ~(was_refused[0] & was_refused[1]))
    for answers, own, values in zip(story.answers[:2], has_own, expected, strict=True):
        assert (answers["answered_by"] == "own").to_numpy().tolist() == own.tolist()
        np.testing.assert_allclose(answers["prediction"][own], values[own], rtol=1e-6, atol=1e-6)


def test_polars_agrees_with_scikit_learn_where_both_are_asked(story: Story) -> None:
    for device in (0, 1, 777, DEVICES - 1):
        rows = story.devices.readings.filter(pl.col("device_number") == device).sort("at", "reading").tail(WINDOW_ROWS)
        model = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
        model.fit(rows.select(FEATURES).to_numpy(), rows["wear"].to_numpy())
        expected = model.predict(np.ones((1, len(FEATURES))))[0]
        assert story.expected[2]["answer"][device] == pytest.approx(expected, rel=1e-9)


def test_a_round_of_the_stream_with_every_group_due_is_bounded_and_accounts_for_all(story: Story) -> None:
    rounds = story.rows(tables.ROUNDS, ["round_id", "kind", "groups_in", "deferred", "fitted", "failed", "too_few_rows",
                                        "kept", "predicted_seconds"])  # fmt: skip
    (row,) = rounds[rounds["kind"] == "stream"].to_dict("records")
    # Who was refused twice waits for twice as many rows.
    due = DEVICES - int((_is_refused(story, 0) & _is_refused(story, 1)).sum())
    assert row["groups_in"] == due
    assert 1 <= row["fitted"] <= MOST
    assert row["fitted"] + row["deferred"] == due
    assert row["failed"] == row["too_few_rows"] == row["kept"] == 0
    verdicts = story.rows(tables.VERDICTS, ["group_key", "decision", "policy", "round_id", "numbers"])
    mine = verdicts[verdicts["round_id"] == row["round_id"]]
    to_fit = mine[mine["decision"] == "fit"]
    assert set(to_fit["policy"]) == {"new_rows"}
    assert len(to_fit) == row["fitted"]
    events = {READINGS + 2 * NEW, READINGS + 2 * NEW + GIANT_READINGS}
    assert {json.loads(text)["events"] for text in to_fit["numbers"]} <= events
    models = story.rows(tables.MODELS, ["group_key", "round_id", "rows"])
    fitted = models[models["round_id"] == row["round_id"]]
    assert sorted(fitted["group_key"]) == sorted(to_fit["group_key"])
    assert set(fitted["rows"]) <= {READINGS + 2 * NEW, WINDOW_ROWS}


def test_after_the_streams_round_the_promoted_groups_answer_with_their_newest_rows(story: Story) -> None:
    promotions = story.rows(tables.PROMOTIONS, ["group_key", "by", "decision"])
    streamed = promotions[promotions["by"] == "stream"]
    promoted = set(streamed[streamed["decision"].isin(["promoted", "unproven"])]["group_key"])
    assert promoted
    is_new = np.array([key in promoted for key in story.devices.keys])
    answers, before = story.answers[2], story.answers[1]
    expected = np.where(is_new, story.expected[2]["answer"].to_numpy(), before["prediction"])
    np.testing.assert_allclose(answers["prediction"], expected, rtol=1e-6, atol=1e-6)
    assert (answers["model_id"] != before["model_id"]).to_numpy().tolist() == is_new.tolist()


def _is_refused(story: Story, nth: int) -> np.ndarray:
    """Whether the model of each device was refused in a weekly round."""
    promotions = story.rows(tables.PROMOTIONS, ["group_key", "round_id", "decision"])
    of_round = promotions[promotions["round_id"] == story.weekly[nth]["round_id"]]
    # Not np.isin, which compares each text of one list with each of the other: 15 s.
    return pd.Index(story.devices.keys).isin(of_round.loc[of_round["decision"] == "refused", "group_key"])
