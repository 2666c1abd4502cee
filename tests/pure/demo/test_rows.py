from __future__ import annotations

import pandas as pd
import pytest

from demo.rows import make_rows, read_rows
from spinney.core.errors import ConfigError


def test_rows_are_named_by_their_group_and_sorted_by_time(data, story, config):
    rows = make_rows(data.sample(frac=1, random_state=1), story, config).frame
    assert list(rows.columns) == ["group_key", "event_id", "event_time", "hall", "number", "load", "label", "label_at"]
    assert rows["event_time"].is_monotonic_increasing
    assert set(rows["group_key"]) == {'["A","1"]', '["A","2"]', '["B","1"]'}
    assert len(rows) == 2 * 8 * 24 + 8


def test_the_change_touches_the_drawn_group_from_its_day_on_and_nothing_else(data, story, config):
    rows = make_rows(data, story, config)
    (chosen,) = rows.injected
    assert chosen in {'["A","1"]', '["A","2"]'}  # hall B has too few events
    plain = 21.0 if chosen == '["A","1"]' else 22.0
    changed = rows.frame[rows.frame["group_key"] == chosen]
    after = changed["event_time"] >= story.change_at
    assert after.sum() == 48
    assert set(changed.loc[after, "label"]) == {plain + 5.0}
    assert set(changed.loc[~after, "label"]) == {plain}
    other = rows.frame[(rows.frame["group_key"] != chosen) & rows.frame["label"].notna()]
    assert set(other["label"]) == {43.0 - plain}


def test_the_same_seed_draws_the_same_groups(data, story, config):
    assert make_rows(data, story, config).injected == make_rows(data, story, config).injected


def test_a_label_without_its_time_is_no_label(data, story, config):
    data.loc[0, "known_at"] = pd.NaT
    frame = make_rows(data, story, config).frame
    assert frame.loc[frame["event_id"] == data.loc[0, "id"], "label"].isna().all()


def test_data_is_not_changed(data, story, config):
    before = data.copy(deep=True)
    make_rows(data, story, config)
    pd.testing.assert_frame_equal(data, before)


def test_missing_columns_are_named(data, story, config):
    with pytest.raises(ConfigError, match=r"no load.*it has hall"):
        make_rows(data.drop(columns="load"), story, config)


def test_too_few_busy_groups_are_said(data, story, config):
    asked = story.injected.model_copy(update={"groups": 3})
    with pytest.raises(ConfigError, match=r"expected 3 groups .*got 2"):
        make_rows(data, story.model_copy(update={"injected": asked}), config)


def test_a_missing_file_is_said(story, config, tmp_path):
    with pytest.raises(ConfigError, match=r"machines\.parquet"):
        read_rows(tmp_path, story, config)
