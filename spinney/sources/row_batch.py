"""Batches of rows that know which file they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class MalformedRow:
    """A row that could not be split into columns. number: in its file, from 1. text: the row as it is in the file."""

    file: str
    number: int
    text: str
    problem: str


@dataclass(frozen=True)
class RowBatch:
    """Some rows of one file, given either as `columns` or as `lines`.

    numbers: each row's number in its file, from 1, not counting a CSV's header; for JSON lines the line number.
    columns: the values by column. texts: the columns that are text only because the file has no types: all of a CSV,
    and the partitions of a path. lines: the objects of JSON lines, as written. malformed: rows in between that could
    not be split into columns.
    """

    file: str
    numbers: Sequence[int]
    columns: pa.RecordBatch | None = None
    texts: frozenset[str] = frozenset()
    lines: Sequence[bytes] = ()
    malformed: tuple[MalformedRow, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Source:
    """Opened files. read: yields the rows of all files, always in the same order.

    columns: name → type, in the order of the first file, text for CSV; None if each row has its own fields (JSON
    lines). files: number of files. rows: number of rows; estimated from the number of bytes unless `is_exact`. notes:
    assumptions that were made, as sentences.
    """

    name: str
    columns: dict[str, pa.DataType] | None
    files: int
    rows: int
    is_exact: bool
    read: Callable[[], Iterator[RowBatch]]
    notes: tuple[str, ...] = field(default=())

    def batches(self) -> Iterator[RowBatch]:
        """Yield the rows. Raises ContractError for a damaged file."""
        return self.read()


@dataclass(frozen=True)
class DataFile:
    """One opened file of a source. read: takes the columns to read (None: all) and yields batches.

    fields: the fields of the first objects of JSON lines, as struct or null types; None if none of these lines is an
    object.
    """

    name: str
    columns: dict[str, pa.DataType] | None
    rows: int
    is_exact: bool
    read: Callable[[Sequence[str] | None], Iterator[RowBatch]]
    notes: tuple[str, ...] = field(default=())
    fields: dict[str, pa.DataType] | None = None
