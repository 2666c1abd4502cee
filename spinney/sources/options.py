"""How a person wants files to be read, and which columns a fleet wants of them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

from spinney.core.errors import ContractError
from spinney.sources.rejections import ANY_NUMBER, MostRejected

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
        """The format as typed on a command line, tab in words too. Raises ContractError for what is none."""
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
class Wanted:
    """The columns that matter, under the names that a file has for them.

    names: a name with dots may be a path into nested objects, so its first part counts as well. required: those of
    `names` that no file may lack. only: leave every other column out. numbers: those of `names` whose decimal commas
    are read as such; None: of every column. optional: those of `names` that are no loss where they are missing.
    """

    names: tuple[str, ...]
    required: frozenset[str] = frozenset()
    only: bool = False
    numbers: frozenset[str] | None = None
    optional: frozenset[str] = frozenset()

    def in_file(self, name: str, columns: Iterable[str]) -> str | None:
        """The column of a file that holds `name`: of this whole name, or of its path's first part; None: neither."""
        there = set(columns)
        root = name.partition(".")[0]
        return name if name in there else root if root in there else None

    def columns_of(self, columns: Iterable[str]) -> list[str]:
        """The columns of a file that hold a wanted name, in the file's order."""
        listed = list(columns)
        found = {self.in_file(name, listed) for name in self.names}
        return [name for name in listed if name in found]


@dataclass(frozen=True)
class Options:
    """text: of CSV. wanted: None takes every column, whatever it is called. missing_as_null: a column that some files
    of a folder lack is null in their rows, unless it is required; otherwise such a folder is refused. most_rejected:
    when a reader that validates rows gives up.
    """

    text: TextFormat = TextFormat()
    wanted: Wanted | None = None
    missing_as_null: bool = False
    most_rejected: MostRejected = ANY_NUMBER
