"""Statistics of each column of a sample: type, missing values, number of distinct values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from spinney.core.config.cross_checks import OBSERVED_AT
from spinney.core.config.value_types import EVERY_COLUMN, INTEGERS
from spinney.core.config_proposal.odd_values import (
    as_doubles,
    is_plain_value,
    may_be_boolean,
    without_odd_numbers,
    without_odd_objects,
)  # fmt: skip
from spinney.core.records.json_parsing import has_surrogate
from spinney.core.records.time_parsing import date_of_text, instant_of_text
from spinney.core.records.value_conversion import BOOLEAN_TEXTS, INTEGER, NUMBER

MISSING_WORDS = (
    *("NA", "N/A", "n/a", "NULL", "null", "None", "NaN", "nan", "-", "--", "?"),
    *("\\N", "<NA>", "NaT", "#N/A", "#NULL!", "#DIV/0!", ".", ".."),
)
"""Texts that people and programs write where a number is missing: the second line Hive and MySQL, pandas, Excel, SAS
and the World Bank.
"""

_INDEX_NAMES = ("Unnamed: 0", "__index_level_0__", "index")
_LONGEST_INTEGER = 18
_MAGNITUDES, _FAR_APART = 1_000, 10
"""Bounds for amounts: the least ratio of the greatest to the smallest, and the least mean distance between neighbours.
"""


@dataclass(frozen=True, eq=False)
class ColumnStatistics:
    """Statistics of one column in a sample.

    source: its name in the file. values: its values, null if missing. type: a Spark SQL type. distinct: number of
    distinct values; -1 if they cannot be compared. filled: number of rows with a value. missing_words: words in it that
    mean no value. has_whole_texts: whether the file has types, and all values are texts of whole numbers: amounts as
    Debezium sends them, or names of stores.
    """

    source: str
    values: pd.Series[Any]
    type: str
    distinct: int
    filled: int
    rows: int
    missing_words: frozenset[str] = frozenset()
    has_whole_texts: bool = False

    @property
    def is_unique(self) -> bool:
        """Whether every row has a value of its own."""
        return self.filled == self.rows and self.distinct == self.rows

    @property
    def is_name(self) -> bool:
        """Whether its values only identify rows: texts, or whole numbers that do not look like amounts."""
        return self.is_unique and self.type in ("string", "bigint") and not self.is_like_amounts

    @property
    def is_like_amounts(self) -> bool:
        """Whether it has distinct whole numbers that look like amounts, distinct by chance. Random ids look the
        same.
        """
        return self.is_unique and self.type == "bigint" and _are_amounts(self.values)

    @property
    def is_complete(self) -> bool:
        """Whether each row has a value that could be a key."""
        return self.filled == self.rows and not (self.type == "string" and bool((self.values == "").any()))

    @property
    def has_text(self) -> bool:
        """Whether any of its values are text, which may still be numbers or times."""
        return any(isinstance(value, str) for value in self.values.dropna())

    @property
    def is_index(self) -> bool:
        """Whether it is pandas' row index, written with the data."""
        return self.source in _INDEX_NAMES and self.is_unique and self.type == "bigint"

    @property
    def is_whole(self) -> bool:
        """Whether it holds integers, perhaps as floats because some are missing."""
        if self.type in INTEGERS:
            return True
        if self.type != "double" or not self.filled:
            return False
        return bool((as_doubles(self.values).dropna() % 1 == 0).all())


def examine_column(source: str, values: pd.Series[Any], *, is_text: bool) -> ColumnStatistics:
    """Return the statistics of a column. is_text: whether it is text only because the file has no types."""
    missing_words: frozenset[str] = frozenset()
    if is_text:
        values = values.mask(values == "", None)
        kind, missing_words = _type_of_texts(list(values.dropna().unique()))
        values = values.mask(values.isin(list(missing_words)), None)
    else:
        values, missing_words = _without_missing_words(_without_empty(without_odd_objects(values)))
        kind = _type_of_series(values)
        values = without_odd_numbers(values, kind)
    try:
        distinct = int(values.nunique()) if all(map(is_plain_value, values.dropna().unique())) else -1
    except TypeError:  # lists and tables in cells
        distinct = -1
    has_whole_texts = not is_text and kind == "string" and distinct > 0 and _are_whole_texts(values)
    return ColumnStatistics(
        source, values, kind, distinct, int(values.notna().sum()), len(values), missing_words, has_whole_texts
    )


