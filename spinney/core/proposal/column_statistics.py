"""What a sample shows of each column: its type, its gaps, how many different values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from spinney.core.config.rules import OBSERVED_AT
from spinney.core.config.values import INTEGERS
from spinney.core.records.times import date_of_text, instant_of_text
from spinney.core.records.value_conversion import BOOLEAN_TEXTS, INTEGER, NUMBER

WORDS_FOR_NOTHING = ("NA", "N/A", "n/a", "NULL", "null", "None", "NaN", "nan", "-", "?")
"""Texts that people write where a number is missing."""

_INDEX_NAMES = ("Unnamed: 0", "__index_level_0__", "index")
_LONGEST_INTEGER = 18
_MAGNITUDES, _FAR_APART = 1_000, 10
"""From the least to the greatest of some amounts; between two neighbours of them, on average."""


@dataclass(frozen=True, eq=False)
class Column:
    """What was seen of one column.

    source: its name in the file. values: its values, null where it has none. type: a Spark SQL type. distinct:
    different values; -1 if they cannot be told apart. filled: rows that have a value. nothing: words that stand in it
    for no value. whole_texts: whether the file has types, and all values are texts of whole numbers: amounts as
    Debezium sends them, or names of stores.
    """

    source: str
    values: pd.Series[Any]
    type: str
    distinct: int
    filled: int
    rows: int
    nothing: frozenset[str] = frozenset()
    whole_texts: bool = False

    @property
    def unique(self) -> bool:
        return self.filled == self.rows and self.distinct == self.rows

    @property
    def is_name(self) -> bool:
        """Whether it only tells rows apart: texts, or whole numbers that do not look like amounts."""
        return self.unique and self.type in ("string", "bigint") and not self.is_like_amounts

    @property
    def is_like_amounts(self) -> bool:
        """Whether it has whole numbers that are all different, but by chance as it seems. Random ids are like them."""
        return self.unique and self.type == "bigint" and _are_amounts(self.values)

    @property
    def complete(self) -> bool:
        """Whether each row has a value that could be a key."""
        return self.filled == self.rows and not (self.type == "string" and bool((self.values == "").any()))

    @property
    def has_text(self) -> bool:
        """Whether any of its values are text, which may still read as numbers or times."""
        return any(isinstance(each, str) for each in self.values.dropna())

    @property
    def is_index(self) -> bool:
        """Whether it is pandas' numbering of rows, written with the data."""
        return self.source in _INDEX_NAMES and self.unique and self.type == "bigint"

    @property
    def is_whole(self) -> bool:
        """Whether it holds integers, perhaps as floats because some are missing."""
        if self.type in INTEGERS:
            return True
        if self.type != "double" or not self.filled:
            return False
        return all(float(each).is_integer() for each in self.values.dropna())


def look(source: str, values: pd.Series[Any], *, is_text: bool) -> Column:
    """is_text: the column is text only because the file has no types."""
    nothing: frozenset[str] = frozenset()
    if is_text:
        values = values.mask(values == "", None)
        kind, nothing = _type_of_texts(list(values.dropna().unique()))
        values = values.mask(values.isin(list(nothing)), None)
    else:
        values = _without_empty(values)
        kind = _type(values)
    try:
        distinct = int(values.nunique()) if all(map(_is_plain, values.dropna().unique())) else -1
    except TypeError:  # lists and tables in cells
        distinct = -1
    whole_texts = not is_text and kind == "string" and distinct > 0 and _are_whole_texts(values)
    return Column(source, values, kind, distinct, int(values.notna().sum()), len(values), nothing, whole_texts)


def as_number(column: Column) -> Column:
    """A column of `whole_texts` as one of numbers: later values may have fractions, unless all are 0 or 1."""
    values = pd.to_numeric(column.values.mask(column.values == "", None))
    kind = "bigint" if set(values.dropna().unique()) <= {0, 1} else "double"
    return replace(column, values=values, type=kind, distinct=int(values.nunique()), filled=int(values.notna().sum()))


def times_of(column: Column) -> pd.Series[Any]:
    """The column's values as instants in UTC, null where there is none. column: a timestamp or date."""

    def instant(value: Any) -> datetime | None:
        if isinstance(value, str):
            return instant_of_text(value)
        if not isinstance(value, date):
            return None
        at = pd.to_datetime(value, utc=True, errors="coerce")
        return None if pd.isna(at) else at.to_pydatetime()

    return pd.to_datetime(column.values.map(instant, na_action="ignore"), utc=True, errors="coerce")


def _type(values: pd.Series[Any]) -> str:
    if types.is_bool_dtype(values):
        return "boolean"
    if types.is_integer_dtype(values):
        return "bigint"
    if types.is_numeric_dtype(values):
        return "double"
    if types.is_datetime64_any_dtype(values):
        return "timestamp"
    try:
        return _type_of_objects(values)
    except TypeError:  # lists and tables in cells
        return "string"


