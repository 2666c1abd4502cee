"""Files whose columns have types: which of their columns can be read, and their rows in plain types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import types

from spinney.core.errors import ContractError
from spinney.sources import column_checks
from spinney.sources.columnar.plain_columns import plain_batch, plain_type
from spinney.sources.options import ReadOptions
from spinney.sources.row_batch import DataFile, RowBatch

BATCH_ROWS, BATCH_BYTES = 262_144, 64 * 1024**2
"""Upper bounds of one batch; bytes are estimated from the schema and the file's metadata."""

ERRORS = (pa.ArrowException, OSError)
"""Exceptions that Arrow raises for a file that it cannot read."""

_TEXT_BYTES = 32


@dataclass(frozen=True)
class TypedFile:
    """An opened file. schema: its columns. rows: their number; an estimate unless is_exact.

    read: takes the columns to read (None: all) and yields batches; raises one of ERRORS. unreadable: columns that
    Arrow cannot read.
    """

    schema: pa.Schema
    rows: int
    is_exact: bool
    read: Callable[[Sequence[str] | None], Iterator[pa.RecordBatch]]
    unreadable: frozenset[str] = frozenset()


def open_typed(opened: TypedFile, name: str, options: ReadOptions, kind: str) -> DataFile:
    """Return a file as a source sees it: without columns and fields that share a name, and with plain types. Columns
    that cannot be read are left out unless they are selected.

    kind: the format, for messages. Raises ContractError if the file has a selected column twice.
    """
    schema = opened.schema
    column_checks.refuse_duplicate_columns(name, schema.names, options)
    column_checks.refuse_duplicate_fields(name, schema, options)
    # None of them is selected. Which of them has the values is not known, and Arrow finds no column by such a name.
    repeated = column_checks.find_repeated_columns(schema.names)
    selected = options.selection.select(schema.names) if options.selection is not None else []
    unreadable = [column for column in sorted(opened.unreadable) if column not in selected]
    columns = {field.name: plain_type(field.type) for field in schema if field.name not in (*repeated, *unreadable)}
    is_exclusive = options.selection is not None and options.selection.is_exclusive
    left_out = () if is_exclusive else (*repeated, *column_checks.find_repeated_fields(schema))

    def read(only: Sequence[str] | None) -> Iterator[RowBatch]:
        first = 1
        wanted = list(columns) if only is None and (repeated or unreadable) else only
        try:
            for batch in opened.read(wanted):
                # A name may be the beginning of another one's path.
                names = [column for column in batch.schema.names if wanted is None or column in wanted]
                yield RowBatch(name, range(first, first + batch.num_rows), plain_batch(batch.select(names)))
                first += batch.num_rows
        except ERRORS as error:
            raise unreadable_error(name, error, kind) from error

    notes = [*map(column_checks.left_out_note, left_out)]
    notes += map(column_checks.unreadable_note, () if is_exclusive else unreadable)
    return DataFile(name, columns, opened.rows, opened.is_exact, read, tuple(notes))


def unreadable_error(name: str, error: Exception, kind: str) -> ContractError:
    """Return the error for a file that cannot be read. kind: its format."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ContractError(f"{name}: expected {kind} file; got: {first[:300]}")


def rows_per_batch(schema: pa.Schema, size: int, rows: int) -> int:
    """Return how many rows of a file are read per batch.

    size: bytes of all rows, 0 if not known. rows: number of all rows.
    """
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(row_bytes(schema), size // max(rows, 1))))


def row_bytes(schema: pa.Schema) -> int:
    """Return about how many bytes a row has, by the types of its columns."""
    widths = [field.type.bit_width // 8 if _is_fixed(field.type) else _TEXT_BYTES for field in schema]
    return max(sum(widths), 1)


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(types.is_primitive(kind) or types.is_decimal128(kind))
