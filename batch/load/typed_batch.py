"""One batch's columns under the fleet's names and types, each converted once."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spinney.core.arrow_types import arrow_type
from spinney.core.records.columns import TypedColumn, convert_column, decode_column
from spinney.core.records.rules import FieldRule, RecordRules
from spinney.core.records.text_columns import convert_text_column, null_missing_texts
from spinney.sources import RowBatch


class TypedBatch:
    """Columns of a batch that has them. rules: which texts mean no value."""

    def __init__(self, batch: RowBatch, rules: RecordRules) -> None:
        if batch.columns is None:
            raise TypeError("JSON lines have no columns")
        self._batch = batch
        self._columns: pa.RecordBatch = batch.columns
        self._missing = pa.array(sorted(rules.missing), pa.string())
        self._found: dict[str, TypedColumn] = {}

    @property
    def rows(self) -> int:
        return int(self._columns.num_rows)

    def has(self, name: str) -> bool:
        return name in self._columns.schema.names

    def is_text(self, rule: FieldRule) -> bool:
        """Whether the column is text only because the file has no types."""
        return rule.source in self._batch.texts

    def raw(self) -> list[pa.Array]:
        """The columns as the file has them, to estimate how long a row is."""
        return list(self._columns.columns)

    def names(self) -> list[str]:
        return list(self._columns.schema.names)

    def put(self, name: str, values: TypedColumn) -> None:
        """Give a column that the file does not have."""
        self._found[name] = values

    def get(self, rule: FieldRule) -> TypedColumn:
        """The column of a rule; all null where the file has none."""
        if rule.name not in self._found:
            self._found[rule.name] = self._typed(rule)
        return self._found[rule.name]

    def _typed(self, rule: FieldRule) -> TypedColumn:
        found = self.column_of(rule)
        if found is None:
            return TypedColumn(pa.nulls(self.rows, arrow_type(rule.type)))
        column = decode_column(found)
        if not types.is_string(column.type):
            return convert_column(column, rule)
        texts = self.is_text(rule)
        if texts or rule.type != "string":
            column = null_missing_texts(column, self._missing)
        return convert_text_column(column, rule, texts=texts)

    def column_of(self, rule: FieldRule) -> pa.Array | None:
        """As the file has it: the column of this whole name, or what its dotted path reaches inside nested ones."""
        source = rule.source
        if self.has(source):
            return self._columns.column(source)
        parts = source.split(".")
        if len(parts) == 1 or not self.has(parts[0]):
            return None
        found = self._columns.column(parts[0])
        for part in parts[1:]:
            if not types.is_struct(found.type) or found.type.get_field_index(part) < 0:
                return None
            found = pc.struct_field(found, [found.type.get_field_index(part)])
        return found
