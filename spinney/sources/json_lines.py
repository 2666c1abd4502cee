"""Read JSON files: objects one per line, in an array, or one after another; each is passed on unchanged."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from spinney.core.errors import ContractError
from spinney.core.records.json_parsing import has_surrogate, unique_object
from spinney.sources.json_splitting import has_values_across_lines, split_values
from spinney.sources.options import ReadOptions
from spinney.sources.row_batch import DataFile, RowBatch
from spinney.sources.text_encoding import SAMPLE_BYTES, named_encoding, refuse_other_bytes

BATCH_LINES = 10_000
SAMPLE_LINES = 1_000
"""Lines of a file whose fields are inspected when it is opened."""

_MAX_DEPTH = 32
_MAX_DIGITS = 400
"""More digits than any finite double has."""


def open_json_lines(file: Path, name: str, options: ReadOptions) -> DataFile:
    """Open a JSON file.

    Raises ContractError if it is not in its encoding, is compressed, or has objects that are not one per line and the
    first of them are not JSON.
    """
    with file.open("rb") as opened:
        start = opened.read(SAMPLE_BYTES)
    encoding = _other_encoding(named_encoding(start, options.text.encoding))
    if encoding is None:
        refuse_other_bytes(name, start)
    text = codecs.getincrementaldecoder(encoding or "utf-8")("replace").decode(start)
    records = partial(_values if has_values_across_lines(text) else _lines, file, name, encoding)
    first = [record for _, record in islice(records(), SAMPLE_LINES)]
    mean = sum(map(len, first)) / len(first) + 1 if first else 1.0
    rows = len(first) if len(first) < SAMPLE_LINES else round(file.stat().st_size / mean)
    return DataFile(
        name, None, rows, is_exact=False, read=lambda _: _read(name, records()), fields=_fields(first),
        notes=tuple(f"{name}: {note}" for note in _notes_about_one(first)),
    )  # fmt: skip


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Return the object in a line; None if it is not a valid object.

    An object is invalid if it has a name twice, or holds NaN or Infinity, which Python writes and JSON does not have.
    """
    try:
        value = json.loads(line, object_pairs_hook=unique_object, parse_int=_integer, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _integer(text: str) -> int | float:
    """Return a number of any length: a float if it has too many digits, since Python refuses more than 4,300 in an
    integer.
    """
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


def _refuse_constant(word: str) -> Any:
    raise ValueError(word)


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and bool(value)


def _notes_about_one(records: Sequence[bytes]) -> Iterator[str]:
    """Yield a note if the only object of a file looks like a wrapper of the records."""
    only = parse_line(records[0]) if len(records) == 1 else None
    if not only:
        return
    values = list(only.values())
    lists = [name for name, value in only.items() if isinstance(value, list) and any(map(_is_object, value))]
    if len(lists) == 1:
        jq = f"jq -c '.[{json.dumps(lists[0])}][]'"
        yield f"its only record has a list of objects in {lists[0]}. If these are the records, write lines: {jq}"
    elif {"columns", "data"} <= only.keys() or (
        len(values) > 1 and all(_is_object(value) and value.keys() == values[0].keys() for value in values)
    ):
        yield "its only record has all rows by column, as pandas writes it. Use to_json(orient='records', lines=True)"


def _fields(lines: Iterable[bytes]) -> dict[str, pa.DataType] | None:
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


def _other_encoding(named: str | None) -> str | None:
    """Return an encoding other than UTF-8; None for UTF-8, which is checked line by line."""
    return None if named is None or codecs.lookup(named).name in ("utf-8", "utf-8-sig") else named


def _read(name: str, records: Iterable[tuple[int, bytes]]) -> Iterator[RowBatch]:
    numbers: list[int] = []
    lines: list[bytes] = []
    for number, line in records:
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
        raise _unreadable(name, error) from error


def _values(file: Path, name: str, encoding: str | None) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of every value of a file in which they are not one per line, as UTF-8."""
    try:
        with file.open(encoding=encoding or "utf-8-sig", newline="") as text:
            for number, value in enumerate(split_values(text, name), start=1):
                yield number, value.encode()
    except (UnicodeError, OSError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> ContractError:
    return ContractError(f"{name}: expected JSON; got: {str(error)[:300]}")
