from __future__ import annotations

import pandas as pd
import pytest

from demo.example_data import build_example_data, read_example_data
from spinney.core.errors import ConfigError


def test_rows_are_named_by_their_group_and_sorted_by_time(data, scenario, config):
    rows = build_example_data(data.sample(frac=1, random_state=1), scenario, config).frame
    assert list(rows.columns) == ["group_key", "event_id", "event_time", "hall", "number", "load", "label", "label_at"]
    assert rows["event_time"].is_monotonic_increasing
    assert set(rows["group_key"]) == {'["A","1"]', '["A","2"]', '["B","1"]'}
    assert len(rows) == 2 * 8 * 24 + 8


def test_the_change_touches_the_drawn_group_from_its_day_on_and_nothing_else(data, scenario, config):
    rows = build_example_data(data, scenario, config)
    (chosen,) = rows.injected
    assert chosen in {'["A","1"]', '["A","2"]'}  # hall B has too few events
    plain = 21.0 if chosen == '["A","1"]' else 22.0
    changed = rows.frame[rows.frame["group_key"] == chosen]
    after = changed["event_time"] >= scenario.change_at
    assert after.sum() == 48
    assert set(changed.loc[after, "label"]) == {plain + 5.0}
    assert set(changed.loc[~after, "label"]) == {plain}
    other = rows.frame[(rows.frame["group_key"] != chosen) & rows.frame["label"].notna()]
    assert set(other["label"]) == {43.0 - plain}


def test_the_same_seed_draws_the_same_groups(data, scenario, config):
    assert build_example_data(data, scenario, config).injected == build_example_data(data, scenario, config).injected


def test_a_label_without_its_time_is_no_label(data, scenario, config):
    data.loc[0, "known_at"] = pd.NaT
    frame = build_example_data(data, scenario, config).frame
    assert frame.loc[frame["event_id"] == data.loc[0, "id"], "label"].isna().all()


def test_data_is_not_changed(data, scenario, config):
    before = data.copy(deep=True)
    build_example_data(data, scenario, config)
    pd.testing.assert_frame_equal(data, before)


def test_missing_columns_are_named(data, scenario, config):
    with pytest.raises(ConfigError, match=r"no load.*it has hall"):
        build_example_data(data.drop(columns="load"), scenario, config)


def test_too_few_busy_groups_are_reported(data, scenario, config):
    asked = scenario.injected.model_copy(update={"groups": 3})
    with pytest.raises(ConfigError, match=r"expected 3 groups .*got 2"):
        build_example_data(data, scenario.model_copy(update={"injected": asked}), config)


def test_a_missing_file_is_reported(scenario, config, tmp_path):
    with pytest.raises(ConfigError, match=r"machines\.parquet"):
        read_example_data(tmp_path, scenario, config)
