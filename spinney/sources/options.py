"""How files are read, and which of their columns."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

from spinney.core.errors import ContractError
from spinney.sources.rejections import NO_LIMIT, RejectionLimit

_NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


@dataclass(frozen=True)
class TextFormat:
    """How CSV is written. None: detected in each file.

    delimiter: one character. encoding: a name that Python knows. decimal: "." or ",".
    """

    delimiter: str | None = None
    encoding: str | None = None
    decimal: str | None = None

    @classmethod
    def parse(cls, delimiter: str | None, encoding: str | None, decimal: str | None) -> TextFormat:
        """Return the format as typed on a command line, where tab may be a word. Raises ContractError for invalid
        values.
        """
        given = _NAMED_DELIMITERS.get(delimiter, delimiter) if delimiter is not None else None
        if given is not None and (len(given) != 1 or given in '"\r\n'):
            raise ContractError(f"--delimiter: expected one character, or tab; got {delimiter!r}")
        if decimal not in (None, ".", ","):
            raise ContractError(f"--decimal: expected . or ,; got {decimal!r}")
        if encoding is not None:
            try:
                codecs.lookup(encoding)
            except LookupError as error:
                raise ContractError(f"--encoding: expected a name like utf-8 or cp1252; got {encoding!r}") from error
        return cls(given, encoding, decimal)


@dataclass(frozen=True)
class ColumnSelection:
    """The columns to read, under the names that a file uses.

    names: a name with dots may be a path into nested objects, so a column of its first part matches too. required:
    those of `names` that every file must have. is_exclusive: whether all other columns are left out. numbers: those of
    `names` whose decimal commas are converted; None: every column. optional: those of `names` that need no note if
    missing.
    """

    names: tuple[str, ...]
    required: frozenset[str] = frozenset()
    is_exclusive: bool = False
    numbers: frozenset[str] | None = None
    optional: frozenset[str] = frozenset()

    def find_column(self, name: str, columns: Iterable[str]) -> str | None:
        """Return the column of a file that holds `name`: by the whole name, or by its path's first part; None if
        neither.
        """
        present = set(columns)
        root = name.partition(".")[0]
        return name if name in present else root if root in present else None

    def select(self, columns: Iterable[str]) -> list[str]:
        """Return the columns of a file that hold a selected name, in the file's order."""
        listed = list(columns)
        found = {self.find_column(name, listed) for name in self.names}
        return [name for name in listed if name in found]


@dataclass(frozen=True)
class ReadOptions:
    """How the files of a source are read.

    text: format of CSV files. selection: columns to read; None reads all. missing_as_null: whether a column that
    only some files of a folder have is null in the others, unless it is required; otherwise such a folder is
    refused. rejection_limit: when a reader that validates rows stops.
    """

    text: TextFormat = TextFormat()
    selection: ColumnSelection | None = None
    missing_as_null: bool = False
    rejection_limit: RejectionLimit = NO_LIMIT
