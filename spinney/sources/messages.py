"""Rows of files as the messages that `produce` sends: each file is judged as those."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from schemas import messages
from spinney.core.config import Config
from spinney.core.config.values import is_number
from spinney.core.records.message import message_of
from spinney.core.records.rules import Rules, rules_of
from spinney.core.records.values import TRUTHS
from spinney.sources import python_values
from spinney.sources.agreement import without_required
from spinney.sources.batch import Batch, Source
from spinney.sources.opening import open_source
from spinney.sources.options import Options, Wanted

_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
LOOKED_AT = 1_000
"""JSON lines whose fields are looked at before any is judged."""


def wanted_by(config: Config, *, outcomes: bool, only: bool = False) -> Wanted:
    """The columns of a file of events or outcomes, by the names that the file has for them.

    Required are the id, the time and the group, of outcomes the label too. only: leave other columns out.
    """
    rules = rules_of(config, messages.OUTCOME if outcomes else messages.EVENT)
    required = frozenset(rule.source for rule in rules.fields if rule.required)
    return Wanted(tuple(rule.source for rule in rules.fields), required, only, number_fields(rules))


def number_fields(rules: Rules) -> frozenset[str]:
    """The fields that are numbers in messages and files, by their names there."""
    return frozenset(rule.source for rule in rules.fields if is_number(rule.type) or rule.unit is not None)


def open_for(config: Config, place: str | Path, options: Options, *, outcomes: bool) -> Source:
    """Open a file of events or outcomes with every column that it has.

    Raises ContractError: as `open_source`, and for JSON lines none of whose first objects has a required field.
    """
    return open_wanted(place, options, wanted_by(config, outcomes=outcomes))


def open_wanted(place: str | Path, options: Options, wanted: Wanted) -> Source:
    """As `open_for`, for other columns."""
    source = open_source(place, replace(options, wanted=wanted))
    if source.columns is None:
        _refuse_lines_without_required(source, wanted)
    return source


def _refuse_lines_without_required(source: Source, wanted: Wanted) -> None:
    first = next(source.batches(), None)
    objects = [found for line in (first.lines[:LOOKED_AT] if first else ()) if (found := _object(line)) is not None]
    names = dict.fromkeys(name for each in objects for name in each)
    lacking = [each for each in wanted.names if each in wanted.required and wanted.in_file(each, names) is None]
    if objects and lacking:
        raise without_required(source.name, wanted, names, lacking)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def messages_of(batch: Batch, rules: Rules) -> Iterator[tuple[int, bytes]]:
    """Number and message of each row of a batch."""
    if batch.columns is None:
        yield from zip(batch.numbers, batch.lines, strict=True)
        return
    whole = batch.texts >= set(batch.columns.schema.names)
    for number, row in zip(batch.numbers, python_values.rows(batch.columns), strict=True):
        yield number, message_of(row if whole else _with_typed_texts(row, batch, rules), rules, texts=whole)


def _with_typed_texts(row: Mapping[str, Any], batch: Batch, rules: Rules) -> Mapping[str, Any]:
    """The row, with numbers and truths of its path as such: text without a type is read by the type of its column."""
    if not batch.texts:
        return row
    found = dict(row)
    for rule in rules.fields:
        text = found.get(rule.source)
        if rule.source not in batch.texts or not isinstance(text, str):
            continue
        if rule.type == "boolean":
            found[rule.source] = TRUTHS.get(text, text)
        elif (is_number(rule.type) or rule.unit is not None) and _JSON_NUMBER.fullmatch(text):
            found[rule.source] = Decimal(text)
    return found
