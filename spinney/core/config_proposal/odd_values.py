"""Find the values of a sampled column that do not fit the column's type, or that pandas cannot convert.

A few such values do not change the type that is proposed: they are ignored here, and their rows will be rejected.
"""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pandas as pd
from pandas.api import types

from spinney.core.records.value_conversion import BOOLEAN_TEXTS, NUMBER

_PLAIN: Final = (str, bool, int, float, Decimal, date, time, np.number, np.bool_, np.datetime64)
_NUMBERS: Final = (int, float, Decimal, np.number)


def is_plain_value(value: object) -> bool:
    """Return whether JSON can represent the value by itself: bytes and durations cannot be, lists are several."""
    return isinstance(value, _PLAIN) and not isinstance(value, np.timedelta64)


def may_be_boolean(value: object) -> bool:
    """Return whether a column of booleans takes a value, if other forms are accepted."""
    if isinstance(value, str):
        return value in BOOLEAN_TEXTS
    return isinstance(value, bool) or (isinstance(value, _NUMBERS) and value in (0, 1))


def without_odd_objects(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return the values with null in place of lists, objects and bytes, if fewer than half are such."""
    if not types.is_object_dtype(values):
        return values
    odd_types = {kind for kind in set(map(type, values)) if not _is_plain_type(kind)}
    if not odd_types:
        return values
    is_odd = values.notna() & values.map(lambda value: type(value) in odd_types)
    few = 0 < 2 * int(is_odd.sum()) < int(values.notna().sum())
    return values.mask(is_odd, None) if few else values


def _is_plain_type(kind: type) -> bool:
    return kind is type(None) or (issubclass(kind, _PLAIN) and not issubclass(kind, np.timedelta64))


def without_odd_numbers(values: pd.Series[Any], kind: str) -> pd.Series[Any]:
    """Return the values with null in place of those that are no numbers, or no booleans, if these are its type.

    kind: the type of the column.
    """
    test = {"bigint": _is_number, "double": _is_number, "boolean": may_be_boolean}.get(kind)
    if test is None or not types.is_object_dtype(values):
        return values
    if kind != "boolean" and all(map(_is_number_type, set(map(type, values)))):
        return values
    is_odd = values.notna() & ~values.map(test).astype(bool)
    return values.mask(is_odd, None) if is_odd.any() else values


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value == "" or NUMBER.fullmatch(value.strip(" ")) is not None
    return _is_number_type(type(value))


def _is_number_type(kind: type) -> bool:
    return kind is type(None) or (issubclass(kind, _NUMBERS) and not issubclass(kind, bool))


def as_doubles(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return numbers and texts of numbers as doubles, null for null and for empty texts.

    values: of any length; those beyond doubles are infinite.
    """
    if not types.is_object_dtype(values):
        return pd.to_numeric(values).astype(float)
    try:
        doubles = np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError):
        doubles = np.array([_as_double(value) for value in values], dtype=float)
    return pd.Series(doubles, index=values.index)


def _as_double(number: Any) -> float:
    try:
        return np.nan if pd.isna(number) or number == "" else float(number)
    except OverflowError:
        return np.inf if number > 0 else -np.inf
