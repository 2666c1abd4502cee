"""Rows of files as the messages that `produce` sends: each file is validated as those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from schemas import messages
from spinney.core.config import Config
from spinney.core.config.values import is_number
from spinney.core.records.message_encoding import encode_message
from spinney.core.records.rules import RecordRules, build_rules
from spinney.sources import python_values
from spinney.sources.batch import Batch, Source
from spinney.sources.opening import open_source
from spinney.sources.options import Options, Wanted


def wanted_by(config: Config, *, outcomes: bool, only: bool = False) -> Wanted:
    """The columns of a file of events or outcomes, by the names that the file has for them.

    Required are the id, the time and the group, of outcomes the label too. only: leave other columns out.
    """
    rules = build_rules(config, messages.OUTCOME if outcomes else messages.EVENT)
    required = frozenset(rule.source for rule in rules.fields if rule.required)
    return Wanted(tuple(rule.source for rule in rules.fields), required, only, number_fields(rules))


def number_fields(rules: RecordRules) -> frozenset[str]:
    """The fields that are numbers in messages and files, by their names there."""
    return frozenset(rule.source for rule in rules.fields if is_number(rule.type) or rule.unit is not None)


def open_for(config: Config, place: str | Path, options: Options, *, outcomes: bool) -> Source:
    """Open a file of events or outcomes with every column that it has.

    Raises ContractError: as `open_source`.
    """
    return open_wanted(place, options, wanted_by(config, outcomes=outcomes))


def open_wanted(place: str | Path, options: Options, wanted: Wanted) -> Source:
    """As `open_for`, for other columns."""
    return open_source(place, replace(options, wanted=wanted))


def messages_of(batch: Batch, rules: RecordRules) -> Iterator[tuple[int, bytes]]:
    """Number and message of each row of a batch."""
    if batch.columns is None:
        yield from zip(batch.numbers, batch.lines, strict=True)
        return
    for number, row in zip(batch.numbers, python_values.rows(batch.columns), strict=True):
        yield number, encode_message(row, rules, texts=batch.texts)
