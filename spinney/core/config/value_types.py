"""Types of single values, and the messages for invalid ones."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from schemas.vocabulary import ESTIMATED
from spinney.core import durations

INTEGERS = ("tinyint", "smallint", "int", "bigint")
NUMBERS = (*INTEGERS, "float", "double", "decimal")
"""Column types a range can be given for; a decimal is ``decimal(p,s)`` in full, see `is_number`."""

TYPES = (
    *("string", "boolean", *INTEGERS, "float", "double", "decimal(p,s)", "date", "timestamp"),
    *("timestamp(s)", "timestamp(ms)", "timestamp(us)", "timestamp(ns)", "timestamp(d)", "timestamp(year)"),
)
"""Types that `[fleet.columns]` accepts.

In messages a timestamp with a unit is a number since 1970, or a year; without a unit it is ISO 8601 text.
"""

EVERY_COLUMN = "*"
"""As the field of the id in `[fleet.fields]`: the id is a hash of the record's other columns."""

BUILT_IN_RULE = "not_worse"
"""The rule of the gate that is not a user's own."""

_ALIASES = {
    "byte": "tinyint",
    "short": "smallint",
    "integer": "int",
    "long": "bigint",
    "real": "float",
    "bool": "boolean",
    "dec": "decimal(10,0)",
    "decimal": "decimal(10,0)",
    "numeric": "decimal(10,0)",
}
_TIME_UNIT = re.compile(r"timestamp\s*\(\s*(s|ms|us|ns|d|year)\s*\)")
_DECIMAL = re.compile(r"(?:dec|decimal|numeric)\s*\(\s*([0-9]{1,2})\s*(?:,\s*([0-9]{1,2})\s*)?\)")
_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
_MODULE_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_NOT_PLAIN_PATH = re.compile(r"^[^/]*:|[%?#*\[\]{}\\^|<>\x00-\x1f]")
MAX_PRECISION = 38
_EXPECTED_AT_MOST = f"a duration of at most {durations.LONGEST.days}d"
_EXPECTED_POSITIVE = "a duration longer than nothing"
PLAIN_PATH = "a path without % ? # * [ ] { } \\ ^ | < >, or file:/// and such a path"
_EXPECTED_RULE = '"not_worse", or "module:name" of a rule of your own'
_EXPECTED_TYPE = f"a column type: {', '.join(TYPES)}"


def invalid_value(expected: str, got: Any, remedy: str = "") -> PydanticCustomError:
    """Return the error that becomes a finding with these texts. got: the value itself."""
    return PydanticCustomError("refused", "expected {expected}", {"expected": expected, "got": got, "remedy": remedy})


class ColumnType(str):
    """A Spark SQL type. unit: "s", "ms", "us", "ns" or "d" for a timestamp that is a number since 1970 in messages,
    "year" for one that is a year, else None.
    """

    __slots__ = ("unit",)
    unit: str | None

    def __new__(cls, kind: str, unit: str | None = None) -> Self:
        """Create a type with its unit."""
        instance = super().__new__(cls, kind)
        instance.unit = unit
        return instance

    def __getnewargs__(self) -> tuple[str, str | None]:  # type: ignore[override]
        return str(self), self.unit

    @property
    def declared(self) -> str:
        """The type as `[fleet.columns]` declares it."""
        return str(self) if self.unit is None else f"{self}({self.unit})"


def declared_type(kind: str) -> str:
    """Return a column's type with its unit, as written in `[fleet.columns]`: ``timestamp(ms)``, not ``timestamp``."""
    return kind.declared if isinstance(kind, ColumnType) else kind


def time_unit(kind: str) -> str | None:
    """Return the unit of a timestamp that is a number in messages; None for ISO 8601 text and for other types."""
    return kind.unit if isinstance(kind, ColumnType) else None


def _to_column_type(kind: str) -> ColumnType:
    if isinstance(kind, ColumnType):
        return kind
    unit = _TIME_UNIT.fullmatch(kind)
    return ColumnType("timestamp", unit[1]) if unit else ColumnType(kind)


def is_number(kind: str) -> bool:
    """Return whether a Spark SQL type is numeric."""
    return kind in NUMBERS or kind.startswith("decimal(")


