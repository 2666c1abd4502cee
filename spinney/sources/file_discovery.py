"""Find the files of a source, the format of each, and the values in their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import unquote

from spinney.core.errors import ContractError
from spinney.core.records.json_parsing import has_surrogate
from spinney.sources.columnar.delta_tables import is_delta
from spinney.sources.columnar.other_table_formats import refuse_other_table, refuse_part_of_delta
from spinney.sources.decompression import CODECS
from spinney.sources.folder_entries import FolderEntries, list_entries


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

    Raises ContractError: nothing there, nothing that can be read, files of several formats, part of a table, or a name
    that is not UTF-8.
    """
    try:
        files, notes = _find(source, path)
    except OSError as error:
        raise ContractError(
            f"{error.filename or source}: expected a file or folder that can be read; got: {error.strerror}"
        ) from error
    for file in files:
        # Names become values of columns, topics of rows, and parts of messages.
        if has_surrogate(file.name):
            raise ContractError(f"{file.name!a}: expected a name in UTF-8; got other bytes. Rename the file or folder")
    return files, notes


def _find(source: str, path: Path) -> tuple[list[SourceFile], tuple[str, ...]]:
    if not path.exists():
        raise ContractError(f"{source}: expected {EXPECTED}; nothing is there")
    refuse_part_of_delta(source, path)
    if is_delta(path):
        return [SourceFile(path, source, FileFormat.DELTA)], ()
    for folder in path.resolve().parents:
        refuse_other_table(source, folder)
    if path.is_file():
        file_format = _detect_format(path, FORMAT_BY_SUFFIX | dict.fromkeys(TEXT_SUFFIXES, FileFormat.CSV))
        if file_format is None:
            raise ContractError(f"{source}: expected {EXPECTED}; got {path.suffix or 'no ending'}{_advice(path)}")
        return [SourceFile(path, source, file_format)], ()
    if not path.is_dir():
        raise ContractError(f"{source}: expected {EXPECTED}; got a pipe or a device. Write its bytes to a file")
    files, notes = _find_in_folder(source, path)
    if not files:
        raise ContractError(f"{source}: expected {EXPECTED}; got a folder without any")
    if len(formats := {file.file_format for file in files}) > 1:
        first = [next(file.name for file in files if file.file_format is file_format) for file_format in formats]
        raise ContractError(f"{source}: expected files of one kind; got {' and '.join(sorted(first))}")
    return files, notes


def _advice(file: Path) -> str:
    return "".join(f". {advice}" for advice, suffixes in _ADVICE.items() if file.suffix.lower() in suffixes)


def _find_in_folder(source: str, folder: Path) -> tuple[list[SourceFile], tuple[str, ...]]:
    refuse_other_table(source, folder)
    entries = list_entries(folder)
    files: list[SourceFile] = []
    skipped: list[Path] = []
    empty: list[Path] = []
    for path in entries.found:
        below = path.relative_to(folder)
        name = f"{source.rstrip('/')}/{below}"
        if path.is_dir():
            refuse_other_table(source, path)
            if is_delta(path):
                files.append(SourceFile(path, name, FileFormat.DELTA, _partition_values(name, below.parts)))
            continue
        file_format = _format_in_folder(path, name)
        if file_format is None:
            skipped.append(path)
        elif file_format in (FileFormat.CSV, FileFormat.JSON_LINES) and path.stat().st_size == 0:
            empty.append(path)  # Spark writes one for a partition without rows
        else:
            files.append(SourceFile(path, name, file_format, _partition_values(name, below.parts[:-1])))
    whys = {"no data files": skipped, "empty": empty, **_left_out(entries)}
    notes = (
        _skipped_note(source, why, [str(path.relative_to(folder)) for path in paths]) for why, paths in whys.items()
        if paths
    )  # fmt: skip
    return files, tuple(notes) if files else ()


def _left_out(entries: FolderEntries) -> dict[str, list[Path]]:
    """Return why some entries are left out, and these."""
    hidden = [path for path in entries.hidden if path.suffix.lower() in (*FORMAT_BY_SUFFIX, *CODECS)]
    return {"hidden by a name that begins with _": hidden, "links to what is read anyway": entries.repeated}


def _format_in_folder(path: Path, name: str) -> FileFormat | None:
    """Return the format of a file in a folder; None if it is none of data.

    Raises ContractError if it is named like one, but is a link to nothing, or a pipe.
    """
    if path.is_file():
        return _detect_format(path)
    if path.suffix.lower() in (*FORMAT_BY_SUFFIX, *CODECS):
        got = "a link to nothing" if path.is_symlink() else "a pipe or a device"
        raise ContractError(f"{name}: expected a file; got {got}. Remove it, or put the file there")
    return None


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


def _partition_values(name: str, folders: Sequence[str]) -> dict[str, str | None]:
    """Return the values in the path of a file. name: of the file, for messages."""
    values: dict[str, str | None] = {}
    for part in folders:
        column, equals, value = part.partition("=")
        if equals and column:
            values[_unquoted(name, column)] = None if value == _NULL_PARTITION else _unquoted(name, value)
    return values


def _unquoted(name: str, text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise ContractError(
            f"{name}: expected percent signs in the path that stand for UTF-8; got {text}. Rename the folder"
        ) from error
