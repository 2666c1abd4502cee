"""Options for reading files: the text format, the columns, the limit of rejected rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spinney.core.errors import ContractError
from spinney.core.records.field_paths import possible_roots
from spinney.sources.rejections import NO_LIMIT, RejectionLimit

THOUSANDS = (",", ".", "'", "_", " ")
"""Separators that may be between the thousands of a number; a blank also means any other blank that breaks no line."""

_NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


def is_delimiter(text: str) -> bool:
    """Return whether a text can separate the cells of a CSV: Arrow reads one byte as a delimiter."""
    return len(text) == 1 and text.isascii() and text not in '"\r\n\0'


@dataclass(frozen=True)
class TextFormat:
    """Format of a CSV file. None: detected in each file.

    delimiter: one character. encoding: a name that Python knows. decimal: "." or ",". thousands: the separator
    between thousands in numbers, one of THOUSANDS; None: no separator. skip_lines: number of lines above the header.
    multiline: whether line breaks in a quoted cell are always text, even if the lines look like rows merged by a
    stray quote. escape: the character before a quote within quotes, "backslash" or "quote".
    """

    delimiter: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    skip_lines: int | None = None
    multiline: bool = False
    escape: str | None = None

    @classmethod
    def parse(
        cls,
        delimiter: str | None,
        encoding: str | None,
        decimal: str | None,
        thousands: str | None = None,
        **how: Any,
    ) -> TextFormat:
        """Return the format as typed on a command line, where tab and space may be words.

        how: the other fields, as they are. Raises ContractError for invalid values.
        """
        given = _NAMED_DELIMITERS.get(delimiter, delimiter) if delimiter is not None else None
        between = " " if thousands == "space" else thousands
        if given is not None and not is_delimiter(given):
            raise ContractError(f"--delimiter: expected one character of ASCII, or tab; got {delimiter!r}")
        if decimal not in (None, ".", ","):
            raise ContractError(f"--decimal: expected . or ,; got {decimal!r}")
        if encoding is not None:
            try:
                "a".encode(encoding)
            except (LookupError, UnicodeError) as error:  # also a codec that is not one of texts, such as hex
                raise ContractError(f"--encoding: expected a name like utf-8 or cp1252; got {encoding!r}") from error
        if between not in (None, *THOUSANDS) or between == (decimal or "."):
            expected = "one of , . ' _ space, and not the decimal mark"
            raise ContractError(f"--thousands: expected {expected}; got {thousands!r}")
        return cls(given, encoding, decimal, between, **how)


@dataclass(frozen=True)
class ColumnSelection:
    """The columns to read, under the names that a file uses.

    names: the columns. A name with dots may be a path into nested objects, so a column with the first parts of the
    name matches too. required: names that every file must have. is_exclusive: whether all other columns are left out.
    numbers: names whose decimal commas are converted; None: every column. optional: names that need no note if they are
    missing. stored: column of a fleet's tables → its name in messages and files, to read such a table as a file.
    """

    names: tuple[str, ...]
    required: frozenset[str] = frozenset()
    is_exclusive: bool = False
    numbers: frozenset[str] | None = None
    optional: frozenset[str] = frozenset()
    stored: Mapping[str, str] = field(default_factory=dict)

    def find_columns(self, name: str, columns: Iterable[str]) -> list[str]:
        """Return the columns of a file that hold `name`: the column of that name; without one, those of which `name`
        may be a field.
        """
        present = set(columns)
        return [name] if name in present else [root for root in possible_roots(name) if root in present]

    def select(self, columns: Iterable[str]) -> list[str]:
        """Return the columns of a file from which a selected field can be read (itself or inside it), in its order."""
        listed = list(columns)
        found = {column for name in self.names for column in self.find_columns(name, listed)}
        return [name for name in listed if name in found]


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading the files of a source.

    text: format of CSV files. selection: columns to read; None reads all. missing_as_null: whether a column that
    only some files of a folder have is null in the others, unless it is required; otherwise such a folder is
    refused. rejection_limit: when a reader that validates rows stops.
    """

    text: TextFormat = TextFormat()
    selection: ColumnSelection | None = None
    missing_as_null: bool = False
    rejection_limit: RejectionLimit = NO_LIMIT
