"""Read many JSON records at once, as typed columns of the fields that rules declare.

A record is read here only where its values surely equal those that `validate` gives. All others are *doubtful*, for
`validate` to decide: whether a record is read here changes its cost (10 µs instead of 24 to 40), never the result.

The parser (`pydantic_core.from_json`) is strict: UTF-8, no NaN, nothing after the object. It differs from `validate` in
what it keeps, and each difference is caught. Of two fields of one name it keeps the last: in a record without
backslashes each quote begins or ends a name or a text, so the record has 2 * (names + texts) quotes where no name is
repeated, and more where one is. Numbers lose their text: a number with a fraction or an exponent is read for `float`
and `double` columns only, which round it in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import from_json

from schemas.messages import MAX_RECORD_BYTES
from spinney.core.arrow_types import arrow_type
from spinney.core.records.columns import Mask, Typed, of_number, single, some, typed, union
from spinney.core.records.rules import FieldRule, Rules
from spinney.core.records.text_columns import typed_text, without_missing
from spinney.core.records.validation import raw_value

_BOUND = 1 << 63
"""A larger integer is no `bigint`, and not each is a finite `double`."""

_EMPTY: Mapping[str, Any] = {}
Values = list[Any]


@dataclass(frozen=True)
class JsonColumns:
    """columns: by column name; values of unread records do not matter. unknown_fields: as in `ValidationResult`, shape
    (rows,).

    unread: mask of the records that were not read, shape (rows,).
    """

    columns: Mapping[str, Typed]
    unknown_fields: npt.NDArray[np.int32]
    unread: Mask


def read(records: Sequence[bytes | None], rules: Rules) -> JsonColumns:
    """Return the declared fields of the records, each of the declared type."""
    parsed = [_object(record) for record in records]
    objects = [_EMPTY if each is None else each for each in parsed]
    fields = {rule.source: _field(objects, rule) for rule in rules.fields if not rule.undeclared}
    strings, unknown = _counts(objects, fields, rules)
    quotes = np.fromiter((0 if record is None else record.count(b'"') for record in records), np.int64, len(records))
    unread = np.fromiter((each is None for each in parsed), np.bool_, len(records)) | (quotes != 2 * strings)
    nothing = [None] * len(records)
    missing = pa.array(sorted(rules.missing), pa.string())
    columns = {
        rule.name: _typed(nothing if rule.undeclared else fields[rule.source], rule, missing) for rule in rules.fields
    }
    return JsonColumns(columns, unknown, unread)


def _object(record: bytes | None) -> dict[str, Any] | None:
    """The object that a record is; None where it is none, or must be read by `validate`."""
    if record is None or len(record) > MAX_RECORD_BYTES or b"\\" in record:
        return None
    try:
        found = from_json(record, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        return None
    return found if type(found) is dict else None


def _field(objects: Sequence[Mapping[str, Any]], rule: FieldRule) -> Values:
    source = rule.source
    if "." in source:
        return [raw_value(each, source) for each in objects]
    return [each.get(source) for each in objects]


def _counts(
    objects: Sequence[Mapping[str, Any]], fields: Mapping[str, Values], rules: Rules
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Of each object its names and texts together, and how many of its top-level fields are not known."""
    names = np.fromiter(map(len, objects), np.int64, len(objects))
    present, texts = np.zeros_like(names), np.zeros_like(names)
    nested = np.zeros(len(names), np.bool_)
    for source, values in fields.items():
        if "." not in source:
            kinds = set(map(type, values))
            present += _where(values, kinds, lambda kind: kind is not NoneType)
            texts += _where(values, kinds, lambda kind: kind is str)
            nested |= _where(values, kinds, lambda kind: kind in (dict, list))
    strings, unknown = names + texts, np.zeros(len(names), np.int32)
    # The others have a null, a nested value or a field that no rule asks for.
    for at in np.flatnonzero((names != present) | nested).tolist():
        strings[at] = _strings(objects[at])
        unknown[at] = sum(name not in rules.known for name in objects[at])
    return strings, unknown


