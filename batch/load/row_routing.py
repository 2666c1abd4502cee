"""Read batch by batch: valid rows go to the spools of their message kinds, the others to the dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from batch.load.dead_letters import DeadLetters
from batch.load.incumbent_answers import ANSWER, IncumbentAnswers
from batch.load.labels_in_events import label_mask
from batch.load.row_validation import LateLabels, ValidRows
from batch.load.spool import Spool
from batch.load.typed_batch import TypedBatch
from batch.load.vectorized_validation import ColumnValidator
from spinney.core.config import RecordSchema
from spinney.core.records.column_conversion import Mask
from spinney.core.records.validation import RejectedError, ValidationResult, read_message, validate
from spinney.sources import MalformedRow, RowBatch
from spinney.sources.fleet_files import messages_of
from spinney.sources.rejections import Rejections
from spinney.sources.row_validation import rejection_of_malformed_row, rejection_of_row


@dataclass(frozen=True)
class MessageLoad:
    """The state of a load for one kind of message. topic: name of the topic that is stored in its rows."""

    validator: ColumnValidator
    spool: Spool
    topic: str

    def new_valid_rows(self, group: tuple[str, ...]) -> ValidRows:
        """Return an empty collection for valid rows. group: names of the key columns."""
        return ValidRows(self.validator.columns, self.validator.groups, group)


@dataclass(frozen=True)
class MessageLoads:
    """The states of a load.

    main: events or outcomes, as the rows of the source are. late: outcomes that rows of events contain as well, or
    None. answers: the current system's answers to the events, or None.
    """

    main: MessageLoad
    late: MessageLoad | None = None
    answers: IncumbentAnswers | None = None


class RowRouter:
    """Passes on the rows of batches: valid rows to the spools of their kinds, rejected rows to the dead letters.

    moment: the time of this load. rows: number of rows read so far, valid or not.
    """

    def __init__(
        self, schema: RecordSchema, loads: MessageLoads, dead: DeadLetters, rejections: Rejections, moment: datetime
    ) -> None:
        self._fleet, self._loads, self._moment = schema.fleet, loads, moment
        self._dead, self._rejections = dead, rejections
        self._rules = loads.main.validator.columns.rules
        self._late = LateLabels(schema, self._rules) if loads.late is not None else None
        self.rows = 0
        self._file, self._first, self._last = "", 0, 0

    def read(self, batch: RowBatch, source: str) -> None:
        """Read one batch. Raises RejectionLimitError: too many rejected rows."""
        places = self._places(batch)
        for bad in batch.malformed:
            self.rows += 1
            self._rejections.add(rejection_of_malformed_row(bad))
            self._dead.add(
                _malformed_dead_letter(bad), topic=self._loads.main.topic, place=self._first + bad.number - 1
            )
        if batch.columns is None:
            answers = self._answers_of_lines(batch)
            self._validate(batch, places, self._check_lines(batch, places, answers), answers, source)
        else:
            typed = TypedBatch(batch, self._rules)
            answers = self._loads.answers.of_columns(typed) if self._loads.answers is not None else None
            doubtful = self._check(typed, places, answers)
            self._validate(batch, places, doubtful, answers, source)
        self._rejections.check(source, self.rows)

    def _places(self, batch: RowBatch) -> np.ndarray:
        """Return each row's number in the source, from 0: its number in the file, after all rows of earlier files."""
        if batch.file != self._file:
            self._file, self._first = batch.file, self._last
        numbers = batch.numbers
        places = np.arange(numbers.start, numbers.stop) if isinstance(numbers, range) else np.array(numbers, np.int64)
        places = places + (self._first - 1)
        highest = max([self._last, *places[-1:] + 1, *(self._first + bad.number for bad in batch.malformed)])
        self._last = int(highest)
        return places

    def _check(self, typed: TypedBatch, places: np.ndarray, answers: pa.Array | None) -> tuple[Mask, Mask]:
        """Spool the rows that are certainly valid.

        Return the masks of rows that are doubtful, as main and as late messages.
        """
        place = pa.array(places)
        main, late = self._loads.main, self._loads.late
        checked = main.validator.validate(typed, place, {ANSWER: answers} if answers is not None else None)
        main.spool.add(checked.valid)
        self.rows += checked.valid.num_rows
        if late is None:
            return checked.doubtful, np.zeros(typed.rows, dtype=np.bool_)
        among = label_mask(typed, self._fleet, self._rules, late.validator.columns.rules, self._moment)
        late_checked = late.validator.validate(typed, place, among=among)
        late.spool.add(late_checked.valid)
        return checked.doubtful, late_checked.doubtful

    def _check_lines(self, batch: RowBatch, places: np.ndarray, answers: pa.Array | None) -> tuple[Mask, Mask]:
        """Check JSON lines like `_check`. If lines may hold a late label too, every line is doubtful."""
        every, none = np.ones(len(batch), dtype=np.bool_), np.zeros(len(batch), dtype=np.bool_)
        if self._loads.late is not None:
            return every, every
        extra = {ANSWER: answers} if answers is not None else None
        checked = self._loads.main.validator.validate_lines(batch.lines, pa.array(places), extra)
        self._loads.main.spool.add(checked.valid)
        self.rows += checked.valid.num_rows
        return checked.doubtful, none

    def _validate(
        self, batch: RowBatch, places: np.ndarray, doubtful: tuple[Mask, Mask], answers: pa.Array | None, source: str
    ) -> None:
        """Validate, one by one, the rows that are doubtful as a main or as a late message."""
        rows = np.flatnonzero(doubtful[0] | doubtful[1])
        if not len(rows):
            return
        main = self._loads.main.new_valid_rows(self._fleet.group)
        late = self._loads.late.new_valid_rows(self._fleet.group) if self._loads.late is not None else None
        kept = []
        for row, (number, message) in zip(rows.tolist(), self._messages(batch, rows), strict=True):
            place, is_dead = int(places[row]), False
            if doubtful[0][row]:
                self.rows += 1
                result = validate(message, self._moment, self._rules)
                is_dead = result.values is None
                if result.values is None:
                    self._reject(batch, number, message, result, (self._loads.main.topic, place))
                    self._rejections.check(source, self.rows)
                else:
                    main.add(place, result.values)
                    kept.append(row)
            if late is not None and doubtful[1][row]:
                self._validate_label(batch, (number, place), message, late, is_dead=is_dead)
        extra = {ANSWER: answers.take(pa.array(kept, pa.int64()))} if answers is not None else None
        if len(main):
            self._loads.main.spool.add(main.table(extra))
        if self._loads.late is not None and late is not None and len(late):
            self._loads.late.spool.add(late.table())

    def _validate_label(
        self, batch: RowBatch, where: tuple[int, int], message: bytes, valid: ValidRows, *, is_dead: bool
    ) -> None:
        """Validate the late label in a row.

        where: the row's number in the file, and its place in the source. is_dead: whether the event was rejected, so
        that the row is counted already.
        """
        number, place = where
        if self._late is None or self._loads.late is None:
            return
        found = self._late.validate(message, self._moment, is_observed=self._late.is_observed(batch))
        if found is None:
            return
        outcome, result = found
        if result.values is not None:
            valid.add(place, result.values)
        elif not is_dead:
            self._reject(batch, number, outcome, result, (self._loads.late.topic, place))

    def _messages(self, batch: RowBatch, rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
        numbers = [batch.numbers[row] for row in rows.tolist()]
        if batch.columns is None:
            part = replace(batch, numbers=numbers, lines=[batch.lines[row] for row in rows.tolist()], malformed=())
        else:
            part = replace(batch, numbers=numbers, columns=batch.columns.take(pa.array(rows)), malformed=())
        return messages_of(part, self._late.message_rules if self._late is not None else self._rules)

    def _reject(
        self, batch: RowBatch, number: int, message: bytes, result: ValidationResult, where: tuple[str, int]
    ) -> None:
        """Count a rejected row and keep it as a dead letter. where: topic and place."""
        self._rejections.add(rejection_of_row(batch, number, result))
        found = {"value": message, "reason": result.reason, "field": result.field, "detail": result.detail}
        self._dead.add(found, topic=where[0], place=where[1])

    def _answers_of_lines(self, batch: RowBatch) -> pa.Array | None:
        if self._loads.answers is None:
            return None
        return self._loads.answers.of_messages(_object(line) for line in batch.lines)


def _object(line: bytes) -> Mapping[str, Any]:
    """Return the object of a line that may contain an answer; empty for other lines.

    Other lines are not parsed: parsing every line a second time would take half the time of a load.
    """
    if ANSWER.encode() not in line and b"\\u" not in line:
        return {}
    try:
        return read_message(line)
    except RejectedError:
        return {}


def _malformed_dead_letter(row: MalformedRow) -> dict[str, Any]:
    """Return a malformed row as a dead letter: its text as a JSON string, since it is not an object."""
    rejection = rejection_of_malformed_row(row)
    value = json.dumps(row.text, ensure_ascii=False).encode()
    return {"value": value, "reason": rejection.reason, "field": None, "detail": rejection.description}
