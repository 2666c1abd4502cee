"""A Delta table at one version, as any process can read it: the driver names the files, workers open them with Arrow.

Workers never open a Delta log: deltalake panics in a process that was forked after it had been used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas.contract import Contract
from spinney.core.arrow_types import arrow_type
from spinney.core.errors import StoreError
from spinney.core.keys import shard_of
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.table_files import (
    FORMAT,
    Bounds,
    GroupIndex,
    TableFile,
    files,
    folder,
    fragment_of,
    row_groups_for,
)

WHOLE_SHARDS_FROM = 2_000
"""Groups from which on the rows of all their shards are read: looking each one up would cost more."""


class Wanted(Protocol):
    """Which groups' rows are wanted: a range of shards, or a GroupIndex."""

    def overlaps(self, bounds: Bounds) -> bool:
        """Whether a file or row group within these bounds may hold such rows."""
        ...


@dataclass(frozen=True)
class Shards:
    """All groups of the shards first to last, both included."""

    first: int
    last: int

    def overlaps(self, bounds: Bounds) -> bool:
        return (bounds.last_shard is None or bounds.last_shard >= self.first) and (
            bounds.first_shard is None or bounds.first_shard <= self.last
        )


@dataclass(frozen=True)
class Snapshot:
    """The files of a table at one version. Small and picklable: it travels with a task."""

    name: str
    contract: Contract
    folder: Path
    files: tuple[TableFile, ...]

    @property
    def rows(self) -> int:
        """Of all files whose log entry says it."""
        return sum(each.rows for each in self.files)

    def files_for(self, wanted: Wanted) -> list[str]:
        """The files that may hold rows of these groups, by the statistics in the log."""
        return [str(self.folder / each.path) for each in self.files if wanted.overlaps(each.bounds)]

    def read(self, columns: Mapping[str, str], wanted: Wanted, where: ds.Expression | None = None) -> pa.Table:
        """The rows of these groups, in no particular order. columns: name in the result -> column of the table.

        Raises StoreError when a file of this version is gone.
        """
        return pa.Table.from_batches(self.batches(columns, wanted, where), self._schema(columns))

    def batches(
        self, columns: Mapping[str, str], wanted: Wanted, where: ds.Expression | None = None
    ) -> Iterator[pa.RecordBatch]:
        """As `read`, batch by batch."""
        schema, stored = self._schema(columns), arrow_schema(self.contract)
        mine = _rows_of(wanted)
        try:
            scanned = self._dataset(wanted, stored, where).to_batches(
                columns={name: ds.field(of) for name, of in columns.items()},
                filter=mine if where is None else mine & where,
                # No read-ahead of whole files: a worker holds its own rows and little more.
                fragment_readahead=1,
                batch_readahead=4,
            )
            for batch in scanned:
                if batch.num_rows:
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        except FileNotFoundError as error:
            raise StoreError(
                f"table {self.name}: a file of the version that this round was planned with is gone: {error}. Replaced "
                "files are kept for 168 h: the round is older, or somebody removed the file. Put it back"
            ) from error

    def greatest(self, column: str, wanted: Wanted) -> Any:
        """The greatest value of a column in these groups' rows; None where there is none.

        By the log's statistics only the files are opened that may hold it.
        """
        found: Any = None
        for file in sorted(self.files, key=lambda each: _bound(each, column), reverse=True):
            bound = file.ranges.get(column)
            if found is not None and bound is not None and bound[1] <= found:
                break  # the bounds of all others are no greater
            newer = None if found is None else ds.field(column) > pa.scalar(found)
            for batch in replace(self, files=(file,)).batches({column: column}, wanted, newer):
                most = pc.max(batch[column]).as_py()
                found = most if found is None or (most is not None and most > found) else found
        return found

    def _dataset(self, wanted: Wanted, schema: pa.Schema, where: ds.Expression | None) -> ds.FileSystemDataset:
        """What has to be opened. Of a file in which groups are looked up, only the row groups that may have them."""
        files = [fragment_of(self.folder, each, schema) for each in self.files if wanted.overlaps(each.bounds)]
        if not isinstance(wanted, GroupIndex):
            return ds.FileSystemDataset(files, schema, FORMAT)
        chosen = []
        for each in ds.FileSystemDataset(files, schema, FORMAT).get_fragments(filter=where):
            row_groups = row_groups_for(each.metadata, wanted)
            if row_groups:
                chosen.append(each.subset(row_group_ids=row_groups))
        return ds.FileSystemDataset(chosen, schema, FORMAT)

    def _schema(self, columns: Mapping[str, str]) -> pa.Schema:
        return pa.schema([(name, arrow_type(self.contract.column(of).type)) for name, of in columns.items()])


def _bound(file: TableFile, column: str) -> tuple[bool, Any]:
    """What files are ordered by: those whose values are not known are greater than all others."""
    known = file.ranges.get(column)
    return (True, 0) if known is None else (False, known[1])


def wanted_of(group_keys: Sequence[str], shards: int) -> Wanted:
    """Where the rows of these groups and parents are. shards: the fleet's number of them."""
    if len(group_keys) < WHOLE_SHARDS_FROM:
        return GroupIndex(group_keys, shards)
    mine = {shard_of(key, shards) for key in group_keys}
    return Shards(min(mine), max(mine))


def snapshot(directory: Directory, at: int | None = None) -> Snapshot:
    """A directory as of a version; None: the newest. Raises StoreError when it was never made."""
    table = delta.existing(directory)
    if at is not None and at != table.version():
        table.load_as_version(at)
    return Snapshot(directory.name, directory.contract, folder(table), tuple(files(table)))


def snapshots(store: FleetStore, base: Contract, pins: Mapping[str, int] | None = None) -> list[Snapshot]:
    """The directories of a table, each as of its pinned version."""
    return [snapshot(each, (pins or {}).get(each.name)) for each in store.directories(base)]


def _rows_of(wanted: Wanted) -> ds.Expression:
    if isinstance(wanted, GroupIndex):
        return ds.field("group_key").isin(pa.array(wanted.keys(), pa.string()))
    if isinstance(wanted, Shards):
        return (ds.field("shard") >= wanted.first) & (ds.field("shard") <= wanted.last)
    raise TypeError(f"expected Shards or a GroupIndex; got {wanted!r}")
