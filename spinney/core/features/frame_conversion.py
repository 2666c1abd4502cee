"""Convert a user's data frame to the declared column types, as if its rows had come as records."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_integer_dtype

from schemas import messages
from spinney.core import keys
from spinney.core.config import RecordSchema
from spinney.core.errors import ContractError
from spinney.core.features.encoding import to_float64
from spinney.core.records import value_conversion
from spinney.core.records.json_parsing import NumberText
from spinney.core.records.rules import FieldRule, build_rules
from spinney.core.records.time_parsing import instant_of_text, unit_description

_BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
_NUMBERS = frozenset({"integer", "floating", "mixed-integer-float"})
_TIMES = frozenset({"datetime64", "datetime"})
_PANDAS_TYPES = {
    **dict.fromkeys((*_BITS, "float", "double"), _NUMBERS | {"decimal"}),
    "decimal": _NUMBERS | {"decimal"},
    "boolean": frozenset({"boolean"}),
    "string": frozenset({"string"}),
    "timestamp": _TIMES,
    "date": _TIMES | {"date"},
}
"""Type -> the names that pandas' infer_dtype may give to its values."""

_DIGITS = 28
"""Python's default precision of decimals."""

_TIME_LIKE = "ISO 8601 like 2024-05-31T10:00:00Z"
_FORMS = {"timestamp": f"a time is {_TIME_LIKE}", "date": "a date is written like 2024-05-31"}


def to_typed_rows(frame: pd.DataFrame, schema: RecordSchema) -> tuple[list[str], pd.DataFrame]:
    """Return each row's group_key, and the frame's declared columns without the target, in its order, with its index.

    Texts in columns that are not strings are parsed as in a record (`value_conversion`). A number in a column of times
    is in the unit that `fleet.columns` declares, and an error if none is declared. ISO 8601 texts are parsed in every
    column of times. Times without a zone are UTC. Values outside `[fleet.ranges]` are accepted.

    Raises ContractError if a column of the group or a feature is missing, or a column has a value that its type does
    not allow.
    """
    fleet = schema.fleet
    columns = list(frame.columns)
    for name in (*fleet.group, *fleet.features):
        if columns.count(name) != 1:
            raise ContractError(
                f"frame: column {name}: expected it once, a {'key' if name in fleet.group else 'feature'} of type "
                f"{fleet.type_of(name)}; got columns {columns}. Add or rename it"
            )
    of_event = {rule.name: rule for rule in build_rules(schema, messages.EVENT).fields}
    wanted = dict.fromkeys([fleet.event_time, *schema.event_columns])
    wanted.pop(fleet.target, None)
    rules = {name: of_event[name] for name in wanted if columns.count(name) == 1}
    missing = frozenset(fleet.missing)
    given = {name: _parse_texts(_without_categories(frame[name]), rule, missing) for name, rule in rules.items()}
    rows = pd.DataFrame({name: _convert_column(given[name], rule) for name, rule in rules.items()}, index=frame.index)
    return _group_keys(rows, fleet.group, rules), rows


def _without_categories(values: pd.Series[Any]) -> pd.Series[Any]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype(values.cat.categories.dtype)
    return values


def _parse_texts(values: pd.Series[Any], rule: FieldRule, missing: Collection[str]) -> pd.Series[Any]:
    """The values with texts parsed, and in a column of times numbers too."""
    family = _family(rule)
    if family == "string" or infer_dtype(values, skipna=True) in _PANDAS_TYPES[family] | {"empty"}:
        return values
    cache: dict[tuple[type, Any], Any] = {}
    parsed = []
    for place, value in enumerate(values):
        is_parsed = isinstance(value, str) or (_is_number(value) and family in _FORMS)
        if not is_parsed or _is_null(value):
            parsed.append(value)
            continue
        key = type(value), value
        if key not in cache:
            try:
                cache[key] = _parse_value(value, rule, missing)
            except value_conversion.WrongTypeError as error:
                raise _type_error(rule, _describe_value(values, place), error.explanation) from error
            except value_conversion.NotFiniteError as error:
                raise _type_error(rule, _describe_value(values, place), "the number must be finite") from error
        parsed.append(cache[key])
    return pd.Series(parsed, index=values.index, dtype=object) if cache else values


def _parse_value(value: Any, rule: FieldRule, missing: Collection[str]) -> Any:
    """Parse a text or a number. Raises WrongTypeError, NotFiniteError."""
    if not isinstance(value, str):
        return value_conversion.convert_value(NumberText(str(value)), rule)
    if value in missing:
        return None
    try:
        return value_conversion.convert_value(value, rule)
    except value_conversion.WrongTypeError:
        # In a record, a column with a unit has numbers only; in a frame it may have texts too.
        at = instant_of_text(value) if rule.type == "timestamp" else None
        if at is None:
            raise
        return at


def _group_keys(rows: pd.DataFrame, group: tuple[str, ...], rules: dict[str, FieldRule]) -> list[str]:
    for name in group:
        if rows[name].isna().any():
            place = int(np.flatnonzero(rows[name].isna())[0])
            raise _type_error(rules[name], f"null in row {place}, and every row has a group", remedy="Drop such rows")
    values = list(zip(*(rows[name].tolist() for name in group), strict=True))
    known = {key: keys.encode(key) for key in set(values)}
    return [known[key] for key in values]


