"""Which records are valid, what their values are, and the reason of each that is not."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from schemas import messages
from schemas.vocabulary import DeadLetterReason as Reason
from spinney.core.config import Config, parse
from spinney.core.records.rules import ValidationSettings, build_rules
from spinney.core.records.validation import ValidationResult, validate

RECORDED_AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
FLEET = """\
[fleet]
group = ["store"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["x", "n", "price", "flag", "day", "valid_to", "note", "small"]
{more}
[fleet.columns]
store = "string"
sold = "double"
x = "double"
n = "int"
price = "decimal(10,2)"
flag = "boolean"
day = "date"
valid_to = "timestamp"
note = "string"
small = "float"
wide = "decimal(30,0)"
fine = "decimal(38,29)"
{columns}
[fleet.ranges]
n = [-100, 1000]
[kafka]
events = "e"
[storage]
root = "r"
"""
GOOD = {"id": "1", "at": "2024-05-01T10:00:00Z", "store": "007", "sold": 2.0}


def fleet(more: str = "", columns: str = "") -> Config:
    return parse(FLEET.format(more=more, columns=columns), "fleet.toml", {})


def validated(
    value: bytes | None, config: Config | None = None, settings: ValidationSettings | None = None
) -> ValidationResult:
    return validate(value, RECORDED_AT, build_rules((config or fleet()).record_schema, messages.EVENT, settings))


def record(**changes: Any) -> bytes:
    """A valid event with some fields changed; a value that is bytes stands in the JSON as it is."""
    texts = (f'"{name}":{value.decode() if isinstance(value, bytes) else json.dumps(value)}'
             for name, value in (GOOD | changes).items())  # fmt: skip
    return ("{" + ",".join(texts) + "}").encode()


VALUES: list[tuple[str, str, Any, Any]] = [
    ("a double", "x", 1.5, 1.5),
    ("a whole number for a double", "x", 7, 7.0),
    ("a double as text, as Debezium sends decimals", "x", "12.50", 12.5),
    ("minus zero", "x", b"-0.0", 0.0),
    ("a text with an exponent", "x", "1e3", 1000.0),
    ("a number in blanks", "x", " 12 ", 12.0),
    ("a missing number", "x", "", None),
    ("an integer as 3.0", "n", b"3.0", 3),
    ("an integer with an exponent", "n", b"1e2", 100),
    ("an integer as text", "n", "3", 3),
    ("leading zeros of a number that is no key", "n", "007", 7),
    ("an exact decimal", "price", b"12.50", Decimal("12.50")),
    ("a decimal as text", "price", "12.5", Decimal("12.50")),
    ("the greatest decimal", "price", b"99999999.99", Decimal("99999999.99")),
    ("more digits than Python's default", "wide", b"9" * 30, Decimal("9" * 30)),
    ("the least decimal of 30 digits", "wide", b"-" + b"9" * 30, Decimal("-" + "9" * 30)),
    ("many digits after the point", "fine", "123456789." + "9" * 29, Decimal("123456789." + "9" * 29)),
    ("a decimal zero with a minus", "fine", b"-0", Decimal("0." + "0" * 29)),
    ("truth", "flag", True, True),
    ("truth as pandas writes it to CSV", "flag", "True", True),
    ("a day", "day", "2024-02-29", date(2024, 2, 29)),
    ("the first day", "day", "0001-01-01", date(1, 1, 1)),
    ("the last day", "day", "9999-12-31", date(9999, 12, 31)),
    ("a midnight for a day", "day", "2024-02-29T00:00:00.000Z", date(2024, 2, 29)),
    ("the last moment", "valid_to", "9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)),
    ("the first moment", "valid_to", "0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ("no seconds", "valid_to", "2024-05-01T10:00Z", datetime(2024, 5, 1, 10, tzinfo=UTC)),
    ("no seconds, another zone", "valid_to", "2024-05-01T10:00+02:00", datetime(2024, 5, 1, 8, tzinfo=UTC)),
    ("hours of an offset alone", "valid_to", "2024-05-01 10:00:00+00", datetime(2024, 5, 1, 10, tzinfo=UTC)),
    ("an offset without a colon", "valid_to", "2024-05-01 10:00:00-0530", datetime(2024, 5, 1, 15, 30, tzinfo=UTC)),
    ("a date alone", "valid_to", "2016-01-01", datetime(2016, 1, 1, tzinfo=UTC)),
    ("the basic form", "valid_to", "20240501T100000Z", datetime(2024, 5, 1, 10, tzinfo=UTC)),
    ("no zone", "valid_to", "2024-05-01T10:00:00.25", datetime(2024, 5, 1, 10, 0, 0, 250000, UTC)),
    ("a comma before the fraction", "valid_to", "2024-05-01T10:00:00,5Z", datetime(2024, 5, 1, 10, 0, 0, 500000, UTC)),
    ("nanoseconds are cut off", "valid_to", "2024-05-01T10:00:00.123456789Z",
     datetime(2024, 5, 1, 10, 0, 0, 123456, UTC)),
    ("the end of a day", "valid_to", "2024-05-01T24:00:00Z", datetime(2024, 5, 2, tzinfo=UTC)),
    ("a zone in words", "valid_to", "2024-05-01 10:00:00 UTC", datetime(2024, 5, 1, 10, tzinfo=UTC)),
    *((f"the text {text!r}", "note", text, text) for text in ("NA", "null", "007", "1e5", "True", "", " a", "ü€𝄞")),
    ("an integer for a text", "note", 7, "7"),
    ("a long integer for a text", "note", 10**30, "1" + "0" * 30),
    ("a pair of surrogates", "note", b'"\\ud83d\\ude00"', "😀"),
    ("a float that a float holds", "small", 0.5, 0.5),
    ("a group that looks like a number", "store", "007", "007"),
    ("an integer as a group", "store", 7, "7"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "field", "value", "expected"), VALUES, ids=[each[0] for each in VALUES])
def test_a_value_in_any_usual_form_is_read_without_loss(name: str, field: str, value: Any, expected: Any) -> None:
    found = validated(record(**{field: value}))
    assert (found.reason, found.detail) == (None, None)
    assert found.values is not None
    assert found.values[field] == expected
    assert type(found.values[field]) is type(expected)
    assert str(found.values[field]) == str(expected)  # tells 0.0 from -0.0 and 12.5 from 12.50


DEAD: list[tuple[str, bytes | None, Reason, str | None, str]] = [
    ("a tombstone", None, Reason.NULL_VALUE, None, "no value"),
    ("an empty value", b"", Reason.NOT_JSON, None, "an empty value"),
    ("blanks", b" \n", Reason.NOT_JSON, None, "an empty value"),
    ("a byte order mark", b"\xef\xbb\xbf" + record(), Reason.NOT_JSON, None, "byte order mark"),
    ("NaN", record(x=b"NaN"), Reason.NOT_JSON, None, "got NaN, which it does not have"),
    ("-Infinity", record(x=b"-Infinity"), Reason.NOT_JSON, None, "got -Infinity"),
    ("a schema registry", b"\0\0\0\0\x07" + record(), Reason.NOT_JSON, None, "a zero and an id: send plain JSON"),
    ("Avro", b"\0\0\0\0\x07\x02\xff", Reason.NOT_UTF8, None, "0xff at byte 6. It begins as serializers of a schema"),
    ("UTF-16", record().decode().encode("utf-16"), Reason.NOT_UTF8, None, "0xff at byte 0. It begins as UTF-16 does"),
    ("UTF-16 without a mark", record().decode().encode("utf-16-le"), Reason.NOT_JSON, None, "It begins as UTF-16 does"),
    ("UTF-16, turned", record().decode().encode("utf-16-be"), Reason.NOT_JSON, None, "It begins as UTF-16 does"),
    ("gzip", gzip.compress(record()), Reason.NOT_UTF8, None, "0x8b at byte 1. It begins as gzip does: send plain JSON"),
    ("zeros alone", b"\0" * 5, Reason.NOT_JSON, None, 'got "\\u0000\\u0000\\u0000\\u0000\\u0000": Expecting value at'),
    ("text behind the object", record() + b" x", Reason.NOT_JSON, None, "Extra data"),
    ("a line break in a text", record(note=b'"a\nb"'), Reason.NOT_JSON, None, "Invalid control character at character"),
    ("nested too deep", b'{"a":' * 100_000, Reason.NOT_JSON, None, "more than 500 objects and arrays in one another"),
    ("one bracket too many", record(q=b"[" * 500 + b"]" * 500), Reason.NOT_JSON, None, "more than 500"),
    ("a name twice", record(x=b'1,"x":2'), Reason.DUPLICATE_FIELD, None, '"x" twice'),
    ("a name twice, escaped", record(x=b'1,"\\u0078":2'), Reason.DUPLICATE_FIELD, None, '"x" twice'),
    ("a name twice, deep in an unknown field", record(q=b'[{"b":1,"b":2}]'), Reason.DUPLICATE_FIELD, None, '"b"'),
    ("no object", b"[1]", Reason.NOT_AN_OBJECT, None, "got an array"),
    ("not UTF-8", b'{"id":"\xff"}', Reason.NOT_UTF8, None, "0xff at byte 7"),
    ("half of a surrogate pair", record(id=b'"a\\ud83d"'), Reason.NOT_UTF8, "id", "unpaired surrogate"),
    ("too large", record(note="x" * (1 << 20)), Reason.TOO_LARGE, None, "expected at most 1048576 bytes"),
    ("no id", record(id=None), Reason.MISSING_FIELD, "id", "expected string; got null"),
    ("no group", record(store=None), Reason.NULL_KEY, "store", "expected string; got null"),
    ("an empty group", record(store=""), Reason.EMPTY_ID, "store", "got an empty one"),
    ("a long id", record(id="x" * 513), Reason.ID_TOO_LONG, "id", "got 513"),
    ("a control character", record(id="a\x7f"), Reason.CONTROL_CHARACTER, "id", "without control characters"),
    ("words for a number", record(x="n/a"), Reason.WRONG_TYPE, "x", 'got the text "n/a"'),
    ("digits with separators", record(x="1,000"), Reason.WRONG_TYPE, "x", "expected double"),
    ("digits of another script", record(x="١٢"), Reason.WRONG_TYPE, "x", "expected double"),
    ("Python's own digits", record(x="1_000"), Reason.WRONG_TYPE, "x", "expected double"),
    ("truth for a number", record(x=True), Reason.WRONG_TYPE, "x", "got true"),
    ("a number for truth", record(flag=2), Reason.WRONG_TYPE, "flag", "got the number 2"),
    ("an array", record(x=[1]), Reason.WRONG_TYPE, "x", "got an array"),
    ("a fraction for an integer", record(n=1.5), Reason.WRONG_TYPE, "n", "expected int"),
    ("an integer that is too great", record(n=2**31), Reason.WRONG_TYPE, "n", "int holds -2147483648 to 2147483647"),
    ("an integer with 5,000 digits", record(n=b"9" * 5000), Reason.WRONG_TYPE, "n", "expected int"),
    ("an enormous exponent", record(n=b"1e999999999"), Reason.WRONG_TYPE, "n", "expected int"),
    ("a digit too many", record(wide=b"1" + b"0" * 30), Reason.WRONG_TYPE, "wide", "at most 30 digits before"),
    ("a third decimal", record(price=b"12.505"), Reason.WRONG_TYPE, "price", "at most 2 digits after the point"),
    ("a ninth digit", record(price=b"100000000"), Reason.WRONG_TYPE, "price", "at most 8 digits before the point"),
    ("a fraction for a text", record(note=12.5), Reason.WRONG_TYPE, "note", "expected string"),
    ("truth for a text", record(note=True), Reason.WRONG_TYPE, "note", "expected string"),
    ("infinity written out", record(x=b"1e999"), Reason.NOT_FINITE, "x", "expected a finite double"),
    ("NaN as text", record(x="NaN"), Reason.NOT_FINITE, "x", 'got the text "NaN"'),
    ("beyond a float", record(small=1e39), Reason.NOT_FINITE, "small", "expected a finite float"),
    ("the year 0", record(day="0000-01-01"), Reason.WRONG_TYPE, "day", "years 0001 to 9999"),
    ("a time of day for a day", record(day="2024-02-29T10:00:00Z"), Reason.WRONG_TYPE, "day", "expected date"),
    ("a day that is none", record(day="2023-02-29"), Reason.WRONG_TYPE, "day", "expected date"),
    ("a time in words", record(valid_to="soon"), Reason.WRONG_TYPE, "valid_to", "ISO 8601"),
    ("seconds without a declaration", record(valid_to=1714557600), Reason.WRONG_TYPE, "valid_to", "timestamp(s)"),
    ("year 0 in UTC", record(valid_to="0001-01-01T00:00+01:00"), Reason.WRONG_TYPE, "valid_to", "years 0001"),
    ("out of its range", record(n=1001), Reason.OUT_OF_RANGE, "n", "expected -100 to 1000; got 1001"),
    ("an hour and a second ahead", record(at="2024-05-01T13:00:01Z"), Reason.TIME_OUT_OF_RANGE, "at", "3600 s after"),
    ("before 1970", record(at="1969-12-31T23:59:59Z"), Reason.TIME_OUT_OF_RANGE, "at", "between 1970"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "reason", "field", "says"), DEAD, ids=[each[0] for each in DEAD])
def test_a_bad_record_gets_its_true_cause(
    name: str, value: bytes | None, reason: Reason, field: str | None, says: str
) -> None:
    found = validated(value)
    assert (found.values, found.reason, found.field) == (None, reason, field)
    assert found.detail is not None
    assert says in found.detail
    assert len(found.detail.encode()) <= 2000
    assert "\ud83d" not in found.detail


STRICT: list[tuple[str, Any, Any]] = [
    ("x", "12.50", Reason.WRONG_TYPE), ("x", 7, 7.0), ("n", b"3.0", Reason.WRONG_TYPE), ("n", "3", Reason.WRONG_TYPE),
    ("note", 7, Reason.WRONG_TYPE), ("flag", "true", Reason.WRONG_TYPE), ("price", "12.5", Reason.WRONG_TYPE),
    ("day", "2024-02-29", date(2024, 2, 29)),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "expected"), STRICT)
def test_without_coercion_a_value_has_its_declared_type_in_the_json_itself(
    field: str, value: Any, expected: Any
) -> None:
    found = validated(record(**{field: value}), fleet("coerce = false"))
    assert (found.reason if found.values is None else found.values[field]) == expected


UNITS: list[tuple[str, Any, datetime | None]] = [
    ("timestamp(s)", 1714557600, datetime(2024, 5, 1, 10, tzinfo=UTC)),
    ("timestamp(s)", 1714557600.25, datetime(2024, 5, 1, 10, 0, 0, 250000, UTC)),
    ("timestamp(ms)", 1714557600001, datetime(2024, 5, 1, 10, 0, 0, 1000, UTC)),
    ("timestamp(us)", 1714557600000001, datetime(2024, 5, 1, 10, 0, 0, 1, UTC)),
    ("timestamp(ms)", "1714557600001", datetime(2024, 5, 1, 10, 0, 0, 1000, UTC)),
    ("timestamp(us)", 1714557600000000.5, datetime(2024, 5, 1, 10, tzinfo=UTC)),
    ("timestamp(s)", 1714557600.1234567, datetime(2024, 5, 1, 10, 0, 0, 123456, UTC)),
    ("timestamp(s)", -0.0000001, datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
    ("timestamp(ns)", 1714557600000001999, datetime(2024, 5, 1, 10, 0, 0, 1, UTC)),
    ("timestamp(ns)", -1, datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
    ("timestamp(d)", 19844, datetime(2024, 5, 1, tzinfo=UTC)),
    ("timestamp(d)", "19844.0", datetime(2024, 5, 1, tzinfo=UTC)),
    ("timestamp(d)", -719162, datetime(1, 1, 1, tzinfo=UTC)),
    ("timestamp(d)", 2932896, datetime(9999, 12, 31, tzinfo=UTC)),
    ("timestamp(d)", 2932897, None),
    ("timestamp(d)", 1e300, None),
    ("timestamp(d)", 19844.5, None),
    ("timestamp(d)", "2024-05-01", None),
    ("timestamp(year)", 2024, datetime(2024, 1, 1, tzinfo=UTC)),
    ("timestamp(year)", "0987", datetime(987, 1, 1, tzinfo=UTC)),
    ("timestamp(year)", 2024.0, datetime(2024, 1, 1, tzinfo=UTC)),
    ("timestamp(year)", 9999, datetime(9999, 1, 1, tzinfo=UTC)),
    ("timestamp(year)", 2024.5, None),
    ("timestamp(year)", 0, None),
    ("timestamp(year)", 10_000, None),
    ("timestamp(year)", "2024-01-01", None),
    ("timestamp(s)", 1714557600001, None),
    ("timestamp(ms)", "2024-05-01T10:00:00Z", None),
]


@pytest.mark.parametrize(("kind", "value", "expected"), UNITS)
def test_times_are_numbers_since_1970_where_they_are_declared_so(
    kind: str, value: Any, expected: datetime | None
) -> None:
    found = validated(record(seen=value), fleet(columns=f'seen = "{kind}"'))
    assert (found.values or {}).get("seen") == expected
    assert found.reason == (None if expected else Reason.WRONG_TYPE)


@pytest.mark.parametrize(
    ("unit", "form"), [("ms", "a number of ms since 1970"), ("d", "a number of days since 1970"), ("year", "a year")]
)
@pytest.mark.parametrize("value", ["2024-05-01T10:00:00Z", "soon", True, 1e25])
def test_what_is_no_number_of_a_unit_is_rejected_with_the_form_of_its_times(unit: str, form: str, value: Any) -> None:
    found = validated(record(seen=value), fleet(columns=f'seen = "timestamp({unit})"'))
    assert found.reason == Reason.WRONG_TYPE
    assert (found.detail or "").endswith(f": a time is {form}, in years 1 to 9999")


@pytest.mark.parametrize("field", ["seen", "day", "valid_to"])
@pytest.mark.parametrize("value", [2013, "2013", " 2013 "])
def test_a_year_alone_in_a_column_of_times_is_rejected_with_the_type_that_takes_it(field: str, value: Any) -> None:
    found = validated(record(**{field: value}), fleet(columns='seen = "timestamp"'))
    assert (found.reason, found.field) == (Reason.WRONG_TYPE, field)
    assert found.detail is not None
    assert found.detail.endswith('for years alone declare the column as "timestamp(year)"')


def test_a_number_in_a_column_of_dates_is_rejected_with_the_type_that_takes_days() -> None:
    found = validated(record(day=19844))
    assert (found.reason, found.field) == (Reason.WRONG_TYPE, "day")
    assert (found.detail or "").endswith('for days since 1970 declare the column as "timestamp(d)"')


def ranged(ranges: str) -> Config:
    return parse(FLEET.format(more="", columns="").replace("n = [-100, 1000]", ranges), "fleet.toml", {})


RANGES: list[tuple[str, str, list[Any], list[Any]]] = [
    ("price", "[0.1, 0.3]", ["0.10", "0.3", 0.2], ["0.09", "0.31"]),
    ("small", "[0.1, 0.3]", [0.1, "0.3", 0.2], [0.0999999, 0.3000001]),
    ("x", "[0.1, 0.3]", [0.1, "0.3", 0.2], [0.09999999999999999, 0.30000000000000004]),
    ("n", "[-5, 5]", [-5, 5, "0"], [-6, 6]),
    ("small", "[-1e39, 1e39]", [-3e38, 3e38], []),
]


@pytest.mark.parametrize(("field", "ends", "inside", "outside"), RANGES)
def test_the_ends_of_a_range_are_inside_whatever_type_holds_them(
    field: str, ends: str, inside: list[Any], outside: list[Any]
) -> None:
    config = ranged(f"{field} = {ends}")
    assert [validated(record(**{field: value}), config).reason for value in inside] == [None] * len(inside)
    found = [validated(record(**{field: value}), config).reason for value in outside]
    assert found == [Reason.OUT_OF_RANGE] * len(outside)


def test_the_ends_of_a_range_are_named_with_all_their_digits() -> None:
    found = validated(record(x=1234567.5), ranged("x = [-0.5, 1234567]"))
    assert found.detail == "x: expected -0.5 to 1234567.0; got 1234567.5"


def test_a_field_may_have_another_name_and_stand_in_an_object() -> None:
    config = fleet('fields = { id = "Row ID", x = "after.amount", note = "temp.f", n = "a`b" }')
    message = {"Row ID": 12, "at": GOOD["at"], "store": "a", "sold": 1, "after": {"amount": "3.50"}, "temp.f": "hot",
               "a`b": 4, "op": "c"}  # fmt: skip
    found = validated(json.dumps(message).encode(), config)
    assert found.values is not None
    assert {name: found.values[name] for name in ("id", "x", "note", "n")} == {
        "id": "12", "x": 3.5, "note": "hot", "n": 4
    }  # fmt: skip


def test_a_nested_field_that_is_not_there_is_null_and_a_required_one_is_named_with_its_path() -> None:
    config = fleet('fields = { sold = "after.amount", store = "after.store" }')
    values = ({"after": None}, {"after": 3}, {"after": {"amount": 2}}, {})
    found = [validated(json.dumps({"id": "1", "at": GOOD["at"], **each}).encode(), config) for each in values]
    assert {each.reason for each in found} == {Reason.NULL_KEY}
    assert found[0].detail == "store (field after.store): expected string; got nothing"


def test_what_is_there_in_place_of_a_required_value_is_named() -> None:
    config = fleet('fields = { at = "after.at" }')
    values: list[Any] = [{}, {"at": None}, {"at": ""}]
    found = [validated(json.dumps({"id": "1", "store": "a", "after": each}).encode(), config) for each in values]
    assert {each.reason for each in found} == {Reason.MISSING_FIELD}
    details = [(each.detail or "").partition("; ")[2] for each in found]
    assert details == ["got nothing", "got null", 'got the text ""']


def test_texts_that_mean_missing_are_configured_and_never_apply_to_text_in_json() -> None:
    config = fleet('missing = ["", "NA", "n/a"]')
    found = validated(record(x="n/a", note="NA", n="NA"), config)
    assert found.values is not None
    assert (found.values["x"], found.values["n"], found.values["note"]) == (None, None, "NA")


def test_what_is_nested_as_deep_as_may_be_is_read_and_brackets_in_texts_do_not_count() -> None:
    deep = record(q=b"[" * 499 + b"]" * 499, r=b'"\\"' + b"[{" * 5000 + b'"')
    assert validated(deep).reason is None


def test_a_number_in_json_is_never_taken_for_a_text_that_means_missing() -> None:
    config = fleet('missing = ["-999"]')
    found = validated(record(x=-999, small="-999"), config)
    assert found.values is not None
    assert (found.values["x"], found.values["small"]) == (-999.0, None)


@pytest.mark.parametrize("key", ["007", "-007", "007.0", "07e0", "00"])
def test_leading_zeros_of_a_key_are_never_lost(key: str) -> None:
    config = parse(FLEET.format(more="", columns="").replace('store = "string"', 'store = "bigint"'), "fleet.toml", {})
    found = validated(record(store=key), config)
    assert (found.reason, found.field) == (Reason.WRONG_TYPE, "store")
    assert "leading zeros" in (found.detail or "")
    for text, number in {"7": 7, "-7.0": -7, "0": 0, "0.0": 0}.items():
        assert (validated(record(store=text), config).values or {})["store"] == number


def test_a_column_may_be_called_like_the_sign_for_every_column() -> None:
    text = FLEET.format(more="", columns="").replace('["store"]', '["*"]').replace("store =", '"*" =')
    found = validated(record(**{"*": "a"}), parse(text, "fleet.toml", {}))
    assert found.values is not None
    assert found.values["*"] == "a"


def test_an_older_basis_validates_by_what_held_then() -> None:
    settings = ValidationSettings(ranges={"n": (0.0, 5.0)}, coerce=False)
    assert validated(record(n=6), settings=settings).reason == Reason.OUT_OF_RANGE
    assert validated(record(x="1"), settings=settings).reason == Reason.WRONG_TYPE
    assert validated(record(n=6)).reason is None


def test_an_outcome_needs_its_group_its_label_and_when_it_was_seen() -> None:
    text = FLEET.format(more="", columns='observed_at = "timestamp(ms)"').replace(
        'events = "e"', 'events = "e"\noutcomes = "o"'
    )
    rules = build_rules(parse(text, "fleet.toml", {}).record_schema, messages.OUTCOME)
    good = {"id": "1", "store": "a", "sold": 3, "observed_at": 1714557600000}
    assert [rule.name for rule in rules.fields] == ["id", "store", "sold", "observed_at"]
    found = validate(json.dumps(good).encode(), RECORDED_AT, rules)
    assert found.values == {"id": "1", "store": "a", "sold": 3.0, "observed_at": datetime(2024, 5, 1, 10, tzinfo=UTC)}
    for name in good:
        assert validate(json.dumps({**good, name: None}).encode(), RECORDED_AT, rules).reason in (
            Reason.MISSING_FIELD, Reason.NULL_KEY
        )  # fmt: skip
