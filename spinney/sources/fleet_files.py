"""Open files with the columns of a fleet, and encode their rows as the messages that `produce` sends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from schemas import messages
from schemas.messages import MAX_RECORD_BYTES
from spinney.core.config import RecordSchema
from spinney.core.config.value_types import is_number
from spinney.core.records.input_message_encoding import encode_message
from spinney.core.records.rules import RecordRules, build_rules
from spinney.sources import python_values
from spinney.sources.opening import open_source
from spinney.sources.options import ColumnSelection, ReadOptions
from spinney.sources.row_batch import RowBatch, Source


def columns_for(schema: RecordSchema, *, outcomes: bool, is_exclusive: bool = False) -> ColumnSelection:
    """Return the columns of a file of events or outcomes, under the names that the file uses.

    Required are the id, the time and the group, for outcomes also the label. is_exclusive: leave out all other columns.
    """
    rules = build_rules(schema, messages.OUTCOME if outcomes else messages.EVENT)
    required = frozenset(rule.source for rule in rules.read if rule.required)
    names = tuple(dict.fromkeys(rule.source for rule in rules.read))
    return ColumnSelection(names, required, is_exclusive, number_fields(rules), stored=stored_fields(schema))


def stored_fields(schema: RecordSchema) -> dict[str, str]:
    """Return column of the tables `events` and `outcomes` → its name in messages and files."""
    fleet = schema.fleet
    rules = [rule for of in (messages.OUTCOME, messages.EVENT) for rule in build_rules(schema, of).read]
    own = {fleet.event_id: "event_id", fleet.event_time: "event_time"}
    fields = {own.get(rule.name, rule.name): rule.source for rule in rules}
    return fields | {"label": fields[fleet.target]}


def number_fields(rules: RecordRules) -> frozenset[str]:
    """Return the fields that hold numbers in messages and files, by their names there."""
    return frozenset(rule.source for rule in rules.fields if is_number(rule.type) or rule.unit is not None)


def open_fleet_file(schema: RecordSchema, path: str | Path, options: ReadOptions, *, outcomes: bool) -> Source:
    """Open a file of events or outcomes with all its columns. Raises ContractError if `open_source` does."""
    return open_columns(path, options, columns_for(schema, outcomes=outcomes))


def open_columns(path: str | Path, options: ReadOptions, selection: ColumnSelection) -> Source:
    """Open a file with a given selection of columns. Raises ContractError if `open_source` does."""
    return open_source(path, replace(options, selection=selection))


def messages_of(batch: RowBatch, rules: RecordRules) -> Iterator[tuple[int, bytes]]:
    """Yield number and message of each row of a batch. A message that would be too long has declared fields only."""
    if batch.columns is None:
        yield from zip(batch.numbers, batch.lines, strict=True)
        return
    for number, row in zip(batch.numbers, python_values.to_rows(batch.columns), strict=True):
        message = encode_message(row, rules, texts=batch.texts)
        if len(message) > MAX_RECORD_BYTES:  # `load` does not read the undeclared fields, and accepts the row
            declared = {name: value for name, value in row.items() if name in rules.known}
            message = encode_message(declared, rules, texts=batch.texts)
        yield number, message
