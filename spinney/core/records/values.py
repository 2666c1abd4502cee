"""Values of single fields: what of JSON is a value of a declared type, and what it becomes.

With `coerce`, a value in another form is taken where nothing of it is lost: `"12.50"` for a number, `3.0` or `"3"` for
an integer, `7` for the text `7`. Without, a value must have its declared type in the JSON itself.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

from spinney.core.records.json_text import NumberText
from spinney.core.records.rules import FieldRule
from spinney.core.records.times import date_of_text, instant_of_number, instant_of_text

INTEGER_BITS: Final[Mapping[str, int]] = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
_WIDE: Final = Context(prec=900)
MAX_EXPONENT: Final = 400
"""A decimal number with a longer one is no finite double; its integer would have as many digits."""

NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
INTEGER: Final = re.compile(r"[+-]?\d+", re.ASCII)
TRUTHS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class UnfitError(Exception):
    """A value is none of the declared type. why: what is wrong with it beyond its form, or empty."""

    def __init__(self, why: str = "") -> None:
        super().__init__(why)
        self.why = why


class NotFiniteError(Exception):
    """A number is infinite or not a number in its declared type."""


def typed(value: Any, rule: FieldRule) -> Any:
    """Return a present JSON value as its column has it. value: as `read_object` gives it, not None.

    string: str. boolean: bool. Integers: int. float, double: float, never minus zero. decimal: Decimal of the declared
    scale. date: date. timestamp: datetime in UTC.

    Raises UnfitError, NotFiniteError.
    """
    reader = _READERS.get(rule.type)
    if reader is not None:
        return reader(value, rule)
    return _decimal(value, rule)


def number_text(value: Any, rule: FieldRule) -> str:
    """Return the text of a number. Raises UnfitError, and NotFiniteError for the text NaN and its kind."""
    if isinstance(value, NumberText):
        return value
    if not rule.coerce or not isinstance(value, str):
        raise UnfitError
    text = value.strip(" ")
    if NUMBER.fullmatch(text):
        return text
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise NotFiniteError
    raise UnfitError


def _string(value: Any, rule: FieldRule) -> str:
    if isinstance(value, NumberText):
        if rule.coerce and INTEGER.fullmatch(value) and value != "-0":
            return str(value)
        raise UnfitError
    if not isinstance(value, str):
        raise UnfitError
    return value


def _boolean(value: Any, rule: FieldRule) -> bool:
    if isinstance(value, bool):
        return value
    if rule.coerce and isinstance(value, str) and not isinstance(value, NumberText) and value in TRUTHS:
        return TRUTHS[value]
    raise UnfitError


def _integer(value: Any, rule: FieldRule) -> int:
    text = number_text(value, rule)
    if not INTEGER.fullmatch(text):
        if not rule.coerce:
            raise UnfitError
        number = _exact(text)
        if number != number.to_integral_value():
            raise UnfitError
        whole = int(number)
    elif rule.identity and text.lstrip("+-").startswith("0") and len(text.lstrip("+-")) > 1:
        raise UnfitError("its leading zeros would be lost: declare the column as string")
    elif len(text) > MAX_EXPONENT:
        raise UnfitError
    else:
        whole = int(text)
    bits = INTEGER_BITS[rule.type]
    if not -(1 << bits - 1) <= whole < 1 << bits - 1:
        raise UnfitError(f"{rule.type} holds {-(1 << bits - 1)} to {(1 << bits - 1) - 1}")
    return whole


def _double(value: Any, rule: FieldRule) -> float:
    number = float(number_text(value, rule))
    if math.isinf(number):
        raise NotFiniteError
    return number + 0.0  # minus zero is zero, as in the JVM's reading


def _float(value: Any, rule: FieldRule) -> float:
    number = _double(value, rule)
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0]) + 0.0
    except OverflowError as error:
        raise NotFiniteError from error


def _decimal(value: Any, rule: FieldRule) -> Decimal:
    precision, scale = (int(part) for part in rule.type.removeprefix("decimal(").removesuffix(")").split(","))
    number = _exact(number_text(value, rule))
    step = Decimal(1).scaleb(-scale)
    # copy_abs(), since abs() rounds to the 28 digits of the default context.
    if number.copy_abs() >= Decimal(1).scaleb(precision - scale):
        raise UnfitError(f"at most {precision - scale} digits before the point")
    fitted = number.quantize(step, context=_WIDE)
    if fitted != number:
        raise UnfitError(f"at most {scale} digits after the point")
    return fitted or fitted.copy_abs()  # minus zero is zero


def _exact(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise UnfitError from error
    if number and abs(number.adjusted()) > MAX_EXPONENT:
        raise UnfitError
    return number


def _date(value: Any, rule: FieldRule) -> Any:
    del rule
    found = date_of_text(value) if isinstance(value, str) and not isinstance(value, NumberText) else None
    if found is None:
        raise UnfitError("a date is written like 2024-05-31, years 0001 to 9999")
    return found


def _timestamp(value: Any, rule: FieldRule) -> Any:
    if rule.unit is not None:
        found = instant_of_number(_exact(number_text(value, rule)), rule.unit)
        if found is None:
            raise UnfitError(f"a time is a number of {rule.unit} since 1970, in years 1 to 9999, to the microsecond")
        return found
    if isinstance(value, NumberText):
        raise UnfitError(
            'for numbers since 1970 declare the column as "timestamp(s)", "timestamp(ms)" or "timestamp(us)"'
        )
    found = instant_of_text(value) if isinstance(value, str) else None
    if found is None:
        raise UnfitError("a time is ISO 8601, like 2024-05-31T10:00:00Z, years 0001 to 9999")
    return found


_READERS: Final[Mapping[str, Callable[[Any, FieldRule], Any]]] = {
    "string": _string,
    "boolean": _boolean,
    **dict.fromkeys(INTEGER_BITS, _integer),
    "float": _float,
    "double": _double,
    "date": _date,
    "timestamp": _timestamp,
}
