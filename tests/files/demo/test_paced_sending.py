"""A replay is sent in steps of event time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from demo.ledger import Ledger
from demo.message_schedule import Message, MessageSchedule
from demo.paced_sending import split_into_steps

NOTHING = Ledger(frozenset(), frozenset(), frozenset(), frozenset(), (), (), frozenset(), {})
MIDNIGHT = datetime(2013, 1, 1, tzinfo=UTC)


def at(hour: float) -> Message:
    return Message(MIDNIGHT + timedelta(hours=hour), "events", b"k", b"v", 0)


def test_a_step_ends_where_its_length_of_event_time_has_passed() -> None:
    schedule = MessageSchedule((at(0), at(5), at(11.9), at(12), at(13)), NOTHING)
    assert [len(part) for part in split_into_steps(schedule, timedelta(hours=12))] == [3, 2]


def test_a_night_without_messages_makes_no_empty_step() -> None:
    schedule = MessageSchedule((at(0), at(40), at(41)), NOTHING)
    assert [len(part) for part in split_into_steps(schedule, timedelta(hours=12))] == [1, 2]


def test_every_message_is_sent_once_and_in_order() -> None:
    messages = tuple(at(hour) for hour in (0, 3, 13, 14, 30, 31, 55))
    sent = [
        message for part in split_into_steps(MessageSchedule(messages, NOTHING), timedelta(hours=6)) for message in part
    ]
    assert sent == list(messages)
