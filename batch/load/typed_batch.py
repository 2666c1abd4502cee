"""The columns of a batch under the fleet's names and types, each converted once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spinney.core.arrow_types import arrow_type
from spinney.core.records.column_conversion import TypedColumn, convert_column, decode_column
from spinney.core.records.rules import FieldRule, RecordRules
from spinney.core.records.text_column_conversion import convert_text_column, null_missing_texts
from spinney.sources import RowBatch
from spinney.sources.nested_columns import Path, paths_to
from spinney.sources.python_values import is_object_map


class TypedBatch:
    """The columns of a batch. rules: the rules for records, which say which texts mean no value."""

    def __init__(self, batch: RowBatch, rules: RecordRules) -> None:
        if batch.columns is None:
            raise TypeError("JSON lines have no columns")
        self._batch = batch
        self._columns: pa.RecordBatch = batch.columns
        self._missing = pa.array(sorted(rules.missing), pa.string())
        self._found: dict[str, TypedColumn] = {}

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._columns.num_rows)

    def is_text(self, rule: FieldRule) -> bool:
        """Return whether the column is text only because the file has no types."""
        return rule.source in self._batch.texts

    def raw(self) -> list[pa.Array]:
        """Return the columns as they are in the file, from which the length of a row is estimated."""
        return list(self._columns.columns)

    def names(self) -> list[str]:
        """Return the names of the file's columns."""
        return list(self._columns.schema.names)

    def put(self, name: str, values: TypedColumn) -> None:
        """Add a column that the file does not have."""
        self._found[name] = values

    def get(self, rule: FieldRule) -> TypedColumn:
        """Return the column of a rule; all null if the file has none."""
        if rule.name not in self._found:
            self._found[rule.name] = self._typed(rule)
        return self._found[rule.name]

    def _typed(self, rule: FieldRule) -> TypedColumn:
        found = self.column_of(rule)
        if found is None:
            return TypedColumn(pa.nulls(self.rows, arrow_type(rule.type)))
        if len(list(self._paths(rule))) > 1:  # the values of a row decide which of them is read
            return TypedColumn(pa.nulls(self.rows, arrow_type(rule.type)), np.ones(self.rows, dtype=np.bool_))
        column = decode_column(found)
        if not types.is_string(column.type):
            return convert_column(column, rule)
        texts = self.is_text(rule)
        if texts or rule.type != "string":
            column = null_missing_texts(column, self._missing)
        return convert_text_column(column, rule, texts=texts)

    def column_of(self, rule: FieldRule) -> pa.Array | None:
        """Return the file's column of this name, or the nested column at this dotted path; None if there is neither.

        If there are several such columns, it is the one that takes precedence where it has a value.
        """
        path = next(self._paths(rule), None)
        if path is None:
            return None
        column = self._columns.column(path[0])
        for name in path[1:]:
            if is_object_map(column.type):
                column = pc.map_lookup(column, name, "last")
            else:
                column = pc.struct_field(column, [column.type.get_field_index(name)])
        return column

    def _paths(self, rule: FieldRule) -> Iterator[Path]:
        schema = self._columns.schema
        return paths_to(dict(zip(schema.names, schema.types, strict=True)), rule.source)
