"""A Delta table at one version, readable by any process: the driver lists its files, workers open them with Arrow.

Workers never open a Delta log: deltalake panics in a process that was forked after deltalake had been used.
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
    fragment_of_file,
    list_files,
    matching_row_groups,
    table_folder,
)

WHOLE_SHARDS_FROM = 2_000
"""From this number of groups on, all rows of their shards are read: looking up each group would cost more."""


class GroupFilter(Protocol):
    """Which groups' rows to read: a ShardRange or a GroupIndex."""

    def overlaps(self, bounds: Bounds) -> bool:
        """Whether a file or row group with these bounds may have such rows."""
        ...


@dataclass(frozen=True)
class ShardRange:
    """All groups of the shards `first` to `last`, both included."""

    first: int
    last: int

    def overlaps(self, bounds: Bounds) -> bool:
        """Whether a file or row group with these bounds may have rows of these shards."""
        return (bounds.last_shard is None or bounds.last_shard >= self.first) and (
            bounds.first_shard is None or bounds.first_shard <= self.last
        )


@dataclass(frozen=True)
class Snapshot:
    """The files of a table at one version. Small, so that it can be pickled with a task."""

    name: str
    contract: Contract
    folder: Path
    files: tuple[TableFile, ...]

    @property
    def rows(self) -> int:
        """Number of rows of the files whose number of rows is in the log."""
        return sum(file.rows for file in self.files)

    def files_for(self, wanted: GroupFilter) -> list[str]:
        """Return the paths of the files that may have rows of these groups, by the statistics in the log."""
        return [str(self.folder / file.path) for file in self.files if wanted.overlaps(file.bounds)]

    def read(self, columns: Mapping[str, str], wanted: GroupFilter, where: ds.Expression | None = None) -> pa.Table:
        """Return the rows of these groups, in no order.

        columns: name in the result -> column of the table. where: a further condition. Raises StoreError when a file of
        this version no longer exists.
        """
        return pa.Table.from_batches(self.batches(columns, wanted, where), self._schema(columns))

    def batches(
        self, columns: Mapping[str, str], wanted: GroupFilter, where: ds.Expression | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `read` batch by batch."""
        schema, stored = self._schema(columns), arrow_schema(self.contract)
        condition = _filter_expression(wanted)
        try:
            scanned = self._dataset(wanted, stored, where).to_batches(
                columns={name: ds.field(of) for name, of in columns.items()},
                filter=condition if where is None else condition & where,
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

    def greatest(self, column: str, wanted: GroupFilter) -> Any:
        """Return the greatest value of a column in these groups' rows; None without rows.

        Opens only the files that, by the log's statistics, may have the greatest value.
        """
        found: Any = None
        for file in sorted(self.files, key=lambda file: _greatest_known(file, column), reverse=True):
            bound = file.ranges.get(column)
            if found is not None and bound is not None and bound[1] <= found:
                break  # no other file has a greater bound
            newer = None if found is None else ds.field(column) > pa.scalar(found)
            for batch in replace(self, files=(file,)).batches({column: column}, wanted, newer):
                most = pc.max(batch[column]).as_py()
                found = most if found is None or (most is not None and most > found) else found
        return found

    def _dataset(self, wanted: GroupFilter, schema: pa.Schema, where: ds.Expression | None) -> ds.FileSystemDataset:
        """Return the files to read and, if single groups are looked up, only the row groups that may have them."""
        files = [fragment_of_file(self.folder, file, schema) for file in self.files if wanted.overlaps(file.bounds)]
        if not isinstance(wanted, GroupIndex):
            return ds.FileSystemDataset(files, schema, FORMAT)
        chosen = []
        for fragment in ds.FileSystemDataset(files, schema, FORMAT).get_fragments(filter=where):
            row_groups = matching_row_groups(fragment.metadata, wanted)
            if row_groups:
                chosen.append(fragment.subset(row_group_ids=row_groups))
        return ds.FileSystemDataset(chosen, schema, FORMAT)

    def _schema(self, columns: Mapping[str, str]) -> pa.Schema:
        return pa.schema([(name, arrow_type(self.contract.column(of).type)) for name, of in columns.items()])


def _greatest_known(file: TableFile, column: str) -> tuple[bool, Any]:
    """Sort key of files by their greatest value. Files without that statistic come last, as if it were infinite."""
    known = file.ranges.get(column)
    return (True, 0) if known is None else (False, known[1])


def filter_of_groups(group_keys: Sequence[str], shards: int) -> GroupFilter:
    """Return the filter that finds the rows of these groups and parents. shards: the fleet's `shards`."""
    if len(group_keys) < WHOLE_SHARDS_FROM:
        return GroupIndex(group_keys, shards)
    found = {shard_of(key, shards) for key in group_keys}
    return ShardRange(min(found), max(found))


def take_snapshot(directory: Directory, at: int | None = None) -> Snapshot:
    """Return a directory at version `at`; None for the newest. Raises StoreError if it does not exist."""
    table = delta.open_existing(directory)
    if at is not None and at != table.version():
        table.load_as_version(at)
    return Snapshot(directory.name, directory.contract, table_folder(table), tuple(list_files(table)))


def take_snapshots(store: FleetStore, base: Contract, pins: Mapping[str, int] | None = None) -> list[Snapshot]:
    """Return the directories of a table, each at its pinned version.

    pins: directory name -> version; without one the newest.
    """
    return [take_snapshot(directory, (pins or {}).get(directory.name)) for directory in store.directories(base)]


def _filter_expression(wanted: GroupFilter) -> ds.Expression:
    if isinstance(wanted, GroupIndex):
        return ds.field("group_key").isin(pa.array(wanted.keys(), pa.string()))
    if isinstance(wanted, ShardRange):
        return (ds.field("shard") >= wanted.first) & (ds.field("shard") <= wanted.last)
    raise TypeError(f"expected Shards or a GroupIndex; got {wanted!r}")