def _type_of_objects(values: pd.Series[Any]) -> str:
    """The type that takes all of the values; where none does, that of most, so that the odd ones are rejected.

    Raises TypeError: values that cannot be told apart.
    """
    unique = list(values.dropna().unique())
    if (number := _number_type(unique)) is not None:
        return number
    kinds = {_type_of(value) for value in unique}
    if kinds <= {"boolean", "string"} and all(value in BOOLEAN_TEXTS or isinstance(value, bool) for value in unique):
        return "boolean" if "boolean" in kinds else "string"
    found = _common(kinds)
    if found != "string" or kinds <= {"string", "bigint", "date", "timestamp"}:
        return found
    return str(values.dropna().map(_type_of).value_counts().index[0])


def _without_empty(values: pd.Series[Any]) -> pd.Series[Any]:
    """The values; empty texts are none where the others are no texts, as the fleet's rules have it."""
    if not types.is_object_dtype(values):
        return values
    filled = values.mask(values.map(lambda each: isinstance(each, str) and each == ""), None)
    return values if _type(filled) == "string" else filled


def _are_amounts(values: pd.Series[Any]) -> bool:
    """Whether whole numbers that are all different are so by chance: in no order, far apart, and of many magnitudes."""
    numbers = pd.to_numeric(values.dropna()).astype(float)
    is_ordered = numbers.is_monotonic_increasing or numbers.is_monotonic_decreasing
    low, high = float(numbers.abs().min()), float(numbers.abs().max())
    return not is_ordered and high > _MAGNITUDES * max(low, 1.0) and high - low > _FAR_APART * len(numbers)


def _are_whole_texts(values: pd.Series[Any]) -> bool:
    texts = [value for value in values.dropna().unique() if value != ""]
    return bool(texts) and all(isinstance(text, str) and _type_of_text(text) == "bigint" for text in texts)


def _number_type(values: list[Any]) -> str | None:
    """The type of numbers some of which are texts, as Debezium writes decimals: `"12.50"`; None: they are others.

    Texts of whole numbers alone may be names: `whole_texts`.
    """
    texts = [value for value in values if isinstance(value, str)]
    kinds = {_type_of_text(value) if isinstance(value, str) else _type_of(value) for value in values}
    if not texts or not kinds <= {"bigint", "double"}:
        return None
    return _common(kinds) if len(texts) < len(values) or any("." in text for text in texts) else None


def _is_plain(value: object) -> bool:
    """Whether JSON can say it: bytes and durations are not."""
    plain = (str, bool, int, float, Decimal, date, time, np.number, np.bool_, np.datetime64)
    return isinstance(value, plain) and not isinstance(value, np.timedelta64)


def _common(kinds: set[str]) -> str:
    if kinds == {"bigint", "double"}:
        return "double"
    if kinds == {"date", "timestamp"}:
        return "timestamp"
    return kinds.pop() if len(kinds) == 1 else "string"


def _type_of(value: object) -> str:
    """The type of one value that Python has."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "bigint" if -(1 << 63) <= value < 1 << 63 else "double"
    if isinstance(value, (float, Decimal)):
        return "double"
    if isinstance(value, datetime):
        return "timestamp"
    if isinstance(value, date):
        return "date"
    return _time_type(value) or "string" if isinstance(value, str) else "string"


def _time_type(text: str) -> str | None:
    """Digits alone could be a date, but are more often a number."""
    if "-" not in text:
        return None
    if len(text) == len("2013-01-31") and date_of_text(text) is not None:
        return "date"
    return "timestamp" if instant_of_text(text) is not None else None


def _type_of_texts(texts: list[str]) -> tuple[str, frozenset[str]]:
    """The type of cells, and the words among them that stand for no value."""
    nothing = frozenset(WORDS_FOR_NOTHING) & set(texts)
    rest = [text for text in texts if text not in nothing]
    kind = _common({_type_of_text(text) for text in rest}) if rest else "string"
    if kind not in ("string", "boolean"):
        return kind, nothing
    return _common({_type_of_text(text) for text in texts}), frozenset()


def _type_of_text(text: str) -> str:
    """Leading zeros are no part of a number: such a text is a name."""
    if text in BOOLEAN_TEXTS:
        return "boolean"
    digits = text.strip(" ").lstrip("+-")
    if digits[:1] == "0" and digits[1:2].isdigit():
        return "string"
    if INTEGER.fullmatch(text) and len(digits) <= _LONGEST_INTEGER:
        return "bigint"
    if NUMBER.fullmatch(text):
        return "double" if len(digits) <= _LONGEST_INTEGER or not digits.isdigit() else "string"
    return _time_type(text) or "string"


def usable(columns: Iterable[Column]) -> list[Column]:
    """Those with a name, and values that can be told apart; without what says when a late label became known."""
    return [column for column in columns if column.distinct > 0 and column.source not in ("", OBSERVED_AT)]
