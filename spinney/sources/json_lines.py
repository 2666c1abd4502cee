"""Read JSON lines: one object per line, passed on as it stands."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from spinney.core.errors import ContractError
from spinney.core.records.json_text import has_surrogate
from spinney.sources.dialect import SAMPLE_BYTES
from spinney.sources.options import ReadOptions
from spinney.sources.row_batch import DataFile, RowBatch

BATCH_LINES = 10_000
SAMPLE_LINES = 1_000
"""Lines of a file whose fields are inspected when it is opened."""

_MAX_DEPTH = 32


def open_json_lines(file: Path, name: str, options: ReadOptions) -> DataFile:
    """Open a file of JSON lines. Raises ContractError if it holds one JSON array instead."""
    encoding = options.text.encoding or _marked_encoding(file)
    with file.open("rb") as opened:
        start = opened.read(SAMPLE_BYTES)
    if encoding is None and start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        raise ContractError(f"{name}: expected a JSON object in each line; got an array. Convert it: jq -c '.[]'")
    rows = round(file.stat().st_size / max(1.0, len(start) / max(1, start.count(b"\n"))))
    fields = _fields(file, name, encoding)
    return DataFile(name, None, rows, is_exact=False, read=lambda _: _read(file, name, encoding), fields=fields)


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the object in a line; None if it is not an object."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _fields(file: Path, name: str, encoding: str | None) -> dict[str, pa.DataType] | None:
    lines = (line for _, line in islice(_lines(file, name, encoding), SAMPLE_LINES))
    objects = [value for line in lines if (value := parse_line(line)) is not None]
    names: dict[str, Any] = {}
    for record in objects:
        _add_names(names, record)
    return {name: _arrow_type(inner) for name, inner in names.items()} if objects else None


def _add_names(names: dict[str, Any], record: Mapping[str, Any], depth: int = 1) -> None:
    """Add the field names of an object, and of the objects inside it, to `names`."""
    for name, value in record.items():
        if has_surrogate(name):  # no record with such a name is valid
            continue
        inner = names.setdefault(name, {})
        if isinstance(value, dict) and depth < _MAX_DEPTH:
            _add_names(inner, value, depth + 1)


def _arrow_type(names: Mapping[str, Any]) -> pa.DataType:
    return pa.struct({name: _arrow_type(inner) for name, inner in names.items()}) if names else pa.null()


def _marked_encoding(file: Path) -> str | None:
    """Return the encoding of a UTF-16 byte order mark; None for UTF-8, which is checked line by line."""
    with file.open("rb") as opened:
        start = opened.read(4)
    utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if utf16 else None


def _read(file: Path, name: str, encoding: str | None) -> Iterator[RowBatch]:
    numbers: list[int] = []
    lines: list[bytes] = []
    for number, line in _lines(file, name, encoding):
        numbers.append(number)
        lines.append(line)
        if len(lines) == BATCH_LINES:
            yield RowBatch(name, numbers, lines=lines)
            numbers, lines = [], []
    if lines:
        yield RowBatch(name, numbers, lines=lines)


def _lines(file: Path, name: str, encoding: str | None) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of every line that is not blank, as UTF-8."""
    try:
        if encoding is None:
            with file.open("rb") as raw:
                for number, content in enumerate(raw, start=1):
                    line = (content.removeprefix(codecs.BOM_UTF8) if number == 1 else content).strip()
                    if line:
                        yield number, line
            return
        with file.open(encoding=encoding, newline="\n") as text:
            for number, text_line in enumerate(text, start=1):
                if text_line.strip():
                    yield number, text_line.strip().encode()
    except (UnicodeError, OSError) as error:
        raise ContractError(f"{name}: expected JSON lines; got: {str(error)[:300]}") from error
