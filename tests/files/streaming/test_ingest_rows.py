"""The rows that `ingest` stores of records, without Spark."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from unvalidated_records import unvalidated

from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.records.rules import ValidationSettings
from spinney.storage.charter import Edition
from spinney.tables.row_writing import ARRIVED_AT
from streaming.ingest import stored_rows

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
CONFIG = parse(
    """\
[fleet]
group = ["shop", "dept"]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price", "stock"]
shards = 4
[fleet.columns]
shop = "string"
dept = "int"
price = "double"
stock = "int"
sold = "double"
[kafka]
events = "sales"
outcomes = "sold"
[storage]
root = "r"
""",
    "fleet.toml",
    {},
)
EVENT = {"shop": "a", "dept": 1, "sale": "s", "at": "2024-05-01T12:00:00.123456+02:00", "price": 1.5, "stock": 2}
OUTCOME = {"shop": "a", "dept": 1, "sale": "s", "sold": 3, "observed_at": "2024-05-01T11:00:00Z"}


def rows_of(
    records: list[tuple[str, dict[str, Any] | bytes]], config: Config = CONFIG, editions: tuple[Edition, ...] = ()
) -> list[tuple[str, dict[str, Any]]]:
    """The kind and row of each record, in the order of the records. records: topic and value; one edition after the
    other.
    """
    values = [value if isinstance(value, bytes) else json.dumps(value).encode() for _, value in records]
    applies = [min(n, max(len(editions) - 1, 0)) for n in range(len(records))]
    batch = unvalidated(values, [topic for topic, _ in records], AT, editions=applies)
    parts = stored_rows(config.record_schema, editions).of([batch])
    found = [(kind, row) for kind, rows in parts for row in rows.to_pylist()]
    return sorted(found, key=lambda pair: pair[1]["kafka_offset"])


def test_a_valid_event_is_a_row_with_its_types_its_key_and_its_place_in_kafka() -> None:
    assert rows_of([("sales", {**EVENT, "colour": "red"})]) == [
        (
            "event",
            {
                "shard": keys.shard_of('["a","1"]', 4),
                "group_key": '["a","1"]',
                "event_id": "s",
                "event_time": datetime(2024, 5, 1, 10, 0, 0, 123456, tzinfo=UTC),
                "shop": "a",
                "dept": 1,
                "price": 1.5,
                "stock": 2,
                "topic": "sales",
                "kafka_partition": 0,
                "kafka_offset": 0,
                ARRIVED_AT: AT,
            },
        )
    ]


def test_an_outcome_needs_its_label_and_when_it_was_seen() -> None:
    changes = [{}, {"sold": None}, {"observed_at": None}, {"sold": "many"}, {"x": 1}]
    found = rows_of([("sold", {**OUTCOME, **change}) for change in changes])
    assert [row.get("reason") for _, row in found] == [None, "missing_field", "missing_field", "wrong_type", None]
    kind, row = found[0]
    assert (kind, row["label"], row["group_key"], row["observed_at"]) == (
        "outcome",
        3.0,
        '["a","1"]',
        datetime(2024, 5, 1, 11, tzinfo=UTC),
    )


def test_each_topic_is_read_by_its_own_rules_in_one_batch() -> None:
    found = rows_of([("sales", EVENT), ("sold", OUTCOME), ("sales", OUTCOME), ("sold", EVENT)])
    assert [kind for kind, _ in found] == ["event", "outcome", "dead", "dead"]
    assert [row["field"] for _, row in found[2:]] == ["at", "sold"]


def test_a_dead_letter_has_the_bytes_of_the_record_and_what_is_wrong() -> None:
    ((kind, row),) = rows_of([("sales", b"no JSON")])
    assert (kind, row["key"], row["value"], row["reason"], row["field"]) == ("dead", b"k", b"no JSON", "not_json", None)
    assert (row["topic"], row["kafka_offset"], row[ARRIVED_AT]) == ("sales", 0, AT)
    assert row["detail"]


def test_each_record_is_read_by_the_rules_that_held_when_it_came() -> None:
    editions = (
        Edition(ValidationSettings({"stock": (0, 1)})),
        Edition(ValidationSettings({"stock": (0, 2)}), {"sales": {"0": 1}}),
    )
    assert [kind for kind, _ in rows_of([("sales", EVENT), ("sales", EVENT)], editions=editions)] == ["dead", "event"]


def test_no_records_are_no_rows() -> None:
    assert rows_of([]) == []
