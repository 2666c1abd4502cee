"""Read many JSON records at once, as typed columns of the declared fields.

A record is read here only if its values certainly equal those that `validate` returns. All others are *doubtful* and
left to `validate`. Which path reads a record changes its cost (10 µs instead of 24 to 40), never the result.

The parser (`pydantic_core.from_json`) is strict: UTF-8, no NaN, nothing after the object. It loses two things that
`validate` keeps, and both cases are detected. First, of two fields with the same name it keeps the last. In a record
without backslashes every quote begins or ends a name or a text, so there are 2 * (names + texts) quotes if no name is
repeated, and more if a name is repeated. Second, numbers lose their text. `validate` reads `float` and `double` columns
to the same numbers. A `decimal` column is read here only if no number in the record has more than 15 digits, which a
double keeps, or an exponent by which it may have become zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import from_json

from schemas.messages import MAX_RECORD_BYTES
from spinney.core.arrow_types import arrow_type
from spinney.core.records.column_conversion import (
    Mask,
    TypedColumn,
    convert_column,
    floats_from_doubles,
    mask_or_none,
    timestamps_from_epoch,
    union_masks,
)
from spinney.core.records.content_ids import add_content_ids
from spinney.core.records.field_paths import ABSENT, find_field
from spinney.core.records.rules import FieldRule, RecordRules
from spinney.core.records.text_column_conversion import convert_text_column, null_missing_texts

_INTEGER_LIMIT = 1 << 63
"""Integers from this limit on do not fit `bigint`, and some are not finite as `double`."""

_INEXACT = re.compile(rb"[1-9][0-9.]{16}|0\.0*[1-9][0-9]{15}|[0-9]{16}[eE]|[0-9.][eE]-[0-9]{3}")
"""Matches each number with more than 15 significant digits, or with an exponent below -99, that has a fraction or an
exponent. It also matches some texts, which costs time only.
"""

_NO_STRINGS = frozenset({int, float, bool, NoneType})

_EMPTY: Mapping[str, Any] = {}
Values = list[Any]
_Native = tuple[set[type], Callable[[Values, FieldRule], TypedColumn] | None]


@dataclass(frozen=True)
class JsonColumns:
    """The declared fields of some records.

    columns: by column name; the values of unread records have no meaning. unread: mask of the records that were not
    read, shape (rows,).
    """

    columns: Mapping[str, TypedColumn]
    unread: Mask


def read_json_columns(records: Sequence[bytes | None], rules: RecordRules) -> JsonColumns:
    """Convert the declared fields of the records that can certainly be read here.

    The others are marked in `unread`: validate them one by one.
    """
    parsed = _without_inexact_decimals(records, [_parse_record(record) for record in records], rules)
    objects = [_EMPTY if record is None else record for record in parsed]
    found = read_object_columns(objects, rules, has_exact_decimals=True)
    quotes = np.fromiter((0 if record is None else record.count(b'"') for record in records), np.int64, len(records))
    unread = np.fromiter((record is None for record in parsed), np.bool_, len(records)) | (quotes != 2 * found.strings)
    return JsonColumns(found.columns, unread)


@dataclass(frozen=True)
class ObjectColumns:
    """The declared fields of some parsed objects.

    columns: by column name; values that are not certainly those of `validate` are doubtful. strings: names and texts in
    each object, shape (rows,). If the text of an object has no backslash, it has twice as many quotes, and more if a
    name occurs twice.
    """

    columns: Mapping[str, TypedColumn]
    strings: npt.NDArray[np.int64]


def read_object_columns(
    objects: Sequence[Mapping[str, Any]], rules: RecordRules, *, has_exact_decimals: bool = False
) -> ObjectColumns:
    """Convert the declared fields of objects as `pydantic_core.from_json` parses them.

    has_exact_decimals: whether the text that Python writes for a float of a decimal column is the number in the
    message.
    """
    fields = {rule.source: _field_values(objects, rule) for rule in rules.read if not rule.undeclared}
    strings = _count_strings(objects, fields)
    no_values = [None] * len(objects)
    missing = pa.array(sorted(rules.missing), pa.string())
    columns = {
        rule.name: _convert_values(
            no_values if rule.undeclared else fields[rule.source],
            _native_reader(rule, with_fractions=has_exact_decimals),
            rule,
            missing,
        )
        for rule in rules.read
    }
    add_content_ids(columns, rules, len(objects))
    return ObjectColumns(columns, strings)


def count_strings(value: Any) -> int:
    """Return the number of names and texts inside a parsed value."""
    if isinstance(value, str):
        return 1
    if isinstance(value, dict):
        return len(value) + sum(map(count_strings, value.values()))
    if not isinstance(value, list):
        return 0
    kinds = set(map(type, value))
    if kinds <= _NO_STRINGS:  # a list of numbers or of texts takes 20 ns a value instead of 120
        return 0
    return len(value) if kinds == {str} else sum(map(count_strings, value))


def _parse_record(record: bytes | None) -> dict[str, Any] | None:
    """Return the record's JSON object; None if it is not an object or must be read by `validate`."""
    if record is None or len(record) > MAX_RECORD_BYTES or b"\\" in record:
        return None
    try:
        value = from_json(record, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        return None
    return value if type(value) is dict else None


def _without_inexact_decimals(
    records: Sequence[bytes | None], parsed: list[dict[str, Any] | None], rules: RecordRules
) -> list[dict[str, Any] | None]:
    """Return the parsed records, None in place of those with a decimal whose double may differ from its text."""
    sources = [rule.source for rule in rules.fields if rule.type.startswith("decimal") and not rule.undeclared]
    if not sources:
        return parsed
    return [
        None if value is not None and record is not None and _is_inexact(record, value, sources) else value
        for record, value in zip(records, parsed, strict=True)
    ]


def _is_inexact(record: bytes, parsed: Mapping[str, Any], sources: Sequence[str]) -> bool:
    has_float = any(type(find_field(parsed, source)) is float for source in sources)
    return has_float and _INEXACT.search(record) is not None


def _field_values(objects: Sequence[Mapping[str, Any]], rule: FieldRule) -> Values:
    source = rule.source
    if "." in source:
        found = (find_field(record, source) for record in objects)
        return [None if value is ABSENT else value for value in found]
    try:
        return list(map(itemgetter(source), objects))  # in half the time of `get`
    except KeyError:
        return [record.get(source) for record in objects]


def _count_strings(objects: Sequence[Mapping[str, Any]], fields: Mapping[str, Values]) -> npt.NDArray[np.int64]:
    """Return the number of names and texts in each object. fields: the values of each field that a rule reads."""
    names = np.fromiter(map(len, objects), np.int64, len(objects))
    present, texts = np.zeros_like(names), np.zeros_like(names)
    nested = np.zeros(len(names), np.bool_)
    for source, values in fields.items():
        if "." not in source:
            kinds = set(map(type, values))
            present += _type_mask(values, kinds, lambda kind: kind is not NoneType)
            texts += _type_mask(values, kinds, lambda kind: kind is str)
            nested |= _type_mask(values, kinds, lambda kind: kind in (dict, list))
    strings = names + texts
    # Count exactly where there is a null, a nested value or a field that no rule uses.
    for at in np.flatnonzero((names != present) | nested).tolist():
        strings[at] = count_strings(objects[at])
    return strings


def _type_mask(values: Values, kinds: set[type], wanted: Callable[[type], bool]) -> Mask:
    """Return the mask of the values of a wanted type. kinds: the types that occur in the values, usually only one."""
    found = {kind for kind in kinds if wanted(kind)}
    if not found or found == kinds:
        return np.full(len(values), bool(found))
    return np.fromiter((type(value) in found for value in values), np.bool_, len(values))


def _convert_values(values: Values, native: _Native, rule: FieldRule, missing: pa.Array) -> TypedColumn:
    """Convert the values of a field to its declared type. values: as the parser returned them. native: as
    `_native_reader` returns it.
    """
    wanted = arrow_type(rule.type)
    kinds = set(map(type, values)) - {NoneType}
    if not kinds:
        return TypedColumn(pa.nulls(len(values), wanted))
    own, reader = native
    if kinds <= own and reader is not None:
        return reader(values, rule)
    if rule.type == "string" and rule.coerce and int in kinds:
        # Except 0: it may have been written as -0, which is not accepted as a text.
        values = [str(value) if type(value) is int and value else value for value in values]
    found = _convert_texts(values if kinds == {str} else _null_other_types({str}, values), rule, missing)
    parts = [found] if reader is None else [found, reader(_null_other_types(own, values), rule)]
    taken = {NoneType, str, *own}
    odd = None if kinds <= taken else _type_mask(values, kinds | {NoneType}, lambda kind: kind not in taken)
    doubtful = union_masks([*(part.doubtful for part in parts), odd], len(values))
    return TypedColumn(pc.coalesce(*(part.values for part in parts)), mask_or_none(doubtful))


def _null_other_types(kinds: set[type], values: Values) -> Values:
    """Return the values with null in place of those of other types."""
    return [value if type(value) in kinds else None for value in values]


def _convert_texts(texts: Values, rule: FieldRule, missing: pa.Array) -> TypedColumn:
    column = pa.array(texts, pa.string())
    if rule.type != "string":
        column = null_missing_texts(column, missing)
    return convert_text_column(column, rule, texts=False)


def _convert_booleans(values: Values, rule: FieldRule) -> TypedColumn:
    del rule
    if set(map(type, values)) <= {bool, NoneType}:
        return TypedColumn(pa.array(values, pa.bool_()))
    doubtful = np.array([value is not None and value not in (0, 1) for value in values])
    meanings = [None if value is None else value == 1 for value in values]
    return TypedColumn(pa.array(meanings, pa.bool_()), mask_or_none(doubtful))


def _convert_integers(values: Values, rule: FieldRule) -> TypedColumn:
    """Convert integers to a number, or to a time since 1970."""
    try:
        column, doubtful = pa.array(values, pa.int64()), None
    except (OverflowError, pa.ArrowInvalid):
        fits = [value is None or -_INTEGER_LIMIT <= value < _INTEGER_LIMIT for value in values]
        doubtful = ~np.array(fits)
        column = pa.array([value if fit else None for value, fit in zip(values, fits, strict=True)], pa.int64())
    found = timestamps_from_epoch(column, rule.unit) if rule.unit is not None else convert_column(column, rule)
    return TypedColumn(found.values, mask_or_none(union_masks([found.doubtful, doubtful], len(values))))


def _convert_decimals(values: Values, rule: FieldRule) -> TypedColumn:
    """Convert numbers to decimals by their text.

    Arrow casts integers only to decimals of 19 digits and more, and does not cast doubles exactly.
    """
    return convert_text_column(pa.array([None if value is None else str(value) for value in values]), rule, texts=True)


def _convert_doubles(values: Values, rule: FieldRule) -> TypedColumn:
    too_large = (
        [type(value) is int and abs(value) >= _INTEGER_LIMIT for value in values] if int in map(type, values) else []
    )
    if any(too_large):
        values = [None if large else value for value, large in zip(values, too_large, strict=True)]
    numbers = np.array(values, dtype=np.float64) + 0.0  # null is NaN; minus zero is zero
    column = pa.array(numbers, mask=np.isnan(numbers))
    doubtful = np.isinf(numbers) | (np.array(too_large) if too_large else False)
    if rule.type == "float":
        found = floats_from_doubles(column)
        return TypedColumn(found.values, mask_or_none(union_masks([found.doubtful, doubtful], len(values))))
    return TypedColumn(column, mask_or_none(doubtful))


def _native_reader(rule: FieldRule, *, with_fractions: bool) -> _Native:
    """Return the Python types of values that a column accepts, and the function that converts values of these types.

    The function is None for columns that are read from texts. with_fractions: whether a decimal column accepts floats.
    """
    if rule.type == "boolean":
        return {bool, int} if rule.coerce else {bool}, _convert_booleans
    if rule.type in ("float", "double"):
        return {int, float}, _convert_doubles
    if rule.type == "string" or (rule.type in ("date", "timestamp") and rule.unit is None):
        return {str}, None
    if rule.type.startswith("decimal"):
        return {int, float} if with_fractions else {int}, _convert_decimals
    return {int}, _convert_integers
