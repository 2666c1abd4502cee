"""Decimals that are JSON numbers with a fraction: read together with other records, to the last digit."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import messages
from spinney.core.config import parse
from spinney.core.records.json_columns import read_json_columns
from spinney.core.records.rules import build_rules

FLEET = """\
[fleet]
group = ["shop"]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price"]
[fleet.columns]
shop = "string"
price = "decimal(38,18)"
sold = "double"
[kafka]
events = "e"
[storage]
root = "r"
"""
RULES = build_rules(parse(FLEET, "fleet.toml", {}).record_schema, messages.EVENT)


def read(number: str) -> Decimal | None:
    """The price as it is read together with others; None if its record is left to `validate`."""
    record = f'{{"shop":"a","sale":"s","at":"2024-05-01T10:00:00Z","price":{number},"sold":1}}'
    found = read_json_columns([record.encode()], RULES)
    price = found.columns["price"]
    is_left = bool(found.unread[0]) or (price.doubtful is not None and bool(price.doubtful[0]))
    value: Decimal | None = price.values[0].as_py()
    return None if is_left else value


@given(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(1, 15))
@example(10**15 - 1, 1)
@example(-1, 15)
def test_up_to_fifteen_digits_are_read_together_as_they_are(digits: int, places: int) -> None:
    number = Decimal(digits).scaleb(-places)
    expected = None if 0 < abs(number) < Decimal("0.0001") else number  # Python writes it with an exponent
    assert read(format(number, "f")) == expected


@given(st.decimals(allow_nan=False, allow_infinity=False), st.booleans())
@example(Decimal("1.1000000000000000001"), False)
@example(Decimal("1E-330"), True)
@example(Decimal("1234567890123456E-1"), True)
def test_no_decimal_is_read_as_another(number: Decimal, with_exponent: bool) -> None:
    got = read(f"{number:e}" if with_exponent else format(number, "f"))
    assert got is None or got == number


@pytest.mark.parametrize("record", [b"{}", b'{"price":null}', b'{"price":"12345678901234567.25"}'])
def test_a_record_without_a_fraction_is_read_whatever_other_digits_it_has(record: bytes) -> None:
    assert not np.any(read_json_columns([record, b'{"note":12345678901234567890,"price":7}'], RULES).unread)
