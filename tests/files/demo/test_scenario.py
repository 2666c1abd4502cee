from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from demo.scenario import InjectedChange, parse_scenario, read_scenario
from spinney.core.errors import ConfigError

WHOLE = """
data = "x.parquet"
[history]
from = 2020-01-01
until = 2020-02-01
[stream]
days = 10
max_ahead = "6h"
"""
CHANGE = "[injected]\ngroups = 2\nafter_days = 3\n"


def test_the_stream_begins_where_the_history_ends_and_lasts_its_days():
    scenario = parse_scenario(WHOLE + CHANGE + "add = 1.0", "demo.toml")
    assert (scenario.history_start, scenario.stream_start) == (
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020, 2, 1, tzinfo=UTC),
    )
    assert scenario.stream_end == datetime(2020, 2, 11, tzinfo=UTC)
    assert scenario.change_at == datetime(2020, 2, 4, tzinfo=UTC)
    assert scenario.stream.max_ahead == timedelta(hours=6)


def test_a_change_that_would_come_after_the_days_asked_for_is_not_made():
    scenario = parse_scenario(WHOLE + CHANGE + "add = 1.0", "demo.toml")
    assert scenario.with_days(4).injected == scenario.injected
    assert (scenario.with_days(4).stream_end, scenario.with_days(4).change_at) == (
        scenario.stream_start + timedelta(days=4),
        scenario.change_at,
    )
    assert (scenario.with_days(3).injected, scenario.with_days(3).change_at) == (None, None)
    assert (scenario.with_days(3).stream.days, scenario.with_days(3).stream.max_ahead) == (3, timedelta(hours=6))


def test_a_change_adds_or_multiplies():
    assert InjectedChange(groups=1, after_days=1, add=-2.0).apply(10.0) == 8.0
    assert InjectedChange(groups=1, after_days=1, factor=1.5).apply(10.0) == 15.0


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (WHOLE.replace("days = 10", "days = 0"), "stream.days", "greater than or equal to 1"),
        (WHOLE.replace("until = 2020-02-01", "until = 2020-01-01"), "history", "`until` after `from`"),
        (WHOLE + "[faults]\nduplicate = 0.1", "faults.duplicate", "a key that exists"),
        (WHOLE + '[faults]\ndead_letters = ["rude"]', "faults.dead_letters.0", "'not_json'"),
        (WHOLE + CHANGE, "injected", "exactly one of `add` and `factor`"),
        (WHOLE + CHANGE + "add = 1.0\nfactor = 2.0", "injected", "exactly one of `add` and `factor`"),
        (WHOLE + CHANGE.replace("3", "10") + "add = 1.0", "", "`injected.after_days` below `stream.days` (10)"),
        (WHOLE.replace('"6h"', "6"), "stream.max_ahead", "a duration"),
        ("data = ", "", "TOML"),
        ("", "history", "required"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(text, key, words):
    with pytest.raises(ConfigError) as caught:
        parse_scenario(text, "demo.toml")
    assert any(finding.key == key and words in finding.expected for finding in caught.value.findings), caught.value


def test_a_folder_without_a_story_says_which_file_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"demo\.toml"):
        read_scenario(tmp_path)
