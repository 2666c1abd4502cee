"""Validate the rows of a source: yield the valid ones with their values, count the others by reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from schemas.vocabulary import DeadLetterReason
from spinney.core.records.rules import RecordRules
from spinney.core.records.validation import ValidationResult, validate
from spinney.sources.fleet_files import messages_of
from spinney.sources.rejections import Rejection, Rejections
from spinney.sources.row_batch import MalformedRow, RowBatch, Source


@dataclass(frozen=True)
class ValidRow:
    """A valid row. message: the JSON message that `produce` sends for it. values: of the fleet's columns."""

    file: str
    number: int
    message: bytes
    values: Mapping[str, Any]


def valid_rows(source: Source, rules: RecordRules, rejections: Rejections) -> Iterator[ValidRow]:
    """Yield the valid rows, and count the others in `rejections`.

    Raises RejectionLimitError: too many rejected rows. ContractError: a damaged file.
    """
    read = 0
    for batch in source.batches():
        now = datetime.now(UTC)
        for bad in batch.malformed:
            read += 1
            rejections.add(rejection_of_malformed_row(bad))
            rejections.check(source.name, read)
        for number, message in messages_of(batch, rules):
            read += 1
            result = validate(message, now, rules)
            if result.values is not None:
                yield ValidRow(batch.file, number, message, result.values)
            else:
                rejections.add(rejection_of_row(batch, number, result))
                rejections.check(source.name, read)
    rejections.check(source.name, read, ended=True)


def rejection_of_row(batch: RowBatch, number: int, result: ValidationResult) -> Rejection:
    """Return the rejection of a row that is not valid.

    number: the row's number in its file. result: of its validation.
    """
    reason = result.reason.value if result.reason is not None else ""
    return Rejection(batch.file, number, reason, result.field, result.detail or "")


def rejection_of_malformed_row(row: MalformedRow) -> Rejection:
    """Return the rejection of a row that could not be split: it has no fields, so it counts as not an object."""
    return Rejection(row.file, row.number, DeadLetterReason.NOT_AN_OBJECT.value, None, row.problem)
