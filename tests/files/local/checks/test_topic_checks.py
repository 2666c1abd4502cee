"""What `spinney check` says of topics, from what a broker would say of them."""

from __future__ import annotations

from typing import Any

import pytest
from kafka_fleet import fleet_with

from spinney.kafka.topic_metadata import Absence, Topic
from spinney.local.checks.topic_checks import needed_retention, problems

LINES = ('events = "sales"', 'outcomes = "till"', 'predictions = "answers"', 'label_horizon = "48h"')
SALES = fleet_with(*LINES).kafka
SOUND = {
    "cleanup.policy": "delete",
    "retention.ms": "604800000",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "3600000",
}
ALL = frozenset({"READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"})


def found(settings: dict[str, str] | None = None, **topics: Any) -> list[tuple[str, str]]:
    """The problems where the events topic has `settings` in place of sound ones. topics: descriptions of others."""
    described = {name: topics.get(name, Topic(name, "an id", 2, ALL)) for name in ("sales", "till", "answers")}
    settings_by_topic = {"sales": SOUND | (settings or {}), "till": SOUND}
    return [tuple(each) for each in problems(SALES, described, settings_by_topic.__getitem__)]


def test_topics_that_keep_their_records_and_may_be_used_have_no_problem() -> None:
    assert found() == []


def test_a_broker_that_says_nothing_of_operations_allows_them() -> None:
    assert found(sales=Topic("sales", None, 2, frozenset())) == []


@pytest.mark.parametrize(
    ("settings", "text", "remedy"),
    [
        ({"cleanup.policy": "compact"}, "cleanup.policy=compact keeps only", "cleanup.policy=delete"),
        ({"cleanup.policy": "compact,delete"}, "cleanup.policy=compact,delete keeps only", "cleanup.policy=delete"),
        ({"retention.ms": "172799999"}, "keeps records 172799999ms", "retention.ms=172800000 or more"),
        ({"retention.ms": "3600000"}, "keeps records 1h", "retention.ms=172800000 or more"),
        ({"retention.bytes": "1073741823"}, "retention.bytes=1073741823 deletes", "retention.bytes=-1"),
        ({"max.message.bytes": "1048575"}, "max.message.bytes=1048575 refuses", "max.message.bytes=2097152"),
        ({"message.timestamp.after.max.ms": "3600001"}, "one wrong clock", "message.timestamp.after.max.ms=3600000"),
    ],
)
def test_a_setting_that_loses_records_is_reported_with_its_remedy(
    settings: dict[str, str], text: str, remedy: str
) -> None:
    ((reported, do),) = found(settings)
    assert "sales" in reported
    assert text in reported
    assert remedy in do


@pytest.mark.parametrize(
    "settings",
    [
        {"retention.ms": "-1"},
        {"retention.ms": "172800000"},
        {"retention.bytes": "-1"},
        {"retention.bytes": "1073741824"},
        {"message.timestamp.type": "LogAppendTime", "message.timestamp.after.max.ms": "9223372036854775807"},
        {"max.message.bytes": "1048576"},
    ],
)
def test_a_setting_at_its_limit_is_sound(settings: dict[str, str]) -> None:
    assert found(settings) == []


def test_a_compacted_topic_is_reported_once_whatever_its_unused_retention() -> None:
    assert len(found({"cleanup.policy": "compact", "retention.ms": "1"})) == 1


def test_a_broker_before_3_6_has_no_limit_on_the_future() -> None:
    old = {name: value for name, value in SOUND.items() if name != "message.timestamp.after.max.ms"}
    topics = {"sales": Topic("sales", "an id", 2, ALL)}
    ((text, _),) = problems(SALES, topics, lambda _: old)
    assert text.startswith("one wrong clock")


def test_a_topic_is_kept_as_long_as_the_longest_of_a_day_duplicates_and_labels() -> None:
    assert needed_retention(SALES).days == 2
    assert needed_retention(fleet_with(LINES[0], *LINES[2:]).kafka).days == 1
    assert needed_retention(fleet_with(*LINES, 'duplicates_within = "9d"').kafka).days == 9


def test_topics_that_are_missing_or_hidden_are_distinguished() -> None:
    missing, hidden = found(sales=Absence.MISSING, till=Absence.UNAUTHORISED)
    assert missing == ("do not exist: sales", "Make them: spinney init")
    assert hidden[0] == "this user may not see them: till"
    assert "Describe" in hidden[1]


def test_a_user_that_may_not_read_or_write_or_look_at_settings_is_reported_what_it_lacks() -> None:
    seen = frozenset({"DESCRIBE", "DESCRIBE_CONFIGS"})
    lacking = found(
        sales=Topic("sales", "an id", 2, seen),
        till=Topic("till", "an id", 2, frozenset({"READ"})),
        answers=Topic("answers", "an id", 2, seen),
    )
    assert [text.partition(",")[0] for text, _ in lacking] == [
        "sales: this user may not read it",
        "answers: this user may not write it",
        "till: this user may not read its settings",
    ]
