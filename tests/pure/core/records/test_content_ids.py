"""Ids of records without one: the same for one record as for many, and only equal for equal values."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
import xxhash
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from schemas import messages
from spinney.core.config import parse
from spinney.core.errors import ConfigError
from spinney.core.migration import Migration, original_columns
from spinney.core.records.json_columns import read_json_columns
from spinney.core.records.rules import RecordRules, build_rules
from spinney.core.records.validation import validate
from spinney.core.timestamps import from_microseconds

TEXT = """\
[fleet]
group = ["store"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["x"]
[fleet.columns]
store = "string"
x = "{x}"
n = "bigint"
price = "decimal(10,2)"
day = "date"
sunny = "boolean"
sold = "float"
[fleet.fields]
id = "*"
[kafka]
events = "e"
[storage]
root = "r"
"""
LATE = datetime(2100, 1, 1, tzinfo=UTC)
RECORD = {
    "store": "a", "at": "2024-05-01T12:00:00Z", "x": 1.5, "n": 7, "price": "2.50", "day": "2024-05-01",
    "sunny": True, "sold": 0.1,
}  # fmt: skip


def rules_of(x: str = "double", more: str = "", *migrations: Migration) -> RecordRules:
    text = TEXT.format(x=x).replace('n = "bigint"', f'n = "bigint"\n{more}')
    originals = original_columns(migrations)
    return build_rules(parse(text, "", {}).record_schema, messages.EVENT, originals=originals)


def widened(before: str) -> Migration:
    rest = {"store": "string", "n": "bigint", "price": "decimal(10,2)", "day": "date", "sunny": "boolean"}
    return Migration("m", "", {**rest, "x": before, "sold": "float"}, {**rest, "x": "double", "sold": "float"})


def id_of(rules: RecordRules, **changes: object) -> str:
    result = validate(json.dumps({**RECORD, **changes}).encode(), LATE, rules)
    assert result.values is not None, result.detail
    return str(result.values["id"])


RECORDS = st.fixed_dictionaries(
    {
        "store": st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5),
        "at": st.integers(0, 10**15).map(lambda us: from_microseconds(us).isoformat()),
    },
    optional={
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**62), 2**62),
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "price": st.none() | st.decimals(-1000, 1000, places=2).map(str),
        "day": st.none() | st.dates().map(date.isoformat),
        "sunny": st.none() | st.booleans(),
        "sold": st.floats(-(2.0**99), 2.0**99, width=32),
        "unknown": st.integers(),
    },
)


@examples(150)
@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_many_records_together_get_the_ids_that_each_gets_alone(records: list[dict[str, object]]) -> None:
    rules, lines = rules_of("double", "", widened("float")), [json.dumps(record).encode() for record in records]
    found = read_json_columns(lines, rules)
    for at, line in enumerate(lines):
        values = validate(line, LATE, rules).values
        if values is not None and not found.unread[at]:
            read = {name: column.values[at].as_py() for name, column in found.columns.items()}
            doubtful = any(column.doubtful is not None and column.doubtful[at] for column in found.columns.values())
            assert doubtful or read["id"] == values["id"]


@pytest.mark.parametrize("name", sorted(RECORD))
def test_each_declared_column_counts_and_an_undeclared_field_or_an_id_in_the_message_does_not(name: str) -> None:
    rules = rules_of()
    other = {
        "store": "b", "at": "2024-05-01T12:00:00.000001Z", "x": 1.25, "n": 8, "price": "2.51", "day": "2024-05-02",
        "sunny": False, "sold": 0.2,
    }  # fmt: skip
    assert id_of(rules, **{name: other[name]}) != id_of(rules) == id_of(rules, id="17", note="x")


def test_a_text_cannot_pass_for_the_text_of_another_column() -> None:
    rules = rules_of(more='a = "string"\nb = "string"')
    assert id_of(rules, a="1b=1:2", b=None) != id_of(rules, a="1", b="2")


def test_a_column_without_a_value_does_not_count_and_an_empty_text_does() -> None:
    rules = rules_of(more='note = "string"')
    assert id_of(rules_of()) == id_of(rules, note=None) != id_of(rules, note="")


@pytest.mark.parametrize(
    ("before", "value"),
    [
        ("int", 3),
        ("bigint", 2**53 + 2),
        ("bigint", -(2**63)),
        ("float", 0.1),
        ("float", 0.123456789012),
        ("float", 1e-30),
        ("float", 16_777_217),
        ("float", 1e30),
        ("float", -0.0),
    ],
)
def test_a_widened_column_leaves_every_id_as_it_is(before: str, value: float) -> None:
    now = rules_of("double", "", widened(before))
    assert id_of(now, x=value) == id_of(rules_of(before), x=value)


def test_a_number_that_only_the_wider_type_holds_is_told_from_others() -> None:
    now = rules_of("double", "", widened("float"))
    assert id_of(now, x=1e300) != id_of(now, x=2e300)
    assert read_json_columns([json.dumps({**RECORD, "x": 1e300}).encode()], now).columns["id"].values.to_pylist() == [
        id_of(now, x=1e300)
    ]


def test_an_id_can_be_computed_from_its_description() -> None:
    described = "at=16:1714564800000000day=5:19844n=1:7price=3:2.5sold=3:0.1store=1:asunny=4:Truex=5:1e-05"
    assert id_of(rules_of(), x=0.00001) == xxhash.xxh3_128_hexdigest(described.encode())


def test_values_are_compared_as_they_are_stored_and_not_as_they_are_written() -> None:
    rules = rules_of()
    same = id_of(rules, at="2024-05-01T14:00:00+02:00", x="1.50", price=2.5, n="7.0", sunny="yes", day="2024/05/01")
    assert same == id_of(rules)
    assert validate(json.dumps(RECORD).encode(), LATE, rules).values["price"] == Decimal("2.50")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('id = "*"', 'x = "*"', "which only `id`, the id, may have"),
        ('events = "e"', 'events = "e"\noutcomes = "o"', "Late labels find their events by it"),
    ],
)
def test_only_the_id_is_a_hash_and_only_where_no_late_label_needs_it(before: str, after: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(TEXT.format(x="double").replace(before, after), "", {})
