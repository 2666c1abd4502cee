"""A row of a file becomes the message that is validated."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import messages
from schemas.vocabulary import DeadLetterReason as Reason
from spinney.core.records.input_message_encoding import UnrepresentableValue, encode_message
from spinney.core.records.rules import build_rules
from spinney.core.records.validation import validate
from tests.pure.core.records.test_validation import GOOD, RECORDED_AT, fleet

RULES = build_rules(fleet(columns='seen = "timestamp(ms)"').record_schema, messages.EVENT)

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2024, 5, 1, tzinfo=UTC)
EXACT = datetime(2024, 5, 1, 10, 0, 0, 1000, UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def values_of(row: dict[str, Any], *, texts: bool = False) -> Any:
    found = validate(encode_message(row, RULES, texts=row.keys() if texts else ()), RECORDED_AT, RULES)
    return found.values if found.values is not None else (found.reason, found.field)


ROWS: list[tuple[str, str, Any, Any]] = [
    ("NaN is missing", "x", float("nan"), None),
    ("infinity is not", "x", float("inf"), (Reason.NOT_FINITE, "x")),
    ("an integer with gaps, which pandas made a float", "n", 3.0, 3),
    ("a decimal keeps its digits", "price", Decimal("12.50"), Decimal("12.50")),
    ("a decimal for a double", "x", Decimal("0.1"), 0.1),
    ("a small decimal", "price", Decimal("1E-2"), Decimal("0.01")),
    ("a time without a zone is UTC", "valid_to", NOON.replace(tzinfo=None), NOON),
    ("the last moment", "valid_to", LAST, LAST),
    ("a date for a time", "valid_to", date(2024, 5, 1), MIDNIGHT),
    ("a time that messages count in milliseconds", "seen", EXACT, EXACT),
    ("a midnight for a date", "day", MIDNIGHT.replace(tzinfo=None), date(2024, 5, 1)),
    ("bytes for a text", "note", b"K\xc3\xb6ln", "Köln"),
    ("bytes that are no text", "note", b"K\xf6ln", (Reason.NOT_UTF8, "note")),
    ("a list for a number", "x", [1, 2], (Reason.WRONG_TYPE, "x")),
    ("what no text is, in a text", "note", UnrepresentableValue("1e9 years"), (Reason.WRONG_TYPE, "note")),
    ("what no time is, in a time", "valid_to", UnrepresentableValue("1e9 years"), (Reason.WRONG_TYPE, "valid_to")),
    ("a time of day for a text", "note", time(10, 30), "10:30:00"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "field", "value", "expected"), ROWS, ids=[each[0] for each in ROWS])
def test_a_cell_of_a_typed_file_is_validated_as_its_json(name: str, field: str, value: Any, expected: Any) -> None:
    found = values_of({**GOOD, field: value})
    assert (found if isinstance(found, tuple) else found[field]) == expected


@pytest.mark.parametrize(("name", "field", "value", "expected"), ROWS, ids=[each[0] for each in ROWS])
def test_a_field_inside_objects_is_written_by_its_rule_too(name: str, field: str, value: Any, expected: Any) -> None:
    fields = (replace(rule, source=f"after.deep.{field}") if rule.name == field else rule for rule in RULES.fields)
    rules = replace(RULES, fields=tuple(fields))
    good = {name: each for name, each in GOOD.items() if name != field}
    found = validate(encode_message({**good, "after": {"deep": {field: value}}}, rules), RECORDED_AT, rules)
    assert ((found.reason, found.field) if found.values is None else found.values[field]) == expected


def test_an_integer_with_gaps_inside_an_object_is_an_integer_for_strict_fleets_too() -> None:
    strict = build_rules(fleet("coerce = false").record_schema, messages.EVENT)
    rules = replace(strict, fields=(replace(strict.rule_of("n"), source="after.n"),))
    assert encode_message({"after": {"n": 3.0}}, rules) == b'{"after":{"n":3}}'


def test_a_field_inside_an_object_that_no_rule_reads_has_none() -> None:
    fields = (replace(rule, source="after.note") if rule.name == "note" else rule for rule in RULES.fields)
    rules = replace(RULES, fields=tuple(fields))
    inside = {"note": b"x", "b": 1}
    message = json.loads(encode_message({"after": inside, "after.note": "y", "x": {"x": b"x"}, "all": [inside]}, rules))
    assert message == {"after": {"b": 1}, "after.note": "y", "x": {}, "all": [{"b": 1}]}


CELLS: list[tuple[str, str, Any]] = [
    ("x", "1.5", 1.5), ("x", "", None), ("x", "n/a", (Reason.WRONG_TYPE, "x")), ("n", "3", 3), ("n", "3.0", 3),
    ("note", "", None), ("note", "NA", "NA"), ("note", "007", "007"), ("note", "True", "True"), ("note", "1e5", "1e5"),
    ("flag", "True", True), ("flag", "2", (Reason.WRONG_TYPE, "flag")), ("price", "12.50", Decimal("12.50")),
    ("x", ".5", 0.5), ("x", "+5", 5.0), ("seen", "1714557600001", datetime(2024, 5, 1, 10, 0, 0, 1000, UTC)),
    ("valid_to", "2016-01-01", datetime(2016, 1, 1, tzinfo=UTC)), ("store", "07", "07"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "cell", "expected"), CELLS)
def test_a_cell_of_a_csv_file_is_text_until_its_column_says_otherwise(field: str, cell: str, expected: Any) -> None:
    good = {"id": "1", "at": "2024-05-01T10:00:00Z", "store": "007", "sold": "2.0"}
    found = values_of({**good, field: cell}, texts=True)
    assert (found if isinstance(found, tuple) else found[field]) == expected


def test_numbers_of_a_csv_file_are_numbers_in_its_messages_so_that_strict_fleets_take_them() -> None:
    rules = build_rules(fleet("coerce = false").record_schema, messages.EVENT)
    message = encode_message(
        {"x": "1.50", "n": "3", "flag": "FALSE", "note": "3"}, rules, texts={"x", "n", "flag", "note"}
    )
    assert message == b'{"x":1.50,"n":3,"flag":false,"note":"3"}'


def test_undeclared_columns_that_json_cannot_say_are_left_out_and_others_are_sent() -> None:
    row = {
        "other": 1,
        "took": timedelta(1),
        "raw": b"x",
        "at all": [b"x", date(2024, 1, 1)],
        "deep": {"a": b"x", "b": 1},
    }
    message = json.loads(encode_message({**GOOD, **row}, RULES))
    assert {name: message[name] for name in message if name not in GOOD} == {
        "other": 1, "at all": [None, "2024-01-01"], "deep": {"b": 1}
    }  # fmt: skip


@given(st.text(st.characters()), st.text(st.characters(exclude_categories=[])))
def test_any_name_and_text_of_a_row_comes_back_from_its_message(name: str, text: str) -> None:
    message = json.loads(encode_message({f"_{name}": text}, RULES))
    assert message == {f"_{name}": text}


@given(st.floats(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False, places=2))
def test_any_number_of_a_row_comes_back_exactly(number: float, decimal: Decimal) -> None:
    found = values_of({**GOOD, "x": number})
    assert found["x"] == number
    message = json.loads(encode_message({"q": decimal}, RULES), parse_float=Decimal, parse_int=Decimal)
    assert message["q"] == decimal