def as_number(column: ColumnStatistics) -> ColumnStatistics:
    """Convert a column with `has_whole_texts` to numbers: doubles, since later values may have fractions, or integers
    if all are 0 or 1.
    """
    values = as_doubles(column.values)
    kind = "bigint" if set(values.dropna().unique()) <= {0, 1} else "double"
    return replace(column, values=values, type=kind, distinct=int(values.nunique()), filled=int(values.notna().sum()))


def parse_times(column: ColumnStatistics) -> pd.Series[Any]:
    """Return the column's values as instants in UTC, null where there is none. column: a timestamp or date."""

    def instant(value: Any) -> datetime | None:
        if isinstance(value, str):
            return instant_of_text(value.strip(" "))
        if not isinstance(value, date):
            return None
        at = pd.to_datetime(value, utc=True, errors="coerce")
        return None if pd.isna(at) else at.floor("us").to_pydatetime()

    if types.is_datetime64_any_dtype(column.values):
        return pd.to_datetime(column.values, utc=True).dt.floor("us")
    instants = {value: instant(value) for value in column.values.dropna().unique()}
    return pd.to_datetime(column.values.map(instants, na_action="ignore"), utc=True, errors="coerce")


def _type_of_series(values: pd.Series[Any]) -> str:
    if types.is_bool_dtype(values):
        return "boolean"
    if types.is_integer_dtype(values):
        return _type_of_integers(values)
    if types.is_numeric_dtype(values):
        return "double"
    if types.is_datetime64_any_dtype(values):
        return "timestamp"
    try:
        return _type_of_objects(values)
    except TypeError:  # lists and tables in cells
        return "string"


def _type_of_integers(values: pd.Series[Any]) -> str:
    """Return "bigint", or "string" for unsigned integers that it cannot hold: they are more often hashes than numbers,
    and no digit of a text is lost.
    """
    greatest = values.max()
    return "bigint" if pd.isna(greatest) or int(greatest) <= np.iinfo(np.int64).max else "string"


def _type_of_objects(values: pd.Series[Any]) -> str:
    """Return the type that fits all values. If no type does, return the type of most values, so that the others are
    rejected.

    Raises TypeError: values that cannot be compared.
    """
    filled = values.dropna()
    unique = _distinct_values(filled)
    if (number := _number_type(unique)) is not None:
        return number
    kinds = {_type_of(value) for value in unique}
    if "boolean" in kinds and all(map(may_be_boolean, unique)):
        return "boolean"
    found = _common_type(kinds)
    if found != "string" or kinds <= {"string", "bigint", "date", "timestamp"}:
        return found
    return _most_common_type(map(_type_of, filled))


def _distinct_values(values: pd.Series[Any]) -> list[Any]:
    """Return the distinct values, where 1 and True are two. Raises TypeError: values that cannot be compared."""
    if len(set(map(type, values))) <= 1:
        return list(values.unique())
    return [value for _, value in dict.fromkeys(zip(map(type, values), values, strict=True))]


def _most_common_type(kinds: Iterable[str]) -> str:
    """Return the type of most values. Integers count as doubles beside doubles, and dates as times beside times."""
    counts = Counter(kinds)
    for narrow, wide in (("bigint", "double"), ("date", "timestamp")):
        if counts[narrow] and counts[wide]:
            counts[wide] += counts.pop(narrow)
    return counts.most_common(1)[0][0]


