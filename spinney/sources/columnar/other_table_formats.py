"""Refuse tables of other formats than Delta: their files also hold rows that were deleted or replaced."""

from __future__ import annotations

from pathlib import Path

from spinney.core.errors import ContractError
from spinney.sources.columnar.delta_tables import is_delta


def refuse_part_of_delta(source: str, path: Path) -> None:
    """Raise ContractError for a path inside a Delta table: only the table's log says which rows still exist."""
    table = next((folder for folder in path.resolve().parents if is_delta(folder)), None)
    if table is not None:
        raise ContractError(
            f"{source}: expected a whole Delta table; got a part of {table}, which also holds files and rows that were "
            "deleted. Name the table, or write the rows that you want to Parquet files elsewhere"
        )


def refuse_other_table(source: str, folder: Path) -> None:
    """Raise ContractError if a folder is a table of Hudi or Iceberg.

    folder: the source, one below it, or one above it.
    """
    kind = _table_format(folder)
    if kind is not None:
        raise ContractError(
            f"{source}: expected files, or a Delta table; {folder} is a table of {kind}, whose files also hold rows "
            "that were deleted or replaced. Write the rows that you want to Parquet files elsewhere"
        )


def _table_format(folder: Path) -> str | None:
    if (folder / ".hoodie").is_dir():
        return "Hudi"
    return "Iceberg" if any((folder / "metadata").glob("*.metadata.json")) else None
