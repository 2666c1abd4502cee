"""Records of one request as typed rows: valid ones together, each other one with its own error.

A record is valid if its key columns are, and its features where it has them, by the rules for records of the stream.
`[fleet.ranges]`, the id and the time's distance from now are not checked: an answer stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from schemas import messages
from schemas.vocabulary import DeadLetterReason
from spinney.core import keys
from spinney.core.arrow_types import arrow_type
from spinney.core.config import Fleet, RecordSchema
from spinney.core.errors import ContractError
from spinney.core.features.encoding import Integers
from spinney.core.records.column_conversion import Mask
from spinney.core.records.doubtful_rows import doubtful_mask
from spinney.core.records.json_columns import count_strings, read_object_columns
from spinney.core.records.json_parsing import describe_value
from spinney.core.records.rules import FieldRule, RecordRules, build_rules
from spinney.core.records.validation import MAX_DETAIL_CHARACTERS, RejectedError, value_of

FEW_RECORDS = 8
"""Up to this many records are read one by one, at 30 us each; reading them together costs 500 us for any number."""

_ANY_TIME = int(np.iinfo(np.int64).max)
_PLAIN_TYPES = frozenset({type(None), bool, int, float, str})
_ARROW_ERRORS = (pa.ArrowException, ArithmeticError, TypeError, ValueError)


@dataclass(frozen=True)
class RowError:
    """Why a record has no answer.

    reason: as for a dead letter. field: the column at fault; None if it is the whole record.
    """

    reason: str
    detail: str
    field: str | None = None


@dataclass(frozen=True)
class RequestRows:
    """The valid records of a request as rows.

    rows: one column per declared column, without the target. group_keys: each row's. places: shape (n_rows,), the
    position of each row's record in the request. errors: position -> error of each invalid record. strings: number of
    names and texts in all objects.
    """

    rows: pa.Table
    group_keys: list[str]
    places: Integers
    errors: Mapping[int, RowError]
    strings: int


def request_rules(schema: RecordSchema, *, by_column: bool = False) -> RecordRules:
    """Return the rules for records to be answered.

    by_column: fields have the names of columns, as in a frame, and not those that messages have (`[fleet.fields]`).
    """
    fleet, of_event = schema.fleet, build_rules(schema, messages.EVENT)
    wanted = dict.fromkeys([*fleet.group, fleet.event_time, *schema.event_columns])
    wanted.pop(fleet.target, None)
    fields = tuple(
        replace(
            rule,
            source=rule.name if by_column else rule.source,
            required=rule.name in fleet.group,
            low=None,
            high=None,
        )
        for rule in map(of_event.rule_of, wanted)
    )
    return replace(of_event, fields=fields)


def read_request_rows(
    records: Sequence[Any], exact: Callable[[], Sequence[Any]], rules: RecordRules, fleet: Fleet
) -> RequestRows:
    """Validate records and convert them.

    records: as `pydantic_core.from_json` parses them. exact: returns the same records with numbers as NumberText; it is
    called only if a record cannot certainly be read without. rules: from `request_rules`.

    Raises ContractError if the field of a feature is missing in every record: it was misspelt or forgotten. A feature
    that is null, or missing in only some records, is imputed.
    """
    objects = [record if type(record) is dict else {} for record in records]
    not_objects = np.fromiter((type(record) is not dict for record in records), np.bool_, len(records))
    errors = {place: _not_an_object(records[place]) for place in np.flatnonzero(not_objects).tolist()}
    if len(records) <= FEW_RECORDS:
        strings, doubtful, columns = count_strings(records), ~not_objects, {}
    else:
        found = read_object_columns(objects, rules)
        strings, columns = int(found.strings.sum()), {name: column.values for name, column in found.columns.items()}
        doubtful = doubtful_mask(rules, lambda rule: found.columns[rule.name], _ANY_TIME, len(records)) & ~not_objects
    if doubtful.any() or not columns:
        one_by_one = _read_one_by_one(exact(), doubtful, rules)
        errors |= one_by_one.errors
        columns = {rule.name: _replaced(columns.get(rule.name), doubtful, one_by_one, rule) for rule in rules.fields}
    if not not_objects.all():  # otherwise each has its own error, which says more
        _require_features(objects, columns, rules, fleet)
    rows, places = pa.table(columns), np.arange(len(records))
    if errors:
        is_valid = np.ones(len(records), dtype=np.bool_)
        is_valid[list(errors)] = False
        rows, places = rows.filter(pa.array(is_valid)), np.flatnonzero(is_valid)
    return RequestRows(rows, _group_keys(rows, fleet.group), places, errors, strings)


def read_plain_rows(
    records: Sequence[Any], exact: Callable[[], Sequence[Any]], rules: RecordRules, fleet: Fleet
) -> list[dict[str, Any]] | None:
    """Return column -> value of each record, the values that `read_request_rows` makes columns of.

    Returns None if a record is not valid, or has no field of a feature: `read_request_rows` says what is wrong.
    """
    if not all(type(record) is dict for record in records):
        return None
    try:
        rows = [_values_of(record, rules) for record in exact()]
    except RejectedError:
        return None
    for name in fleet.features:
        nulls = [record for record, row in zip(records, rows, strict=True) if row[name] is None]
        if nulls and not all(rules.rule_of(name).source in record for record in nulls):
            return None
    return rows


@dataclass(frozen=True)
class _OneByOne:
    """The result of reading records one by one.

    values: column -> values, null in records with an error. errors: place -> error.
    """

    values: Mapping[str, list[Any]]
    errors: Mapping[int, RowError]


def _read_one_by_one(exact: Sequence[Any], doubtful: Mask, rules: RecordRules) -> _OneByOne:
    values: dict[str, list[Any]] = {rule.name: [] for rule in rules.fields}
    errors: dict[int, RowError] = {}
    for place in np.flatnonzero(doubtful).tolist():
        read: Mapping[str, Any] = {}
        try:
            read = _values_of(exact[place], rules)
        except RejectedError as error:
            read, errors[place] = {}, RowError(error.reason.value, error.detail[:MAX_DETAIL_CHARACTERS], error.field)
        for name, column in values.items():
            column.append(read.get(name))
    return _OneByOne(values, errors)


def _values_of(record: Any, rules: RecordRules) -> dict[str, Any]:
    """Return column -> value of one record. Raises RejectedError."""
    read = {rule.name: value_of(record, rule, rules) for rule in rules.fields}
    _require_storable(read, rules)
    return read


def _require_storable(values: Mapping[str, Any], rules: RecordRules) -> None:
    """Raise RejectedError for a value that Arrow cannot hold. Arrow can hold every valid number and text."""
    for rule in rules.fields:
        if type(values[rule.name]) in _PLAIN_TYPES:
            continue
        try:
            pa.array([values[rule.name]], arrow_type(rule.type))
        except _ARROW_ERRORS as error:
            detail = f"{rule.display_name}: expected {rule.type}; got a value that it cannot hold"
            raise RejectedError(DeadLetterReason.WRONG_TYPE, detail, rule.name) from error


def _replaced(values: pa.Array | None, doubtful: Mask, one_by_one: _OneByOne, rule: FieldRule) -> pa.Array:
    """The values, None for null ones, with those of doubtful records as they were read one by one."""
    read = pa.array(one_by_one.values[rule.name], arrow_type(rule.type))
    if len(read) == len(doubtful):
        return read
    values = pa.nulls(len(doubtful), read.type) if values is None else values
    places = np.where(doubtful, len(doubtful) - 1 + np.cumsum(doubtful), np.arange(len(doubtful)))
    return pa.concat_arrays([values, read]).take(pa.array(places))


def _require_features(
    objects: Sequence[Mapping[str, Any]], columns: Mapping[str, pa.Array], rules: RecordRules, fleet: Fleet
) -> None:
    for name in fleet.features:
        source = rules.rule_of(name).source
        is_absent = columns[name].null_count == len(objects) and "." not in source
        if objects and is_absent and not any(source in record for record in objects):
            names = ", ".join(sorted({name for record in objects for name in record})[:20]) or "none"
            raise ContractError(
                f"records: field {source}: expected it in some record, a feature of type {fleet.type_of(name)}; "
                f"got records with the fields {names[:MAX_DETAIL_CHARACTERS]}. Add it, as null where it is missing"
            )


def _group_keys(rows: pa.Table, group: Sequence[str]) -> list[str]:
    values = list(zip(*(rows.column(name).to_pylist() for name in group), strict=True))
    known = {key: keys.encode(key) for key in set(values)}
    return [known[key] for key in values]


def _not_an_object(record: Any) -> RowError:
    kind = "a number" if isinstance(record, int | float) and not isinstance(record, bool) else describe_value(record)
    return RowError(DeadLetterReason.NOT_AN_OBJECT.value, f"expected a JSON object; got {kind}")
