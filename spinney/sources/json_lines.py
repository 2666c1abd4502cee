"""Read JSON lines: an object in each line, handed on as it stands."""

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
from spinney.sources.batch import Batch, DataFile
from spinney.sources.dialect import SAMPLE_BYTES
from spinney.sources.options import Options

BATCH_LINES = 10_000
LOOKED_AT = 1_000
"""Lines of a file whose fields are looked at before any is validated."""

_MAX_DEPTH = 32


def open_json_lines(file: Path, name: str, options: Options) -> DataFile:
    """Raises ContractError: one JSON array instead of lines."""
    encoding = options.text.encoding or _marked(file)
    with file.open("rb") as opened:
        start = opened.read(SAMPLE_BYTES)
    if encoding is None and start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        raise ContractError(f"{name}: expected a JSON object in each line; got an array. Convert it: jq -c '.[]'")
    rows = round(file.stat().st_size / max(1.0, len(start) / max(1, start.count(b"\n"))))
    fields = _fields(file, name, encoding)
    return DataFile(name, None, rows, exact=False, read=lambda _: _read(file, name, encoding), fields=fields)


def object_of(line: bytes) -> dict[str, Any] | None:
    """The object in a line; None if there is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _fields(file: Path, name: str, encoding: str | None) -> dict[str, pa.DataType] | None:
    lines = (line for _, line in islice(_lines(file, name, encoding), LOOKED_AT))
    objects = [found for line in lines if (found := object_of(line)) is not None]
    names: dict[str, Any] = {}
    for each in objects:
        _add_names(names, each)
    return {each: _type(inner) for each, inner in names.items()} if objects else None


def _add_names(names: dict[str, Any], found: Mapping[str, Any], depth: int = 1) -> None:
    """Add the names of an object's fields, and of the objects in it, to those of others."""
    for name, value in found.items():
        if has_surrogate(name):  # no record with such a name is valid
            continue
        inner = names.setdefault(name, {})
        if isinstance(value, dict) and depth < _MAX_DEPTH:
            _add_names(inner, value, depth + 1)


def _type(names: Mapping[str, Any]) -> pa.DataType:
    return pa.struct({name: _type(inner) for name, inner in names.items()}) if names else pa.null()


def _marked(file: Path) -> str | None:
    """The encoding that a byte order mark names; None: UTF-8, which is checked line by line."""
    with file.open("rb") as opened:
        start = opened.read(4)
    utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if utf16 else None


def _read(file: Path, name: str, encoding: str | None) -> Iterator[Batch]:
    numbers: list[int] = []
    lines: list[bytes] = []
    for number, line in _lines(file, name, encoding):
        numbers.append(number)
        lines.append(line)
        if len(lines) == BATCH_LINES:
            yield Batch(name, numbers, lines=lines)
            numbers, lines = [], []
    if lines:
        yield Batch(name, numbers, lines=lines)


def _lines(file: Path, name: str, encoding: str | None) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank, as UTF-8."""
    try:
        if encoding is None:
            with file.open("rb") as raw:
                for number, content in enumerate(raw, start=1):
                    line = (content.removeprefix(codecs.BOM_UTF8) if number == 1 else content).strip()
                    if line:
                        yield number, line
            return
        with file.open(encoding=encoding, newline="\n") as text:
            for number, words in enumerate(text, start=1):
                if words.strip():
                    yield number, words.strip().encode()
    except (UnicodeError, OSError) as error:
        raise ContractError(f"{name}: expected JSON lines; got: {str(error)[:300]}") from error
