"""Find the line of each key in a TOML text; `tomllib` returns the keys, but not their lines.

The scanner reads text that `tomllib` has already accepted, so it only looks for strings, brackets, comments and line
ends.
"""

from __future__ import annotations

import json

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def key_lines(text: str) -> dict[str, int]:
    """Return dotted key -> line, from 1, for every key and table header of a valid TOML text.

    A quoted key with dots is the same as the key written with dots. The first occurrence of a key counts. A table that
    occurs only as part of another table's name gets the line of that table's header.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.line = 1
        self.lines: dict[str, int] = {}

    def peek(self, ahead: int = 1) -> str:
        return self.text[self.at : self.at + ahead]

    def advance(self, count: int = 1) -> str:
        passed = self.peek(count)
        self.line += passed.count("\n")
        self.at += count
        return passed

    def blank(self, also: str = "") -> None:
        """Skip spaces, comments, and the characters in `also`."""
        while char := self.peek():
            if char == "#":
                while self.peek() not in ("", "\n"):
                    self.advance()
            elif char in " \t" or char in also:
                self.advance()
            else:
                return

    def document(self) -> None:
        table: tuple[str, ...] = ()
        self.blank("\n")
        while self.peek():
            if self.peek() == "[":
                table = self.header()
            else:
                self.pair(table)
            self.blank("\n")

    def header(self) -> tuple[str, ...]:
        brackets = 2 if self.peek(2) == "[[" else 1
        line = self.line
        self.advance(brackets)
        self.blank()
        table = self.key()
        self.note(table, line)
        self.blank()
        self.advance(brackets)
        return table

    def pair(self, table: tuple[str, ...]) -> None:
        line = self.line
        path = (*table, *self.key())
        self.note(path, line)
        self.blank()
        self.advance()  # the equals sign
        self.blank()
        self.value(path)

    def note(self, path: tuple[str, ...], line: int) -> None:
        for end in range(1, len(path) + 1):
            self.lines.setdefault(".".join(path[:end]), line)

    def key(self) -> tuple[str, ...]:
        parts = [self.key_part()]
        self.blank()
        while self.peek() == ".":
            self.advance()
            self.blank()
            parts.append(self.key_part())
            self.blank()
        return tuple(parts)

    def key_part(self) -> str:
        if self.peek() in ('"', "'"):
            return self.string()
        start = self.at
        while self.peek() and self.peek() in _BARE:
            self.advance()
        if self.at == start:
            msg = f"line {self.line}: not a TOML key; give text that tomllib accepts"
            raise ValueError(msg)
        return self.text[start : self.at]

    def string(self) -> str:
        """Skip a string of any of the four kinds; return the value of a single-line one."""
        quote = self.peek()
        end = quote * 3 if self.peek(3) == quote * 3 else quote
        self.advance(len(end))
        start = self.at
        while self.peek() and self.peek(len(end)) != end:
            self.advance(2 if quote == '"' and self.peek() == "\\" else 1)
        inside = self.text[start : self.at]
        self.advance(len(end))
        while len(end) > 1 and self.peek() == quote:  # up to two quotes may come before the closing three
            self.advance()
        return _unescaped(inside) if end == '"' else inside

    def value(self, path: tuple[str, ...]) -> None:
        char = self.peek()
        if char in ('"', "'"):
            self.string()
        elif char == "[":
            self.array(path)
        elif char == "{":
            self.inline_table(path)
        else:
            while self.peek() not in ("", "\n", ",", "]", "}", "#"):
                self.advance()

    def array(self, path: tuple[str, ...]) -> None:
        self.advance()
        self.blank(",\n")
        while self.peek() not in ("", "]"):
            self.value(path)
            self.blank(",\n")
        self.advance()

    def inline_table(self, path: tuple[str, ...]) -> None:
        self.advance()
        self.blank(",\n")
        while self.peek() not in ("", "}"):
            self.pair(path)
            self.blank(",\n")
        self.advance()


def _unescaped(inside: str) -> str:
    try:
        return str(json.loads(f'"{inside}"', strict=False))
    except ValueError:  # \UXXXXXXXX and \e are TOML's alone: such a key keeps its spelling
        return inside