def _where(values: Values, kinds: set[type], wanted: Callable[[type], bool]) -> Mask:
    """The mask of the values of a wanted type. kinds: the types that there are; mostly there is only one."""
    found = {kind for kind in kinds if wanted(kind)}
    if not found or found == kinds:
        return np.full(len(values), bool(found))
    return np.fromiter((type(value) in found for value in values), np.bool_, len(values))


def _strings(value: Any) -> int:
    """The names and the texts inside a value."""
    if isinstance(value, str):
        return 1
    if isinstance(value, dict):
        return len(value) + sum(map(_strings, value.values()))
    return sum(map(_strings, value)) if isinstance(value, list) else 0


def _typed(values: Values, rule: FieldRule, missing: pa.Array) -> Typed:
    """values: as the parser gave them."""
    wanted = arrow_type(rule.type)
    kinds = set(map(type, values)) - {NoneType}
    if not kinds:
        return Typed(pa.nulls(len(values), wanted))
    own, reader = _reader(rule)
    if kinds <= own and reader is not None:
        return reader(values, rule)
    if rule.type == "string" and rule.coerce and int in kinds:
        # But for 0: it may have been written -0, which is no text.
        values = [str(value) if type(value) is int and value else value for value in values]
    found = _of_texts(values if kinds == {str} else _only({str}, values), rule, missing)
    parts = [found] if reader is None else [found, reader(_only(own, values), rule)]
    taken = {NoneType, str, *own}
    odd = None if kinds <= taken else _where(values, kinds | {NoneType}, lambda kind: kind not in taken)
    doubtful = union([*(part.doubtful for part in parts), odd], len(values))
    return Typed(pc.coalesce(*(part.values for part in parts)), some(doubtful))


def _only(kinds: set[type], values: Values) -> Values:
    """The values of these types, null in place of the others."""
    return [value if type(value) in kinds else None for value in values]


def _of_texts(texts: Values, rule: FieldRule, missing: pa.Array) -> Typed:
    column = pa.array(texts, pa.string())
    if rule.type != "string":
        column = without_missing(column, missing)
    return typed_text(column, rule, texts=False)


def _booleans(values: Values, rule: FieldRule) -> Typed:
    del rule
    return Typed(pa.array(values, pa.bool_()))


def _integers(values: Values, rule: FieldRule) -> Typed:
    """Integers as a number, or as a time since 1970."""
    try:
        column, doubtful = pa.array(values, pa.int64()), None
    except (OverflowError, pa.ArrowInvalid):
        fits = [value is None or -_BOUND <= value < _BOUND for value in values]
        doubtful = ~np.array(fits)
        column = pa.array([value if fit else None for value, fit in zip(values, fits, strict=True)], pa.int64())
    found = of_number(column, rule.unit) if rule.unit is not None else typed(column, rule)
    return Typed(found.values, some(union([found.doubtful, doubtful], len(values))))


def _decimals(values: Values, rule: FieldRule) -> Typed:
    """Integers as decimals, by their text: Arrow casts them only to decimals of 19 digits and more."""
    return typed_text(pa.array([None if value is None else str(value) for value in values]), rule, texts=True)


def _doubles(values: Values, rule: FieldRule) -> Typed:
    too_large = [type(value) is int and abs(value) >= _BOUND for value in values] if int in map(type, values) else []
    if any(too_large):
        values = [None if large else value for value, large in zip(values, too_large, strict=True)]
    numbers = np.array(values, dtype=np.float64) + 0.0  # null is NaN; minus zero is zero
    column = pa.array(numbers, mask=np.isnan(numbers))
    doubtful = np.isinf(numbers) | (np.array(too_large) if too_large else False)
    if rule.type == "float":
        found = single(column)
        return Typed(found.values, some(union([found.doubtful, doubtful], len(values))))
    return Typed(column, some(doubtful))


def _reader(rule: FieldRule) -> tuple[set[type], Callable[[Values, FieldRule], Typed] | None]:
    """The Python types that a column takes as they are, and what reads them; no reader for a column of texts."""
    if rule.type == "boolean":
        return {bool}, _booleans
    if rule.type in ("float", "double"):
        return {int, float}, _doubles
    if rule.type == "string" or (rule.type in ("date", "timestamp") and rule.unit is None):
        return {str}, None
    return {int}, _decimals if rule.type.startswith("decimal") else _integers