def _without_empty(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return the values with empty texts as missing, unless other values are texts too; validation treats them the same
    way.
    """
    if not types.is_object_dtype(values):
        return values
    filled = values.mask(values.map(lambda value: isinstance(value, str) and value == ""), None)
    return values if _type_of_series(filled) == "string" else filled


def _without_missing_words(values: pd.Series[Any]) -> tuple[pd.Series[Any], frozenset[str]]:
    """Return the values without words that mean no value, and these words.

    If the other values are texts too, nothing is removed.
    """
    if not types.is_object_dtype(values):
        return values, frozenset()
    is_word = values.map(lambda value: isinstance(value, str) and value in MISSING_WORDS).astype(bool)
    rest = values.mask(is_word, None)
    if not is_word.any() or rest.isna().all() or _type_of_series(rest) in ("string", "boolean"):
        return values, frozenset()
    return rest, frozenset(values[is_word].unique())


def _are_amounts(values: pd.Series[Any]) -> bool:
    """Return whether distinct whole numbers look distinct by chance: in no order, far apart, of many magnitudes."""
    numbers = as_doubles(values.dropna())
    is_ordered = numbers.is_monotonic_increasing or numbers.is_monotonic_decreasing
    low, high = float(numbers.abs().min()), float(numbers.abs().max())
    return not is_ordered and high > _MAGNITUDES * max(low, 1.0) and high - low > _FAR_APART * len(numbers)


def _are_whole_texts(values: pd.Series[Any]) -> bool:
    texts = [value for value in values.dropna().unique() if value != ""]
    return bool(texts) and all(isinstance(text, str) and _type_of_text(text) == "bigint" for text in texts)


def _number_type(values: list[Any]) -> str | None:
    """Return the type of numbers some of which are texts, as Debezium writes decimals (`"12.50"`); None for anything
    else.

    None, too, if all are texts of whole numbers, which may be names; see `has_whole_texts`.
    """
    texts = [value for value in values if isinstance(value, str)]
    kinds = {_type_of_text(value) if isinstance(value, str) else _type_of(value) for value in values}
    if not texts or not kinds <= {"bigint", "double"}:
        return None
    return _common_type(kinds) if len(texts) < len(values) or any("." in text for text in texts) else None


def _common_type(kinds: set[str]) -> str:
    if kinds == {"bigint", "double"}:
        return "double"
    if kinds == {"date", "timestamp"}:
        return "timestamp"
    return kinds.pop() if len(kinds) == 1 else "string"


def _type_of(value: object) -> str:
    """Return the type of one Python value."""
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
    """Return "date" or "timestamp" for the text of a time, None for any other text.

    Digits alone and a month (`2013-01`) do not count as times: they are more often a number or a season.
    """
    text = text.strip(" ")
    if ("-" not in text and "/" not in text) or len(text) == len("2013-01"):
        return None
    if len(text) == len("2013-01-31") and date_of_text(text) is not None:
        return "date"
    return "timestamp" if instant_of_text(text) is not None else None


def _type_of_texts(texts: list[str]) -> tuple[str, frozenset[str]]:
    """Return the type of cells, and the words among them that mean no value."""
    missing_words = frozenset(MISSING_WORDS) & set(texts)
    rest = [text for text in texts if text not in missing_words]
    kind = _common_type({_type_of_text(text) for text in rest}) if rest else "string"
    if kind not in ("string", "boolean"):
        return kind, missing_words
    return _common_type({_type_of_text(text) for text in texts}), frozenset()


def _type_of_text(text: str) -> str:
    """Return the type of a text.

    Digits with a leading zero are a string, since they are a name rather than a number.
    """
    if text in BOOLEAN_TEXTS:
        return "boolean"
    text = text.strip(" ")  # as in the validation
    digits = text.lstrip("+-")
    if digits[:1] == "0" and digits[1:2].isdigit():
        return "string"
    if INTEGER.fullmatch(text) and len(digits) <= _LONGEST_INTEGER:
        return "bigint"
    if NUMBER.fullmatch(text):
        return "double" if len(digits) <= _LONGEST_INTEGER or not digits.isdigit() else "string"
    return _time_type(text) or "string"


def usable_columns(columns: Iterable[ColumnStatistics]) -> list[ColumnStatistics]:
    """Return the columns that have a usable name and comparable values, except `observed_at`."""
    return [column for column in columns if column.distinct > 0 and not has_unusable_name(column)]


def has_unusable_name(column: ColumnStatistics) -> bool:
    """Return whether no column of a fleet can be read from a field of this name."""
    return column.source in ("", EVERY_COLUMN, OBSERVED_AT) or has_surrogate(column.source)
