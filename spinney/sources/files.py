"""Which files a source consists of, what kind each is, and what its path says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import unquote

from spinney.core.errors import ContractError
from spinney.sources.delta_tables import is_delta


class Kind(Enum):
    PARQUET = "Parquet"
    CSV = "CSV"
    JSON_LINES = "JSON lines"
    DELTA = "Delta"


SUFFIXES = {
    ".parquet": Kind.PARQUET,
    ".csv": Kind.CSV,
    ".tsv": Kind.CSV,
    ".jsonl": Kind.JSON_LINES,
    ".ndjson": Kind.JSON_LINES,
    ".json": Kind.JSON_LINES,
}
EXPECTED = f"a file that ends in {', '.join(SUFFIXES)}, a folder of such files, or a Delta table"
PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz")
_PARQUET_MAGIC = b"PAR1"
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Found:
    """A file, its name for people, and the values that its path gives: of ``store=007/part.parquet`` store → "007"."""

    path: Path
    name: str
    kind: Kind
    partitions: Mapping[str, str | None] = field(default_factory=dict)


def find(source: str, place: Path) -> tuple[list[Found], tuple[str, ...]]:
    """The files of a source, sorted by path, and notes about those that are passed over.

    Raises ContractError: nothing there, nothing that can be read, files of several kinds, or a part of a Delta table.
    """
    if not place.exists():
        raise ContractError(f"{source}: expected {EXPECTED}; nothing is there")
    _refuse_part_of_delta(source, place)
    if is_delta(place):
        return [Found(place, source, Kind.DELTA)], ()
    if place.is_file():
        kind = _kind(place)
        if kind is None:
            raise ContractError(f"{source}: expected {EXPECTED}; got {place.suffix or 'no ending'}{_unpack(place)}")
        return [Found(place, source, kind)], ()
    found, notes = _in_folder(source, place)
    if not found:
        raise ContractError(f"{source}: expected {EXPECTED}; got a folder without any")
    if len(kinds := {each.kind for each in found}) > 1:
        first = [next(each.name for each in found if each.kind is kind) for kind in kinds]
        raise ContractError(f"{source}: expected files of one kind; got {' and '.join(sorted(first))}")
    return found, notes


def _unpack(file: Path) -> str:
    return ". Unpack it first" if file.suffix.lower() in PACKED else ""


def _refuse_part_of_delta(source: str, place: Path) -> None:
    """Raises ContractError: a folder or file inside a Delta table, whose log alone says which rows are still there."""
    table = next((folder for folder in place.resolve().parents if is_delta(folder)), None)
    if table is not None:
        raise ContractError(
            f"{source}: expected a whole Delta table; got a part of {table}, which also holds files and rows that were "
            "deleted. Name the table, or write the rows that you want to Parquet files elsewhere"
        )


def _in_folder(source: str, place: Path) -> tuple[list[Found], tuple[str, ...]]:
    found: list[Found] = []
    odd: list[str] = []
    tables: set[Path] = set()
    for path in sorted(place.rglob("*")):
        below = path.relative_to(place)
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
                found.append(Found(path, name, Kind.DELTA, _partitions(below.parts)))
            continue
        kind = _kind(path)
        if kind is None:
            odd.append(str(below))
        else:
            found.append(Found(path, name, kind, _partitions(below.parts[:-1])))
    note = f"{source}: not read, since they are no data files: {', '.join(odd[:5])}{' …' if len(odd) > 5 else ''}"
    return found, (note,) if odd and found else ()


def _kind(file: Path) -> Kind | None:
    known = SUFFIXES.get(file.suffix.lower())
    if known is not None:
        return known
    with file.open("rb") as opened:
        return Kind.PARQUET if opened.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC else None


def _partitions(folders: Sequence[str]) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for part in folders:
        name, equals, value = part.partition("=")
        if equals and name:
            values[unquote(name)] = None if value == _NO_VALUE else unquote(value)
    return values