def _convert_column(values: pd.Series[Any], rule: FieldRule) -> pd.Series[Any]:
    if values.isna().all():
        return pd.Series(None, index=values.index, dtype=object)
    family = _family(rule)
    if infer_dtype(values, skipna=True) not in _PANDAS_TYPES[family]:
        _refuse_first(values, rule, lambda value: infer_dtype([value], skipna=False) in _PANDAS_TYPES[family])
    if family in _BITS:
        return _to_integers(values, rule)
    if family in ("float", "double"):
        return _to_floats(values, rule)
    if family == "decimal":
        return _to_decimals(values, rule)
    return _to_dates(values, rule) if family == "date" else values


def _to_floats(values: pd.Series[Any], rule: FieldRule) -> pd.Series[Any]:
    """Floats of the declared width (a float has 32 bits, as in the tables). NaN is missing; infinity is an error."""
    kind = np.float32 if rule.type == "float" else np.float64
    given = values.to_numpy(dtype=np.float64, na_value=np.nan)
    with np.errstate(over="ignore"):
        is_infinite = np.isinf(given.astype(kind))
    if is_infinite.any():
        place = int(np.flatnonzero(is_infinite)[0])
        raise _type_error(
            rule, _describe_value(values, place), "the number must be finite", "Correct it, or leave it missing"
        )
    return pd.Series(to_float64(values).astype(kind), index=values.index)


def _to_integers(values: pd.Series[Any], rule: FieldRule) -> pd.Series[Any]:
    limit = 2 ** (_BITS[rule.type] - 1)
    if is_integer_dtype(values.dtype):
        # Not as float64, which would round the greatest bigints out of their range.
        numbers = values.fillna(0).to_numpy()
        fits = (numbers >= -limit) & (numbers <= limit - 1)
    elif values.dtype == object:
        fits = np.array([_is_null(value) or _is_whole(value, limit) for value in values], dtype=np.bool_)
    else:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        fits = np.isnan(numbers) | ((numbers == np.floor(numbers)) & (numbers >= -limit) & (numbers < limit))
    if not fits.all():
        raise _type_error(rule, _describe_value(values, int(np.flatnonzero(~fits)[0])))
    if values.dtype == object:  # pandas would read integers beside fractions as float64
        values = pd.Series(
            [None if _is_null(value) else int(value) for value in values], index=values.index, dtype=object
        )
    return values.astype("Int64")


def _is_whole(value: Any, limit: int) -> bool:
    """Whether it is an integer, of any type, from -limit to below limit."""
    return bool(-limit <= value < limit) and value == int(value)


def _to_decimals(values: pd.Series[Any], rule: FieldRule) -> pd.Series[Any]:
    """Decimals, rounded as Spark does: half away from zero."""
    precision, *scale = map(int, re.findall(r"\d+", rule.type))
    step = Decimal(1).scaleb(-scale[0] if scale else 0)
    digits = Context(prec=max(precision, _DIGITS))  # by default it refuses longer numbers
    found: list[Decimal | None] = []
    for place, value in enumerate(values):
        try:
            found.append(None if pd.isna(value) else Decimal(str(value)).quantize(step, ROUND_HALF_UP, digits))
        except InvalidOperation as error:
            why = "the number has too many digits, or is infinite"
            raise _type_error(rule, _describe_value(values, place), why, "Correct it") from error
    return pd.Series(found, index=values.index, dtype=object)


def _to_dates(values: pd.Series[Any], rule: FieldRule) -> pd.Series[Any]:
    if infer_dtype(values, skipna=True) == "date":
        return values
    _refuse_first(values, rule, lambda value: pd.Timestamp(value) == pd.Timestamp(value).normalize())
    days = [None if pd.isna(value) else pd.Timestamp(value).date() for value in values]
    return pd.Series(days, index=values.index, dtype=object)


def _refuse_first(values: pd.Series[Any], rule: FieldRule, fits: Callable[[Any], bool]) -> None:
    for place, value in enumerate(values):
        if not _is_null(value) and not fits(value):
            raise _type_error(rule, _describe_value(values, place))


def _family(rule: FieldRule) -> str:
    return rule.type.partition("(")[0]


def _is_null(value: Any) -> bool:
    """Whether the value is missing. A list, which a JSON row may have, is not."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, bool | np.bool_)


def _describe_value(values: pd.Series[Any], place: int) -> str:
    value = values.iloc[place]
    return f"{type(value).__name__} {str(value)[:40]!r} in row {place}"


def _type_error(rule: FieldRule, got: str, why: str = "", remedy: str = "Convert the column") -> ContractError:
    """Return the error about a value.

    why: what is wrong with it; if empty, the error names the accepted forms of a time.
    """
    kind = rule.type if rule.unit is None else f"{rule.type}({rule.unit})"
    forms = f"a time is {unit_description(rule.unit)}, or {_TIME_LIKE}" if rule.unit else _FORMS.get(rule.type, "")
    explanation = f": {why or forms}" if why or forms else ""
    return ContractError(f"frame: column {rule.name}: expected {kind}; got {got}{explanation}. {remedy}")
