"""What reading gives: batches of rows that know which file they are from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class BadRow:
    """A row that could not be split into columns. number: in its file, from 1. text: as it stands there."""

    file: str
    number: int
    text: str
    why: str


@dataclass(frozen=True)
class Batch:
    """Some rows of one file. Either `columns` or `lines` is given.

    numbers: each row's number in its file, from 1, a CSV's header not counted; of JSON lines the line.
    columns: their values. texts: those of the columns whose values are text only because the file has no types: all
    of a CSV, the partitions of a path. lines: of JSON lines, each an object as it stands. bad: rows between these that
    could not be split into columns.
    """

    file: str
    numbers: Sequence[int]
    columns: pa.RecordBatch | None = None
    texts: frozenset[str] = frozenset()
    lines: Sequence[bytes] = ()
    bad: tuple[BadRow, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Source:
    """Opened files. read: gives the rows of all of them in an order that is always the same.

    columns: name → type, in the order of the first file, text for CSV; None where each row has fields of its own (JSON
    lines). files: their number. rows: how many there are; `exact`, or estimated by bytes. notes: what was assumed,
    each in words for people.
    """

    name: str
    columns: dict[str, pa.DataType] | None
    files: int
    rows: int
    exact: bool
    read: Callable[[], Iterator[Batch]]
    notes: tuple[str, ...] = field(default=())

    def batches(self) -> Iterator[Batch]:
        """Yield the rows. Raises ContractError for a damaged file."""
        return self.read()


@dataclass(frozen=True)
class DataFile:
    """One opened file of a source. read: takes the columns to read (None: all) and gives batches.

    fields: of JSON lines, the fields of the first objects, as structs or null types; None if none of these lines is an
    object.
    """

    name: str
    columns: dict[str, pa.DataType] | None
    rows: int
    exact: bool
    read: Callable[[Sequence[str] | None], Iterator[Batch]]
    notes: tuple[str, ...] = field(default=())
    fields: dict[str, pa.DataType] | None = None
