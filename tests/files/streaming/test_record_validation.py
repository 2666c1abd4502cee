"""Records read together get the results, values and details that `validate` gives to each."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import messages
from spinney.core.config import parse
from spinney.core.records.doubtful_rows import doubtful_mask
from spinney.core.records.json_columns import JsonColumns, read_json_columns
from spinney.core.records.rules import RecordRules, build_rules
from spinney.core.records.validation import validate
from streaming.record_validation import RecordValidator

RECORDED_AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
RECORDED_US = (RECORDED_AT - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
FLEET = """\
[fleet]
group = ["shop", "dept"]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price", "stock"]
{more}
[fleet.columns]
shop = "string"
dept = "int"
sold = "double"
price = "double"
stock = "int"
day = "date"
seen = "timestamp(ms)"
big = "bigint"
tiny = "tinyint"
flag = "boolean"
small = "float"
cost = "decimal(8,2)"
until = "timestamp"
note = "string"
inside = "double"
within = "double"
posted = "timestamp(d)"
huge = "decimal(30,0)"
fine = "decimal(38,20)"
[fleet.fields]
price = "amount"
inside = "after.amount"
within = "after.net.amount"
[fleet.ranges]
stock = [0, 100]
big = [-5, 9007199254740992]
cost = [0.01, 100]
small = [0.1, 12]
[kafka]
events = "e"
[storage]
root = "r"
"""
GOOD = {
    "shop": "a",
    "dept": 1,
    "sale": "s",
    "at": "2024-05-01T10:00:00Z",
    "sold": 3,
    "amount": 1.5,
    "stock": 2,
    "day": "2024-05-01",
    "seen": 1_714_557_600_000,
    "big": 7,
    "tiny": -3,
    "flag": True,
    "small": 0.1,
    "cost": 12,
    "until": "9999-12-30",
    "note": "it's: so",
    "huge": 10**29 + 1,
    "fine": "123456789012345678.12345678901234567890",
    "after": {"amount": 2.5, "net.amount": 0.5},
    "posted": 19_844,
}
VALUES = [
    *("null", '"null"', '":null"', '"a:b"', '":"', '""', '"x"', '"1.5"', '"{"', '"}"', '"["', '"]"', '"a,b"', '"é"'),
    *("NaN", "Infinity", "1e999", "-1e999", "-0", "-0.0", "0.1e-400", "01", "1.", "12", "3.0", "1E2", "2147483648"),
    *("-1", "x", "0", "2.9999999999999999999", "9007199254740993", "1e-5", "0.30000000000000004", "16777217"),
    *("9" * 30, "-" + "9" * 30, "9" * 31, f'"{"9" * 30}"', f'"{"9" * 18}.{"9" * 20}"', f'"{"9" * 19}.{"9" * 20}"'),
    *("9" * 20, "9" * 400, "-" + "9" * 19, "0." + "1234567890" * 5, "100.00001", "12.50", "true", "false", "128"),
    *("{}", "[]", '{"q":1}', '{"q":"r"}', '{"q":1,"q":2}', '["s"]', '[{"a":1,"a":1}]', "'x'", '{"amount":"7"}'),
    *('{"net":{"amount":1},"net.amount":2}', '{"net":{"amount":1}}', '{"net":null,"net.amount":"8"}'),
    *("19844.0", "2932897", "100.00"),
    *(r'"a\"b"', r'"\u0041"', r'"\n"', r'"\ud800"', '"\x7f"', '"\u0001"', '"2024-05-01T10:00:00Z"', '"2024-13-01"'),
    *('"2099-01-01T00:00:00Z"', '"2024-05-01T10:00:00.123456789+0200"', '"0000-01-01"', '"9999-12-31"', '"2024-05-01"'),
    *('"9999-12-31T23:59:59-01:00"', '"0001-01-01T00:00:00+01:00"', "253402300800000", "-62135596800001"),
    *("-62135596800000", "1714557600000.5", '"0001-01-01"', '"7"', '"007"', '"True"', '" 12 "', '"nan"'),
    *("1", "1.0", "2.0", '"1"', '"yes"', '" F "', '"2024/05/01"', '" 2024-05-01"', "1714557600000.1234567"),
    *("12.5", "0.01", "0.1000000000000000055", "1.5e0", "1e-320", "12345678901234.5", "123456789012345.25"),
    '"' + "x" * 513 + '"',
]  # fmt: skip
NAMES = [
    *(*GOOD, "price", "Shop", "q", "null", ":null", "a:b", "", "i d", "\\u0073hop"),
    *("after.amount", "after.net", "after.net.amount"),
]
AROUND = [*[("", "")] * 6, ("", " "), ("", "x"), ("", ",{}"), ("", "}"), ("\n", ""), ("[", ""), ("\ufeff", "")]
KINDS = ["", "coerce = false", 'missing = ["", "null", "7", "2024-05-01"]', "missing = []"]


def rules(more: str = "") -> RecordRules:
    return build_rules(parse(FLEET.format(more=more), "fleet.toml", {}).record_schema, messages.EVENT)


def altered(random: Random) -> bytes:
    """A good event after up to three changes that a producer may make by mistake or on purpose."""
    fields = [(name, json.dumps(value)) for name, value in GOOD.items()]
    for _ in range(random.choice([0, 1, 1, 1, 2, 3])):
        at, value, change = random.randrange(len(fields)), random.choice(VALUES), random.randrange(4)
        if change < 2:
            fields[at] = (fields[at][0], value)
        elif change == 2:
            fields.insert(at, (random.choice(NAMES), value))
        else:
            del fields[at]
    colon, comma = random.choice([(":", ","), (": ", ", "), (" :\t", " ,\n")])
    before, after = random.choice(AROUND)
    return (before + "{" + comma.join(f'"{name}"{colon}{value}' for name, value in fields) + "}" + after).encode()


def together(records: list[bytes | None], held: RecordRules) -> list[dict[str, Any]]:
    micros, edition = pa.array([RECORDED_US] * len(records)), pa.array([0] * len(records), pa.int32())
    found: list[dict[str, Any]] = (
        RecordValidator((held,)).validate(pa.array(records, pa.binary()), micros, edition).to_pylist()
    )
    return found


def one_by_one(records: list[bytes | None], held: RecordRules) -> list[dict[str, Any]]:
    results = [validate(record, RECORDED_AT, held) for record in records]
    return [
        {
            "value": None if each.values is None else dict(each.values),
            "reason": None if each.reason is None else each.reason.value,
            "detail": None if each.detail is None else each.detail.encode(errors="replace").decode(),
            "field": each.field,
        }
        for each in results
    ]


def exact(rows: list[dict[str, Any]]) -> list[str]:
    """As texts, which tell -0.0 from 0.0 and 12.5 from 12.50."""
    zones = re.compile(r"zoneinfo\.ZoneInfo\(key='UTC'\)|datetime\.timezone\.utc")
    return [zones.sub("UTC", repr(row)) for row in rows]


def doubtful(records: list[bytes | None], held: RecordRules) -> tuple[JsonColumns, np.ndarray[Any, Any]]:
    found = read_json_columns(records, held)
    latest = np.full(len(records), RECORDED_US)
    return found, found.unread | doubtful_mask(held, lambda rule: found.columns[rule.name], latest, len(records))


@pytest.mark.parametrize("more", KINDS)
@pytest.mark.parametrize("size", [1, 3, 500])
def test_records_read_together_are_validated_as_each_alone(more: str, size: int) -> None:
    """Blocks of one size and kinds of fleets; in small blocks a column often has one odd value alone."""
    random, held = Random(size), rules(more)
    for _ in range(max(120 // size, 4)):
        records = [altered(random) if random.random() < 0.98 else None for _ in range(size)]
        got, expected = exact(together(records, held)), exact(one_by_one(records, held))
        assert [triple for triple in zip(records, got, expected, strict=True) if triple[1] != triple[2]] == []


@pytest.mark.parametrize("more", KINDS)
def test_each_value_in_each_field_is_validated_as_alone(more: str) -> None:
    held = rules(more)
    fields = {name: json.dumps(value) for name, value in GOOD.items()}
    texts = [fields | {name: value} for name in fields for value in VALUES]
    records: list[bytes | None] = [
        ("{" + ",".join(f'"{name}":{value}' for name, value in text.items()) + "}").encode() for text in texts
    ]
    got, expected = exact(together(records, held)), exact(one_by_one(records, held))
    assert [triple for triple in zip(records, got, expected, strict=True) if triple[1] != triple[2]] == []


@given(st.lists(st.dictionaries(
    st.sampled_from([name for name in GOOD if name != "after"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates().map(str),
    max_size=4,
), max_size=6), st.booleans())  # fmt: skip
def test_any_values_are_validated_as_each_alone(changes: list[dict[str, Any]], ascii_only: bool) -> None:
    texts = [json.dumps({**GOOD, **change}, ensure_ascii=ascii_only) for change in changes]
    records: list[bytes | None] = [text.encode(errors="surrogatepass") for text in texts]
    held = rules()
    assert exact(together(records, held)) == exact(one_by_one(records, held))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_every_double_is_read_to_the_last_bit(numbers: list[float]) -> None:
    records: list[bytes | None] = [json.dumps({**GOOD, "amount": number}).encode() for number in numbers]
    assert [row["value"]["price"] for row in together(records, rules())] == numbers


def test_usual_events_are_read_together_in_any_spacing_with_nulls_and_with_fields_left_out() -> None:
    """Else each is validated alone, with the same result, ten times as slowly, and no other test would tell."""
    without = {name: value for name, value in GOOD.items() if name not in ("amount", "after", "note", "day")}
    cases = [
        {},
        {"amount": None},
        {"amount": None, "stock": None},
        {"amount": 7},
        {"amount": "12.5", "stock": "3", "flag": "true"},
        {"sale": "a:b, 'c' é"},
        {"sale": 12},
        {"colour": "red", "size": [1, {"of": "x"}]},
        {"until": ""},
        {"seen": "1714557600000"},
        {"cost": "12.50"},
    ]
    usual = [
        json.dumps({**base, **case}, ensure_ascii=False, indent=indent)
        for base in (GOOD, without)
        for case in cases
        for indent in (None, 1)
    ]
    records: list[bytes | None] = [text.encode() for text in usual]
    _, odd = doubtful(records, rules())
    assert [text for text, is_odd in zip(usual, odd.tolist(), strict=True) if is_odd] == []


def test_usual_events_of_a_fleet_that_coerces_nothing_are_read_together_too() -> None:
    typed = {**GOOD, "cost": 12, "fine": 7}
    cases = [{}, {"amount": None}, {"amount": 7}, {"sale": "12"}, {"note": ""}, {"colour": "red"}, {"until": ""}]
    records: list[bytes | None] = [json.dumps({**typed, **case}).encode() for case in cases]
    _, odd = doubtful(records, rules("coerce = false"))
    assert [record for record, is_odd in zip(records, odd.tolist(), strict=True) if is_odd] == []


@pytest.mark.parametrize("name", ["read_json_columns", "doubtful_mask", "RecordValidator._valid_structs"])
def test_a_block_that_cannot_be_read_together_is_validated_record_by_record(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the query would stop at this block at each attempt. The warning comes once, not for each block."""

    def stumble(*_: Any) -> Any:
        raise SystemError(f"stand-in for {name}")

    records: list[bytes | None] = [json.dumps(GOOD).encode(), b"{", None, json.dumps({**GOOD, "stock": 101}).encode()]
    monkeypatch.setattr(f"streaming.record_validation.{name}", stumble)
    for _ in range(3):
        assert exact(together(records, rules())) == exact(one_by_one(records, rules()))
    (warning,) = [each.getMessage() for each in caplog.records]
    assert warning == (
        f"records: expected a block that can be read together; got SystemError: stand-in for {name}. Its records are "
        "validated one by one, which is slower. Please report this message"
    )


def test_a_record_is_read_with_its_types_whatever_other_fields_it_has() -> None:
    (row,) = together([json.dumps({**GOOD, "colour": "red", "size": None}).encode()], rules())
    value = row["value"]
    assert (value["price"], value["inside"], value["shop"], value["dept"]) == (1.5, 2.5, "a", 1)
    assert (value["day"], value["flag"], value["tiny"]) == (date(2024, 5, 1), True, -3)
    assert value["seen"] == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert value["until"] == datetime(9999, 12, 30, tzinfo=UTC)
    assert (row["reason"], row["detail"], row["field"]) == (None, None, None)


def test_a_block_without_records_gives_none() -> None:
    assert together([], rules()) == []
