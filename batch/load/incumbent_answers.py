"""Read the current system's answers from the column `prediction` of loaded events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch.load.typed_batch import TypedBatch
from batch.load.vectorized_validation import event_columns, label_rules
from schemas.vocabulary import DeadLetterReason
from spinney.core.arrow_types import arrow_type
from spinney.core.config import RecordSchema
from spinney.core.errors import StoreError
from spinney.core.records.input_message_encoding import encode_message
from spinney.core.records.json_parsing import describe_value
from spinney.core.records.rules import FieldRule, RecordRules
from spinney.core.records.validation import RejectedError, read_message, value_of
from spinney.sources import ColumnSelection, python_values
from spinney.storage.layout import FleetStore

ANSWER = "prediction"


def may_be_answer(schema: RecordSchema, columns: Iterable[str] | None) -> bool:
    """Return whether a column `prediction` of events holds the current system's answers.

    It does unless the fleet declares a column of this name or reads a field of this name. columns: of the source; None
    if not known.
    """
    if schema.fleet.type_of(ANSWER) is not None:
        return False
    read = ColumnSelection(tuple(rule.source for rule in (*event_columns(schema).rules.fields, *label_rules(schema))))
    return ANSWER not in read.select([ANSWER, *(columns or ())])


class IncumbentAnswers:
    """Converts the current system's answers to the type of the table; null if it gave none.

    rules: of the events. source: the name of the source, for messages.
    """

    def __init__(self, store: FleetStore, rules: RecordRules, source: str) -> None:
        self._rules, self._source = rules, source
        self._is_number = store.fleet.task == "regression"
        self._rule = FieldRule(ANSWER, ANSWER, "double" if self._is_number else store.record_schema.target_type)
        self._stored = arrow_type(store.answer_type)

    @property
    def field(self) -> pa.Field:
        """The column of `incumbent` that holds the answers."""
        return pa.field(ANSWER, self._stored)

    def of_columns(self, batch: TypedBatch) -> pa.Array:
        """Return the answer of each row, shape (rows,). Raises StoreError for a value that cannot be an answer of this
        fleet.
        """
        found = batch.get(self._rule)
        values = found.values.cast(self._stored)
        if found.doubtful is None:
            return values
        doubtful = pa.array(found.doubtful)
        rules = replace(self._rules, fields=(self._rule,))
        texts = frozenset({ANSWER} if batch.is_text(self._rule) else ())
        column = batch.column_of(self._rule)
        assert column is not None, "a batch without the column has no doubtful values"
        raw = python_values.to_values(column.filter(doubtful))
        messages = [read_message(encode_message({ANSWER: answer}, rules, texts=texts)) for answer in raw]
        return pc.replace_with_mask(values, doubtful, self.of_messages(messages))

    def of_messages(self, messages: Iterable[Mapping[str, Any]]) -> pa.Array:
        """Return the answers of JSON objects as `read_message` returns them. Raises StoreError, as `of_columns`."""
        return pa.array([self._of(message) for message in messages], self._stored)

    def _of(self, message: Mapping[str, Any]) -> Any:
        try:
            value = value_of(message, self._rule, self._rules)
        except RejectedError as error:
            if self._is_number and error.reason is DeadLetterReason.NOT_FINITE:
                return None
            raise self._no_answer(describe_value(message[ANSWER])) from error
        if value is None or self._is_number:
            return value
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _no_answer(self, odd: str) -> StoreError:
        what = "what the current system answered" if self._is_number else "the class that the current system answered"
        advice = "" if self._is_number else " (a probability is no class)"
        return StoreError(
            f"load: {self._source}: column {ANSWER}: expected {self._rule.type}, {what}; got {odd}. Convert "
            f"it{advice}, or rename it if it is something else"
        )
