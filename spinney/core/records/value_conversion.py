"""Convert single JSON values to their declared types.

With `coerce`, a value in another form is accepted if nothing is lost: `"12.50"` for a number, `3.0` or `"3"` for an
integer, `7` for the text `7`. Without it, a value must have its declared type in the JSON itself.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

from spinney.core.records.json_parsing import NumberText
from spinney.core.records.rules import FieldRule
from spinney.core.records.time_parsing import date_of_text, instant_of_number, instant_of_text, unit_description

INTEGER_BITS: Final[Mapping[str, int]] = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
_WIDE_CONTEXT: Final = Context(prec=900)
MAX_EXPONENT: Final = 400
"""Numbers with a larger exponent are not finite as a double, and as integers would have as many digits."""

NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
INTEGER: Final = re.compile(r"[+-]?\d+", re.ASCII)
BOOLEAN_TEXTS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_BOOLEAN_WORDS: Final = {True: ("true", "t", "yes", "y"), False: ("false", "f", "no", "n")}
COERCED_BOOLEAN_TEXTS: Final = {
    spelled: meaning
    for meaning, words in _BOOLEAN_WORDS.items()
    for word in words
    for spelled in (word, word.capitalize(), word.upper())
}
"""Texts that coercion accepts as booleans, in addition to the numbers 0 and 1."""

_FOUR_DIGITS: Final = re.compile(r"[0-9]{4}")
_WHOLE: Final = re.compile(r"(-?[1-9]\d*|0)\.0+", re.ASCII)
"""An integer as a file of floating-point numbers gives it."""

_LEADING_ZEROS: Final = re.compile(r"[+-]?0[0-9]")


class WrongTypeError(Exception):
    """A value does not have the declared type.

    explanation: the cause, such as "its leading zeros would be lost"; empty if naming the type is enough.
    """

    def __init__(self, explanation: str = "") -> None:
        super().__init__(explanation)
        self.explanation = explanation


class NotFiniteError(Exception):
    """A number is infinite or NaN in its declared type."""


def convert_value(value: Any, rule: FieldRule) -> Any:
    """Convert a JSON value to the type of its column. value: as `read_object` returns it, not None.

    Returns: string: str. boolean: bool. Integer types: int. float, double: float, never minus zero. decimal: Decimal of
    the declared scale. date: date. timestamp: datetime in UTC.

    Raises WrongTypeError, NotFiniteError.
    """
    reader = _CONVERTERS.get(rule.type)
    if reader is not None:
        return reader(value, rule)
    return _decimal(value, rule)


def number_text(value: Any, rule: FieldRule) -> str:
    """Return the text of a number. Raises WrongTypeError; NotFiniteError for texts such as NaN and infinity."""
    if isinstance(value, NumberText):
        return value
    if not rule.coerce or not isinstance(value, str):
        raise WrongTypeError
    text = value.strip(" ")
    if NUMBER.fullmatch(text):
        return text
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise NotFiniteError
    raise WrongTypeError


def _string(value: Any, rule: FieldRule) -> str:
    if isinstance(value, NumberText):
        if rule.coerce and INTEGER.fullmatch(value) and value != "-0":
            return str(value)
        if rule.coerce and (whole := _WHOLE.fullmatch(value)):
            return whole[1]
        raise WrongTypeError
    if not isinstance(value, str):
        raise WrongTypeError
    return value


def _boolean(value: Any, rule: FieldRule) -> bool:
    if isinstance(value, bool):
        return value
    if not rule.coerce or not isinstance(value, str):
        raise WrongTypeError
    text = value.strip(" ")
    if text in COERCED_BOOLEAN_TEXTS:
        return COERCED_BOOLEAN_TEXTS[text]
    number = _parse_decimal(text) if NUMBER.fullmatch(text) else None
    if number not in (0, 1):
        raise WrongTypeError
    return number == 1


def _integer(value: Any, rule: FieldRule) -> int:
    text = number_text(value, rule)
    if rule.identity and _LEADING_ZEROS.match(text):
        raise WrongTypeError("its leading zeros would be lost: declare the column as string")
    if not INTEGER.fullmatch(text):
        if not rule.coerce:
            raise WrongTypeError
        number = _parse_decimal(text)
        if number != number.to_integral_value():
            raise WrongTypeError
        whole = int(number)
    elif len(text) > MAX_EXPONENT:
        raise WrongTypeError
    else:
        whole = int(text)
    bits = INTEGER_BITS[rule.type]
    if not -(1 << bits - 1) <= whole < 1 << bits - 1:
        raise WrongTypeError(f"{rule.type} holds {-(1 << bits - 1)} to {(1 << bits - 1) - 1}")
    return whole


def _double(value: Any, rule: FieldRule) -> float:
    number = float(number_text(value, rule))
    if math.isinf(number):
        raise NotFiniteError
    return number + 0.0  # minus zero becomes zero, as in the JVM


def _float(value: Any, rule: FieldRule) -> float:
    number = nearest_float32(_double(value, rule))
    if math.isinf(number):
        raise NotFiniteError
    return number + 0.0


def nearest_float32(number: float) -> float:
    """Return the nearest 32-bit float, infinite if there is none."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return math.copysign(math.inf, number)


