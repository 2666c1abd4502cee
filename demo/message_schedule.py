"""Build the schedule of the stream: every record, the time at which it is due, and the ledger of all records. Pure.

Events are due at their event time, outcomes when their label became known. The same seed gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from demo import invalid_records
from demo.example_data import ExampleData
from demo.ledger import Id, Ledger
from demo.scenario import Scenario
from schemas import messages
from schemas.contract import Contract
from spinney.core.config import Config
from spinney.core.records.fleet_message_contracts import message_contract

MAX_DUPLICATE_DELAY_MINUTES = 45
"""A duplicate is sent at most this many minutes of event time after the first record."""


class Message(NamedTuple):
    """A Kafka record. due: event time at which it is sent. timestamp_ms: its own timestamp, milliseconds since 1970."""

    due: datetime
    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


@dataclass(frozen=True)
class MessageSchedule:
    """The messages in the order in which they are due, and the ledger of all records."""

    messages: tuple[Message, ...]
    ledger: Ledger

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)


@dataclass(frozen=True)
class LoadedHistory:
    """The history to load, with the fleet's own column names.

    outcomes: event_id, key columns, target, observed_at; None if the label is a field of the event.
    """

    events: pd.DataFrame
    outcomes: pd.DataFrame | None


def build_history(data: ExampleData, scenario: Scenario, config: Config) -> LoadedHistory:
    """Return the events before the start of the stream, and the outcomes that were known by then."""
    fleet, frame = config.fleet, data.frame
    past = frame[frame["event_time"] < scenario.stream_start]
    events = past.rename(columns={"event_id": fleet.event_id, "event_time": fleet.event_time})
    if config.record_schema.has_label_in_event:
        return LoadedHistory(events.rename(columns={"label": fleet.target})[_names(config, messages.EVENT)], None)
    known = past[past["label_at"].notna() & (past["label_at"] < scenario.stream_start)]
    names = {"event_id": fleet.event_id, "label": fleet.target, "label_at": "observed_at"}
    outcomes = known.rename(columns=names)[_names(config, messages.OUTCOME)]
    return LoadedHistory(events[_names(config, messages.EVENT)], outcomes)


def _names(config: Config, contract: Contract) -> list[str]:
    return list(message_contract(config.record_schema, contract).names)


def build_schedule(data: ExampleData, scenario: Scenario, config: Config) -> MessageSchedule:
    """Return all records that are due between the start and the end of the stream.

    Raises ConfigError: a dead-letter reason that no record of this fleet can have.
    """
    return _ScheduleBuilder(data, scenario, config).build()


class _ScheduleBuilder:
    def __init__(self, data: ExampleData, scenario: Scenario, config: Config) -> None:
        self.data, self.scenario, self.config = data, scenario, config
        self.random = np.random.default_rng(scenario.seed)
        self.messages: list[Message] = []

    def build(self) -> MessageSchedule:
        frame, scenario = self.data.frame, self.scenario
        sent = frame[frame["event_time"] >= scenario.stream_start]
        due = (
            frame["label_at"].notna()
            & (frame["label_at"] >= scenario.stream_start)
            & (frame["label_at"] < scenario.stream_end)
        )
        known = frame.iloc[0:0] if self.config.record_schema.has_label_in_event else frame[due]
        events = [self._event(row) for row in sent.to_dict("records")]
        outcomes = [self._outcome(row) for row in known.to_dict("records")]
        self.messages += [message for _, message in events + outcomes]
        event_duplicates, outcome_duplicates = self._add_duplicates(events), self._add_duplicates(outcomes)
        unmatched = self._add_unmatched_outcomes(outcomes)
        dead = self._add_dead_letters(sent)
        past = frame[frame["event_time"] < scenario.stream_start]
        loaded = past[past["label_at"].notna() & (past["label_at"] < scenario.stream_start)]
        ledger = Ledger(
            loaded_events=_ids(past),
            loaded_outcomes=frozenset() if self.config.record_schema.has_label_in_event else _ids(loaded),
            events=frozenset(name for name, _ in events),
            outcomes=frozenset(name for name, _ in outcomes) | unmatched,
            event_duplicates=event_duplicates,
            outcome_duplicates=outcome_duplicates,
            unmatched=unmatched,
            dead=dead,
        )
        return MessageSchedule(tuple(sorted(self.messages, key=lambda message: message.due)), ledger)

    def _event(self, row: dict[Any, Any]) -> tuple[Id, Message]:
        when = row["event_time"].to_pydatetime()
        name = (row["group_key"], row["event_id"])
        topic = self.config.kafka.events
        return name, _message(when, topic, row["group_key"].encode(), invalid_records.encode(self._fields(row)))

    def _fields(self, row: dict[Any, Any]) -> dict[str, Any]:
        fleet = self.config.fleet
        known = {fleet.event_id: row["event_id"], fleet.event_time: row["event_time"], fleet.target: row["label"]}
        return self._record(messages.EVENT, {**row, **known})

    def _outcome(self, row: dict[Any, Any], event_id: str | None = None) -> tuple[Id, Message]:
        fleet = self.config.fleet
        known = {fleet.event_id: event_id or row["event_id"], fleet.target: row["label"]}
        record = self._record(messages.OUTCOME, {**row, **known, "observed_at": row["label_at"]})
        topic = self.config.kafka.outcomes or ""
        sent = _message(
            row["label_at"].to_pydatetime(), topic, row["group_key"].encode(), invalid_records.encode(record)
        )
        return (row["group_key"], record[fleet.event_id]), sent

    def _record(self, contract: Contract, values: dict[Any, Any]) -> dict[str, Any]:
        columns = message_contract(self.config.record_schema, contract).columns
        return {column.name: _json(values[column.name], column.type) for column in columns}

    def _add_duplicates(self, sent: list[tuple[Id, Message]]) -> tuple[Id, ...]:
        """Add duplicates of a share of the records, a little later. Returns their ids."""
        chance = self.random.random(len(sent)) < self.scenario.faults.duplicates
        minutes = self.random.integers(1, MAX_DUPLICATE_DELAY_MINUTES, len(sent), endpoint=True)
        duplicated = []
        for (name, message), repeated, later in zip(sent, chance, minutes, strict=True):
            due = message.due + timedelta(minutes=int(later))
            if repeated and due < self.scenario.stream_end:
                self.messages.append(_message(due, message.topic, message.key, message.value))
                duplicated.append(name)
        return tuple(duplicated)

    def _add_unmatched_outcomes(self, outcomes: list[tuple[Id, Message]]) -> frozenset[Id]:
        number_wanted = min(self.scenario.faults.unmatched_outcomes, len(outcomes))
        names = set()
        frame = self.data.frame.set_index(["group_key", "event_id"])
        for number, at in enumerate(sorted(self.random.choice(max(len(outcomes), 1), number_wanted, replace=False))):
            (group_key, event_id), _ = outcomes[at]
            row = frame.loc[(group_key, event_id)].to_dict() | {"group_key": group_key, "event_id": event_id}
            name, message = self._outcome(row, f"unmatched-{number:04d}")
            self.messages.append(message)
            names.add(name)
        return frozenset(names)

    def _add_dead_letters(self, sent: pd.DataFrame) -> dict[str, str]:
        dead = {}
        for reason in self.scenario.faults.dead_letters if len(sent) else ():
            for number in range(self.scenario.faults.dead_letters_each):
                row = sent.iloc[int(self.random.integers(len(sent)))].to_dict()
                valid = invalid_records.ValidEvent(row["group_key"].encode(), self._fields(row), self.config)
                key, value = invalid_records.make_invalid(valid, reason, f"dead-{reason.value}-{number}")
                self.messages.append(_message(row["event_time"].to_pydatetime(), self.config.kafka.events, key, value))
                dead[invalid_records.record_digest(key, value)] = reason.value
        return dead


def _ids(frame: pd.DataFrame) -> frozenset[Id]:
    return frozenset(zip(frame["group_key"], frame["event_id"], strict=True))


def _message(due: datetime, topic: str, key: bytes | None, value: bytes | None) -> Message:
    return Message(due, topic, key, value, int(due.timestamp() * 1000))


def _iso(when: Any) -> str:
    return pd.Timestamp(when).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _json(value: Any, kind: str) -> Any:
    """Return a column's value for JSON: missing values are None, whole numbers are int."""
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    if kind == "timestamp":
        return _iso(value)
    if kind == "date":
        return pd.Timestamp(value).date().isoformat()
    if kind in ("tinyint", "smallint", "int", "bigint"):
        return int(value)
    return value.item() if isinstance(value, np.generic) else value
