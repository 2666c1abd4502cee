"""Find the files of a source, the format of each, and the values in their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import unquote

from spinney.core.errors import ContractError
from spinney.sources.decompression import CODECS
from spinney.sources.delta_tables import is_delta


class FileFormat(Enum):
    """The format of a file."""

    PARQUET = "Parquet"
    ARROW = "Arrow"
    ORC = "ORC"
    CSV = "CSV"
    JSON_LINES = "JSON lines"
    DELTA = "Delta"


FORMAT_BY_SUFFIX = {
    ".parquet": FileFormat.PARQUET,
    ".arrow": FileFormat.ARROW,
    ".feather": FileFormat.ARROW,
    ".ipc": FileFormat.ARROW,
    ".arrows": FileFormat.ARROW,
    ".orc": FileFormat.ORC,
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
    ".jsonl": FileFormat.JSON_LINES,
    ".ndjson": FileFormat.JSON_LINES,
    ".json": FileFormat.JSON_LINES,
}
EXPECTED = (
    f"a file that ends in {', '.join(FORMAT_BY_SUFFIX)}, one of them compressed ({', '.join(CODECS)}), "
    "a folder of such files, or a Delta table"
)
TEXT_SUFFIXES = (".txt", ".dat", ".tab", ".psv")
"""Endings of files that are read as CSV if the user names them. In a folder they are skipped, since they may be
anything.
"""

_ADVICE = {
    "Unpack it first": (".zip", ".xz", ".7z", ".tar", ".tgz"),
    "Save each sheet as CSV": (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"),
}
"""Remedy for files with these endings."""

MAX_NAMES_SHOWN = 5
_FORMAT_BY_MAGIC = {b"PAR1": FileFormat.PARQUET, b"ARROW1": FileFormat.ARROW}
"""First bytes of a file -> its format, whatever the ending of its name."""

_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class SourceFile:
    """A file of a source.

    name: for messages. partitions: values in its path: ``store=007/part.parquet`` gives store → "007".
    """

    path: Path
    name: str
    file_format: FileFormat
    partitions: Mapping[str, str | None] = field(default_factory=dict)


def find_files(source: str, path: Path) -> tuple[list[SourceFile], tuple[str, ...]]:
    """Return the files of a source, sorted by path, and notes about those that are skipped.

    Raises ContractError: nothing there, nothing that can be read, files of several formats, or part of a Delta table.
    """
    if not path.exists():
        raise ContractError(f"{source}: expected {EXPECTED}; nothing is there")
    _refuse_part_of_delta(source, path)
    if is_delta(path):
        return [SourceFile(path, source, FileFormat.DELTA)], ()
    if path.is_file():
        file_format = _detect_format(path, FORMAT_BY_SUFFIX | dict.fromkeys(TEXT_SUFFIXES, FileFormat.CSV))
        if file_format is None:
            raise ContractError(f"{source}: expected {EXPECTED}; got {path.suffix or 'no ending'}{_advice(path)}")
        return [SourceFile(path, source, file_format)], ()
    files, notes = _find_in_folder(source, path)
    if not files:
        raise ContractError(f"{source}: expected {EXPECTED}; got a folder without any")
    if len(formats := {file.file_format for file in files}) > 1:
        first = [next(file.name for file in files if file.file_format is file_format) for file_format in formats]
        raise ContractError(f"{source}: expected files of one kind; got {' and '.join(sorted(first))}")
    return files, notes


def _advice(file: Path) -> str:
    return "".join(f". {advice}" for advice, suffixes in _ADVICE.items() if file.suffix.lower() in suffixes)


def _refuse_part_of_delta(source: str, path: Path) -> None:
    """Raise ContractError for a path inside a Delta table: only the table's log says which rows still exist."""
    table = next((folder for folder in path.resolve().parents if is_delta(folder)), None)
    if table is not None:
        raise ContractError(
            f"{source}: expected a whole Delta table; got a part of {table}, which also holds files and rows that were "
            "deleted. Name the table, or write the rows that you want to Parquet files elsewhere"
        )


def _find_in_folder(source: str, folder: Path) -> tuple[list[SourceFile], tuple[str, ...]]:
    files: list[SourceFile] = []
    skipped: list[str] = []
    empty: list[str] = []
    tables: set[Path] = set()
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        # Hidden files, and what Spark and Hive leave beside their own.
        if any(part.startswith((".", "_")) for part in below.parts):
            continue
        # A Delta table's folder also holds files with deleted rows.
        if not tables.isdisjoint(path.parents):
            continue
        name = f"{source.rstrip('/')}/{below}"
        if path.is_dir():
            if is_delta(path):
                tables.add(path)
                files.append(SourceFile(path, name, FileFormat.DELTA, _partition_values(below.parts)))
            continue
        file_format = _detect_format(path)
        if file_format is None:
            skipped.append(str(below))
        elif file_format in (FileFormat.CSV, FileFormat.JSON_LINES) and path.stat().st_size == 0:
            empty.append(str(below))  # Spark writes one for a partition without rows
        else:
            files.append(SourceFile(path, name, file_format, _partition_values(below.parts[:-1])))
    whys = {"no data files": skipped, "empty": empty}
    notes = (_skipped_note(source, why, names) for why, names in whys.items() if names)
    return files, tuple(notes) if files else ()


def _skipped_note(source: str, why: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES_SHOWN]) + (" …" if len(names) > MAX_NAMES_SHOWN else "")
    return f"{source}: not read, since they are {why}: {shown}"


def _detect_format(file: Path, by_suffix: Mapping[str, FileFormat] = FORMAT_BY_SUFFIX) -> FileFormat | None:
    suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
    if suffixes and suffixes[-1] in CODECS:
        return by_suffix.get(suffixes[0]) if len(suffixes) == 2 else None
    with file.open("rb") as opened:
        start = opened.read(max(map(len, _FORMAT_BY_MAGIC)))
    by_magic = next((of for magic, of in _FORMAT_BY_MAGIC.items() if start.startswith(magic)), None)
    return by_magic or by_suffix.get(file.suffix.lower())


def _partition_values(folders: Sequence[str]) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for part in folders:
        name, equals, value = part.partition("=")
        if equals and name:
            values[unquote(name)] = None if value == _NULL_PARTITION else unquote(value)
    return values