def _decimal(value: Any, rule: FieldRule) -> Decimal:
    precision, scale = (int(part) for part in rule.type.removeprefix("decimal(").removesuffix(")").split(","))
    number = _parse_decimal(number_text(value, rule))
    step = Decimal(1).scaleb(-scale)
    # copy_abs(), since abs() rounds to the 28 digits of the default context.
    if number.copy_abs() >= Decimal(1).scaleb(precision - scale):
        raise WrongTypeError(f"at most {precision - scale} digits before the point")
    fitted = number.quantize(step, context=_WIDE_CONTEXT)
    if fitted != number:
        raise WrongTypeError(f"at most {scale} digits after the point")
    return fitted or fitted.copy_abs()  # minus zero is zero


def _parse_decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise WrongTypeError from error
    if number and abs(number.adjusted()) > MAX_EXPONENT:
        raise WrongTypeError
    return number


def _date(value: Any, rule: FieldRule) -> Any:
    found = None if isinstance(value, NumberText) else date_of_text(_text_of_time(value, rule))
    if found is None:
        form = "a date is written like 2024-05-31, years 0001 to 9999"
        if isinstance(value, NumberText):
            form += '; for days since 1970 declare the column as "timestamp(d)"'
        raise WrongTypeError(_years_remedy(value) or form)
    return found


def _timestamp(value: Any, rule: FieldRule) -> Any:
    if rule.unit is not None:
        return _instant_of_unit(value, rule, rule.unit)
    if isinstance(value, NumberText):
        raise WrongTypeError(
            _years_remedy(value)
            or 'for numbers since 1970 declare the column as "timestamp(s)", "timestamp(ms)", "timestamp(us)" or '
            '"timestamp(ns)", for days since 1970 as "timestamp(d)"'
        )
    found = instant_of_text(_text_of_time(value, rule))
    if found is None:
        raise WrongTypeError(
            _years_remedy(value) or "a time is ISO 8601, like 2024-05-31T10:00:00Z, years 0001 to 9999"
        )
    return found


def _instant_of_unit(value: Any, rule: FieldRule, unit: str) -> Any:
    form = f"a time is {unit_description(unit)}, in years 1 to 9999"
    try:
        found = instant_of_number(_parse_decimal(number_text(value, rule)), unit)
    except WrongTypeError as error:
        raise WrongTypeError(form) from error
    if found is None:
        raise WrongTypeError(form)
    return found


def _years_remedy(value: Any) -> str:
    """Return what to do about a value that is only a year, as a number or a text; empty for any other value."""
    is_year = isinstance(value, str) and _FOUR_DIGITS.fullmatch(value.strip(" "))
    return 'for years alone declare the column as "timestamp(year)"' if is_year else ""


def _text_of_time(value: Any, rule: FieldRule) -> str:
    """Return the text of a time, without blanks around it; empty if the value is not one."""
    if not isinstance(value, str):
        return ""
    return value.strip(" ") if rule.coerce else value


_CONVERTERS: Final[Mapping[str, Callable[[Any, FieldRule], Any]]] = {
    "string": _string,
    "boolean": _boolean,
    **dict.fromkeys(INTEGER_BITS, _integer),
    "float": _float,
    "double": _double,
    "date": _date,
    "timestamp": _timestamp,
}