def column_type(text: str) -> str | None:
    """Return the canonical spelling of a Spark SQL type (``"LONG"`` -> ``"bigint"``); None if it is not supported."""
    word = text.strip().lower()
    if decimal := _DECIMAL.fullmatch(word):
        precision, scale = int(decimal[1]), int(decimal[2] or 0)
        return f"decimal({precision},{scale})" if 1 <= precision <= MAX_PRECISION and scale <= precision else None
    if unit := _TIME_UNIT.fullmatch(word):
        return f"timestamp({unit[1]})"
    word = _ALIASES.get(word, word)
    return word if word in TYPES or word == "decimal(10,0)" else None


def is_module_name(text: str) -> bool:
    """Return whether a text has the form ``"module:name"``."""
    return _MODULE_NAME.fullmatch(text) is not None


def _parse_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise invalid_value(durations.EXPECTED, value, "A bare number has no unit: write it as a string, with one.")
    try:
        return durations.parse(value)
    except ValueError as error:
        suggestion = durations.suggest_spelling(value)
        if str(error).startswith("expected at most"):
            raise invalid_value(_EXPECTED_AT_MOST, value) from error
        raise invalid_value(durations.EXPECTED, value, f'Did you mean "{suggestion}"?' if suggestion else "") from error


def _check_positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise invalid_value(_EXPECTED_POSITIVE, durations.render(value))
    return value


def _check_topic(value: Any) -> str:
    if not isinstance(value, str) or not _TOPIC.fullmatch(value):
        expected = "a topic name: 1 to 249 letters, digits, `.`, `_` or `-`"
        raise invalid_value(expected, value, "Without such a topic, remove the key." if value == "" else "")
    return value


def local_path(location: str) -> str | None:
    """Return the path of a location in this machine's file systems; None for another store.

    Also None for characters that Spark, Delta and Python interpret differently: percent signs, patterns, URI
    delimiters.
    """
    path = location.removeprefix("file://") if location.startswith("file:///") else location
    return None if _NOT_PLAIN_PATH.search(path) else path


def _check_root(value: Any) -> Any:
    if isinstance(value, str) and value and local_path(value) is None:
        raise invalid_value(
            PLAIN_PATH, value, "Object stores and other file systems are not supported yet: name a folder."
        )
    return value


def _check_gate_rule(value: Any) -> str:
    if isinstance(value, str) and (value == BUILT_IN_RULE or is_module_name(value)):
        return value
    raise invalid_value(_EXPECTED_RULE, value)


def _check_pooling_rows(value: Any) -> float | str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == ESTIMATED or (is_number and 0 < value < math.inf):
        return value  # type: ignore[no-any-return]
    raise invalid_value(f'a number of more than 0, or "{ESTIMATED}"', value)


def _check_policy(value: Any) -> str:
    if isinstance(value, str) and is_module_name(value):
        return value
    raise invalid_value('"module:name" of a policy', value, "The built-in policies have keys of their own.")


def _normalize_types(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        name: column_type(kind) or kind if isinstance(kind, str) and not isinstance(kind, ColumnType) else kind
        for name, kind in value.items()
    }


def _check_listed(kind: Any) -> Any:
    if isinstance(kind, str) and column_type(kind) is None:
        raise invalid_value(_EXPECTED_TYPE, kind, _suggest_type(kind))
    return kind


def _suggest_type(kind: str) -> str:
    word = kind.strip().lower()
    if word.startswith(("varchar", "char", "text", "str", "object", "uuid")):
        return 'Did you mean "string"?'
    if word.startswith("timestamp("):
        return "The units of times are s, ms, us, ns, d (days) and year."
    if word.startswith(("timestamp", "datetime", "time")):
        return 'Did you mean "timestamp"? Times are UTC instants.'
    if word.startswith(("uint", "int")):
        return 'Did you mean "bigint"?'
    if word.startswith("dec"):
        return f"The precision is 1 to {MAX_PRECISION}, the scale at most the precision."
    return 'Did you mean "double"?' if word in ("number", "float64", "float32") else ""


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]
PositiveDuration = Annotated[timedelta, BeforeValidator(lambda value: _check_positive(_parse_duration(value)))]
Topic = Annotated[str, BeforeValidator(_check_topic)]
Root = Annotated[str, BeforeValidator(_check_root)]
PoolingRows = Annotated[float | str, BeforeValidator(_check_pooling_rows)]
PolicyName = Annotated[str, BeforeValidator(_check_policy)]
GateRule = Annotated[str, BeforeValidator(_check_gate_rule)]
ColumnTypes = Annotated[
    dict[str, Annotated[str, BeforeValidator(_check_listed), AfterValidator(_to_column_type)]],
    BeforeValidator(_normalize_types),
]
