"""Find problems of a fleet's topics in their settings.

The functions are pure, except for the argument that asks the broker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from schemas.messages import MAX_RECORD_BYTES
from spinney.core import durations
from spinney.core.config import Kafka
from spinney.kafka.client import MAX_FUTURE_MS, topics_read
from spinney.kafka.topic_metadata import Absence, Topic

Settings = Mapping[str, str]
"""A topic's settings in effect: name -> value."""

SHORTEST_KEPT = timedelta(days=1)
"""Shortest retention of a topic: records must outlive a stream that was stopped overnight."""


LEAST_KEPT_BYTES = 1 << 30
"""A smaller `retention.bytes` is reported: in a busy hour Kafka could delete records that no query has read yet."""


class Problem(NamedTuple):
    """A problem of a topic, and what to do."""

    text: str
    remedy: str


def absent(found: Mapping[str, Topic | Absence]) -> Iterator[Problem]:
    """Yield topics that do not exist or may not be described by this user."""
    missing = [name for name, topic in found.items() if topic is Absence.MISSING]
    if missing:
        yield Problem(f"do not exist: {', '.join(missing)}", "Make them: spinney init")
    if unseen := [name for name, topic in found.items() if topic is Absence.UNAUTHORISED]:
        text = f"this user may not see them: {', '.join(unseen)}"
        yield Problem(text, "Let it Describe and DescribeConfigs all, Read events and outcomes, Write predictions.")


def forbidden(kafka: Kafka, topic: Topic) -> Iterator[Problem]:
    """Yield operations that a fleet needs and this user may not do. A broker without access control allows all."""
    needed = "READ" if topic.name in topics_read(kafka) else "WRITE"
    if topic.operations and needed not in topic.operations:
        verb = needed.title()
        yield Problem(f"{topic.name}: this user may not {verb.lower()} it", f"Let it {verb}.")


def unfit(kafka: Kafka, name: str, settings: Settings) -> Iterator[Problem]:
    """Yield settings of an input topic that lose records or accept records of the future."""
    for point in (_compacted, _kept_too_short, _kept_too_few, _too_small):
        yield from point(kafka, name, settings)


def _compacted(kafka: Kafka, name: str, settings: Settings) -> Iterator[Problem]:
    del kafka
    if "compact" in settings["cleanup.policy"]:
        policy = settings["cleanup.policy"]
        text = f"{name}: cleanup.policy={policy} keeps only the newest record of a key (a group); others are lost"
        yield Problem(text, "Set cleanup.policy=delete.")


def _kept_too_short(kafka: Kafka, name: str, settings: Settings) -> Iterator[Problem]:
    kept_ms = int(settings["retention.ms"])
    if settings["cleanup.policy"] == "compact" or kept_ms < 0:
        return
    needed = needed_retention(kafka)
    if kept_ms < needed / timedelta(milliseconds=1):
        kept = durations.render(timedelta(milliseconds=kept_ms))
        text = f"{name}: keeps records {kept}; what a stream has not read until then is lost"
        yield Problem(text, f"Set retention.ms={needed // timedelta(milliseconds=1)} or more, or -1 for ever.")


def _kept_too_few(kafka: Kafka, name: str, settings: Settings) -> Iterator[Problem]:
    del kafka
    kept = int(settings.get("retention.bytes", "-1"))
    if settings["cleanup.policy"] != "compact" and 0 <= kept < LEAST_KEPT_BYTES:
        text = f"{name}: retention.bytes={kept} deletes the oldest records of a larger partition, however new they are"
        yield Problem(text, f"Set retention.bytes=-1 for no limit, or at least {LEAST_KEPT_BYTES} per partition.")


def needed_retention(kafka: Kafka) -> timedelta:
    """Return how long a topic has to retain records: the longest of a day, `duplicates_within`, `label_horizon`."""
    horizon = [kafka.label_horizon] if kafka.outcomes else []
    return max([SHORTEST_KEPT, kafka.duplicates_within, *horizon])


def _too_small(kafka: Kafka, name: str, settings: Settings) -> Iterator[Problem]:
    del kafka
    if int(settings["max.message.bytes"]) < MAX_RECORD_BYTES:
        text = f"{name}: max.message.bytes={settings['max.message.bytes']} refuses records that the fleet would take"
        yield Problem(text, f"Set max.message.bytes={2 * MAX_RECORD_BYTES} or more.")


def takes_the_future(settings: Settings) -> bool:
    """Return whether the topic accepts records dated more than FUTURE_MS ahead."""
    if settings["message.timestamp.type"] == "LogAppendTime":
        return False
    # Brokers before 3.6 have no such limit.
    return int(settings.get("message.timestamp.after.max.ms", MAX_FUTURE_MS + 1)) > MAX_FUTURE_MS


def open_ended(settings: Mapping[str, Settings]) -> Iterator[Problem]:
    """Yield topics that accept records of the future. settings: by topic."""
    if names := [name for name, values in settings.items() if takes_the_future(values)]:
        text = f"one wrong clock may date records years ahead, for ever the fleet's now: {', '.join(names)}"
        remedy = (
            f"Set message.timestamp.after.max.ms={MAX_FUTURE_MS} (or message.timestamp.type=LogAppendTime) on them."
        )
        yield Problem(text, remedy)


Read = Callable[[str], Settings]


def problems(kafka: Kafka, found: Mapping[str, Topic | Absence], settings_of: Read) -> Iterator[Problem]:
    """Yield every problem of the topics, first those that stop the fleet. settings_of: reads a topic's settings from
    the broker.

    Raises StoreError if `settings_of` does.
    """
    yield from absent(found)
    existing = [topic for topic in found.values() if isinstance(topic, Topic)]
    for topic in existing:
        yield from forbidden(kafka, topic)
    settings = {}
    for topic in existing:
        if topic.name not in topics_read(kafka):
            continue
        if topic.operations and "DESCRIBE_CONFIGS" not in topic.operations:
            text = f"{topic.name}: this user may not read its settings, so they are not checked"
            yield Problem(text, "Let it DescribeConfigs.")
        else:
            settings[topic.name] = settings_of(topic.name)
    for name, values in settings.items():
        yield from unfit(kafka, name, values)
    yield from open_ended(settings)
