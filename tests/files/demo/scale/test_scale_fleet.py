from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from demo.scale.event_producer import event_messages, message_slices
from demo.scale.synthetic_fleet import (
    FEATURES,
    LABEL_SHIFT,
    NOISE_STD,
    ROWS_PER_GROUP,
    LabelModel,
    fleet_toml,
    group_key,
    write_history,
)
from demo.scale.traffic_plan import EVENTS_PER_SECOND, TrafficPlan
from spinney.core.config import parse

UNTIL = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_configuration_is_one_and_its_numbers_are_those_of_the_code():
    config = parse(fleet_toml(50_000, "localhost:9", Path("work/demo-scale")), "fleet.toml", {})
    assert config.fleet.shards == 63
    assert config.fleet.features == FEATURES
    assert config.recipe.window_rows == ROWS_PER_GROUP
    assert config.staleness.error_rise.patience == timedelta(days=30)
    assert config.record_schema.has_label_in_event


def test_no_group_gets_so_many_events_that_it_is_refitted_for_their_number():
    config = parse(fleet_toml(200, "localhost:9", Path("work/demo-scale")), "fleet.toml", {})
    assert config.staleness.new_rows > EVENTS_PER_SECOND * 3_600 / 200 * 10


def test_every_group_has_its_rows_within_the_month_and_the_labels_follow_the_truth(tmp_path):
    label_model = LabelModel(50, 0)
    assert write_history(label_model, tmp_path / "history", UNTIL) == 50 * ROWS_PER_GROUP
    frame = pq.read_table(tmp_path / "history").to_pandas()
    assert frame["device"].value_counts().eq(ROWS_PER_GROUP).all()
    assert frame["id"].is_unique
    assert frame["at"].max() < UNTIL
    assert frame["at"].min() > UNTIL - timedelta(days=ROWS_PER_GROUP + 1)
    group = frame["device"].str[1:].astype(int).to_numpy()
    zeros = np.zeros(len(frame))
    reported = label_model.labels(group, frame[list(FEATURES)].to_numpy(), zeros, changed=False)
    assert abs((frame["y"] - reported).std() - NOISE_STD) < 0.05


def test_a_message_is_what_the_fleet_declares_and_the_change_is_in_the_label():
    label_model, group = LabelModel(50, 0), np.array([3, 7])

    def labels(changed):
        found = list(event_messages(label_model, group, ["e0", "e1"], np.random.default_rng(1), changed=changed))
        assert [key for key, _ in found] == [group_key(3), group_key(7)]
        return [json.loads(value)["y"] for _, value in found]

    plain, changed = labels(False), labels(np.array([False, True]))
    assert changed[0] == plain[0]
    assert round(changed[1] - plain[1], 6) == LABEL_SHIFT


def test_the_stream_numbers_its_events_and_changes_the_changing_groups_after_the_lead_in(monkeypatch):
    traffic, reported = TrafficPlan(200, 10, 0), []

    def record(label_model, group, ids, random, *, changed):
        reported.append((group, ids, changed))
        return iter([])

    monkeypatch.setattr("demo.scale.event_producer.event_messages", record)
    list(message_slices(traffic))
    assert [name for _, ids, _ in reported for name in ids] == [f"e{at}" for at in range(traffic.events)]
    group, changed = np.concatenate([each[0] for each in reported]), np.concatenate([each[2] for each in reported])
    assert np.array_equal(group, traffic.group)
    after = np.arange(traffic.events) >= traffic.events_before
    assert np.array_equal(changed, after & np.isin(group, traffic.changed))
