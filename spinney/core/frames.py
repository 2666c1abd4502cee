"""A person's frame as the stream would hold its rows: each row's group, and every column of its declared type."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from spinney.core import keys
from spinney.core.config import Config
from spinney.core.config.values import time_unit
from spinney.core.encoding import floats
from spinney.core.errors import ContractError
from spinney.core.records.times import date_of_text, instant_of_number, instant_of_text

_BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
_NUMBERS = frozenset({"integer", "floating", "mixed-integer-float"})
_TIMES = frozenset({"datetime64", "datetime"})
_HELD = {
    **dict.fromkeys((*_BITS, "float", "double"), _NUMBERS | {"decimal"}),
    "decimal": _NUMBERS | {"decimal"},
    "boolean": frozenset({"boolean"}),
    "string": frozenset({"string"}),
    "timestamp": _TIMES,
    "date": _TIMES | {"date"},
}
"""Type -> what pandas may call values of it."""


SECONDS_END = 10**11
"""A number of seconds since 1970 that is larger lies after the year 5138; as milliseconds, this is March 1973."""

_TIME_FORMS = {
    "timestamp": ", ISO 8601 like 2024-05-31T10:00:00Z, or a number of seconds or milliseconds since 1970",
    "date": ", ISO 8601 like 2024-05-31",
}


def typed(frame: pd.DataFrame, config: Config) -> tuple[list[str], pd.DataFrame]:
    """Each row's group_key, and the frame's declared columns but the target, in its order and with its index.

    Times may be ISO 8601 texts, or numbers since 1970 in the unit that `fleet.columns` declares; without a declared one
    in seconds, or from SECONDS_END on in milliseconds. Without a zone they are UTC. Values outside `[fleet.ranges]` are
    let through.

    Raises ContractError: a column of the group or a feature is missing, or one that is there holds what its type does
    not allow.
    """
    fleet = config.fleet
    columns = list(frame.columns)
    for name in (*fleet.group, *fleet.features):
        if columns.count(name) != 1:
            raise ContractError(
                f"frame: column {name}: expected it once, a {'key' if name in fleet.group else 'feature'} of type "
                f"{fleet.type_of(name)}; got columns {columns}. Add or rename it"
            )
    declared = {fleet.event_time: "timestamp", **config.event_columns}
    declared.pop(fleet.target, None)
    there = {name: kind for name, kind in declared.items() if columns.count(name) == 1}
    given = {name: _without_times(frame[name], name, kind, config) for name, kind in there.items()}
    rows = pd.DataFrame({name: _typed(given[name], name, kind) for name, kind in there.items()}, index=frame.index)
    return _group_keys(rows, fleet.group, there), rows


def _without_times(values: pd.Series[Any], name: str, kind: str, config: Config) -> pd.Series[Any]:
    """The same values, where texts and numbers that stand for times or dates are those."""
    known = infer_dtype(values, skipna=True)
    if kind not in ("timestamp", "date") or known in _TIMES | {"date", "empty"}:
        return values
    unit = time_unit(config.fleet.columns.get(name, kind))
    read = {each: _time_of(each, kind, unit, config.fleet.missing) for each in pd.unique(values.dropna())}
    for place, value in enumerate(values):
        if not pd.isna(value) and read[value] is None:
            raise _refusal(name, kind, _told(values, place), _TIME_FORMS[kind])
    found = [None if pd.isna(value) or read[value] is pd.NaT else read[value] for value in values]
    return pd.Series(found, index=values.index, dtype=object)


def _time_of(value: Any, kind: str, unit: str | None, missing: Sequence[str]) -> Any:
    """The time or date that a value stands for, NaT for a text that means none, None where it stands for nothing."""
    if isinstance(value, str):
        if value in missing:
            return pd.NaT
        return instant_of_text(value) if kind == "timestamp" else date_of_text(value)
    if isinstance(value, date):  # a datetime too
        return value
    if kind == "date" or isinstance(value, bool | np.bool_) or not isinstance(value, Number):
        return None
    number = Decimal(str(value))
    return instant_of_number(number, unit or ("s" if abs(number) < SECONDS_END else "ms"))


def _group_keys(rows: pd.DataFrame, group: tuple[str, ...], types: dict[str, str]) -> list[str]:
    for name in group:
        if rows[name].isna().any():
            place = int(np.flatnonzero(rows[name].isna())[0])
            raise _refusal(name, types[name], f"null in row {place}, and every row has a group. Drop such rows")
    values = list(zip(*(rows[name].tolist() for name in group), strict=True))
    known = {each: keys.encode(each) for each in set(values)}
    return [known[each] for each in values]


def _typed(values: pd.Series[Any], name: str, kind: str) -> pd.Series[Any]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if values.isna().all():
        return pd.Series(None, index=values.index, dtype=object)
    family = kind.partition("(")[0]
    if infer_dtype(values, skipna=True) not in _HELD[family]:
        _refuse_first(values, name, kind, lambda value: infer_dtype([value], skipna=False) in _HELD[family])
    if family in _BITS:
        return _whole(values, name, kind)
    if family in ("float", "double"):
        # A float has 32 bits in the tables, and so in what models are fitted on.
        return pd.Series(floats(values), index=values.index).astype("float32" if family == "float" else "float64")
    if family == "decimal":
        return _decimals(values, name, kind)
    return _days(values, name, kind) if family == "date" else values


def _whole(values: pd.Series[Any], name: str, kind: str) -> pd.Series[Any]:
    limit = 2 ** (_BITS[kind] - 1)
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    exact = isinstance(values.dtype, np.dtype) and values.dtype == np.int64 and kind == "bigint"
    fits = np.isnan(numbers) | ((numbers == np.floor(numbers)) & (numbers >= -limit) & (numbers < limit))
    if not exact and not fits.all():
        raise _refusal(name, kind, _told(values, int(np.flatnonzero(~fits)[0])))
    return values.astype("Int64")


def _decimals(values: pd.Series[Any], name: str, kind: str) -> pd.Series[Any]:
    """Rounded as Spark does: half away from zero."""
    scale = re.search(r",\s*(\d+)\)", kind)
    step = Decimal(1).scaleb(-int(scale[1]) if scale else 0)

    def rounded(value: Any) -> Decimal | None:
        return None if pd.isna(value) else Decimal(str(value)).quantize(step, ROUND_HALF_UP)

    try:
        return pd.Series([rounded(value) for value in values], index=values.index, dtype=object)
    except InvalidOperation as error:
        raise _refusal(name, kind, "a number with too many digits, or an infinite one. Correct it") from error


def _days(values: pd.Series[Any], name: str, kind: str) -> pd.Series[Any]:
    if infer_dtype(values, skipna=True) == "date":
        return values
    _refuse_first(values, name, kind, lambda value: pd.Timestamp(value) == pd.Timestamp(value).normalize())
    days = [None if pd.isna(value) else pd.Timestamp(value).date() for value in values]
    return pd.Series(days, index=values.index, dtype=object)


def _refuse_first(values: pd.Series[Any], name: str, kind: str, fits: Callable[[Any], bool]) -> None:
    for place, value in enumerate(values):
        if not pd.isna(value) and not fits(value):
            raise _refusal(name, kind, _told(values, place))


def _told(values: pd.Series[Any], place: int) -> str:
    value = values.iloc[place]
    return f"{type(value).__name__} {str(value)[:40]!r} in row {place}. Convert the column"


def _refusal(name: str, kind: str, got: str, form: str = "") -> ContractError:
    return ContractError(f"frame: column {name}: expected {kind}{form}; got {got}")
