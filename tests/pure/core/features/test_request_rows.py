"""Records of a request, read together. The oracle reads each alone, by `value_of`, as the stream does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.errors import ContractError
from spinney.core.features.request_rows import RequestRows, read_plain_rows, read_request_rows, request_rules
from spinney.core.records.json_parsing import NumberText, read_value
from spinney.core.records.validation import RejectedError, value_of

TEXT = """\
[fleet]
name = "shops"
group = ["shop", "dept"]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price", "brand", "open", "stock", "cost", "since"]
[fleet.columns]
shop = "string"
dept = "int"
price = "double"
brand = "string"
open = "boolean"
stock = "bigint"
cost = "decimal(8,2)"
since = "date"
sold = "double"
[fleet.fields]
price = "unit_price"
[fleet.ranges]
price = [0.0, 10.0]
[kafka]
events = "sales"
[storage]
root = "/nowhere"
"""
CONFIG: Config = parse(TEXT, "fleet.toml", {})
RULES = request_rules(CONFIG.record_schema)
WHOLE = {
    "shop": "a", "dept": 1, "unit_price": 3.5, "brand": "x", "open": True, "stock": 7, "cost": 1.25,
    "since": "2024-05-01",
}  # fmt: skip
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([1 << 40, 1 << 70, 1.0, 1.5, -0.0, 12.345, 1e300]),
    st.sampled_from(["", "a", "\u0001", "3", " 3.0 ", "nan", "true", "2024-05-31", "2024-02-30", "1e999", "x" * 600]),
    st.just([1]),
    st.just({"a": None}),
)
NAMES = [rule.source for rule in RULES.fields]


def read(records: Sequence[Any]) -> RequestRows:
    text = json.dumps(records)
    return read_request_rows(from_json(text), lambda: read_value(text), RULES, CONFIG.fleet)


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), ANYTHING) | ANYTHING, max_size=6), st.sampled_from([1, 9]))
def test_each_record_is_read_as_it_would_be_alone(records: list[Any], whole: int) -> None:
    records = [*records, *[WHOLE] * whole]
    found = read(records)
    rows = dict(zip(found.places.tolist(), zip(found.rows.to_pylist(), found.group_keys, strict=True), strict=True))
    assert sorted([*rows, *found.errors]) == list(range(len(records)))
    for place, record in enumerate(read_value(json.dumps(records))):
        if not isinstance(record, dict):
            assert found.errors[place].reason == "not_an_object"
            continue
        expected = read_alone(record)
        if isinstance(expected, RejectedError):
            assert (found.errors[place].reason, found.errors[place].field) == (expected.reason.value, expected.field)
            continue
        row, key = rows[place]
        assert row == expected
        assert key == keys.encode([expected["shop"], expected["dept"]])


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), ANYTHING) | st.just(WHOLE), max_size=4) | st.just([WHOLE, 7]))
def test_plain_values_are_those_of_the_rows_and_there_are_none_if_a_record_has_an_error(records: list[Any]) -> None:
    text = json.dumps(records)
    plain = read_plain_rows(from_json(text), lambda: read_value(text), RULES, CONFIG.fleet)
    features = {RULES.rule_of(name).source for name in CONFIG.fleet.features}
    has_all = all(isinstance(record, dict) and features <= record.keys() for record in records)
    found = read(records) if has_all else None
    assert plain == (found.rows.to_pylist() if found is not None and not found.errors else None)


def read_alone(record: dict[str, Any]) -> dict[str, Any] | RejectedError:
    try:
        return {rule.name: value_of(record, rule, RULES) for rule in RULES.fields}
    except RejectedError as error:
        return error


def test_a_bad_record_has_its_own_error_and_the_others_are_read() -> None:
    found = read([WHOLE, WHOLE | {"unit_price": "much"}, 7, WHOLE | {"dept": None}])
    assert found.places.tolist() == [0]
    assert {place: (error.reason, error.field, error.detail) for place, error in found.errors.items()} == {
        1: ("wrong_type", "price", 'price (field unit_price): expected double; got the text "much"'),
        2: ("not_an_object", None, "expected a JSON object; got a number"),
        3: ("null_key", "dept", "dept: expected int; got null"),
    }


def test_a_value_outside_the_ranges_is_answered_and_no_id_or_time_is_asked_for() -> None:
    found = read([WHOLE | {"unit_price": 1e6}])
    assert (found.errors, found.rows.column("price").to_pylist()) == ({}, [1e6])
    assert found.rows.column("at").to_pylist() == [None]


def test_the_digits_of_a_decimal_are_kept() -> None:
    text = json.dumps([WHOLE]).replace("1.25", "123456.780000000000000000001")
    found = read_request_rows(from_json(text), lambda: read_value(text), RULES, CONFIG.fleet)
    assert found.errors[0].detail.endswith("at most 2 digits after the point")


def test_a_feature_that_no_record_has_is_refused_by_its_name() -> None:
    misspelt = {("price" if name == "unit_price" else name): value for name, value in WHOLE.items()}
    with pytest.raises(ContractError, match="records: field unit_price: expected it in some record, a feature of type"):
        read([misspelt, misspelt])
    assert read([misspelt, WHOLE]).rows.column("price").to_pylist() == [None, 3.5]
    assert read([WHOLE | {"unit_price": None}]).rows.column("price").to_pylist() == [None]
    by_column = request_rules(CONFIG.record_schema, by_column=True)
    text = json.dumps([misspelt])
    found = read_request_rows(from_json(text), lambda: read_value(text), by_column, CONFIG.fleet)
    assert found.rows.column("price").to_pylist() == [3.5]


@pytest.mark.parametrize("count", [1, 9])
def test_records_of_which_none_is_an_object_have_an_error_each(count: int) -> None:
    found = read([7] * count)
    assert (found.group_keys, list(found.errors)) == ([], list(range(count)))
    assert {error.reason for error in found.errors.values()} == {"not_an_object"}


def test_no_records_are_no_rows() -> None:
    assert read([]).group_keys == []


def test_plain_records_are_not_parsed_a_second_time() -> None:
    def never() -> Sequence[Any]:
        pytest.fail("parsed again")

    plain = {name: value for name, value in WHOLE.items() if name != "cost"} | {"cost": 4}
    found = read_request_rows([plain] * 9, never, RULES, CONFIG.fleet)
    assert found.group_keys == ['["a","1"]'] * 9
    assert isinstance(read_value("1"), NumberText)
