"""Finds the files and row groups of a table that may have rows of given groups, and reads no others.

Statistics in the table's log select the files, those in a file's footer select its row groups. They help only if the
rows of a group are close together: `spinney.operations.clustering` sorts files so.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow import fs

from spinney.core.errors import StoreError
from spinney.core.keys import shard_of
from spinney.core.records.time_parsing import FIRST_DAY, LAST_DAY

CLUSTERED = "clustered-"
"""Prefix of a clustered file's name. The texts in its statistics are exact bounds, however long."""

TRUNCATED_FROM = 32
"""Length in UTF-16 units from which a text in the log's statistics may be cut off: Spark's Delta cuts them there."""

_PARTITION = "partition."
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Bounds:
    """Least and greatest `shard` and `group_key` of some rows. None: unknown, so unbounded.

    prefix: whether `last_key` may be cut off, so that every key that begins with it is within the bounds.
    """

    first_shard: int | None = None
    last_shard: int | None = None
    first_key: str | None = None
    last_key: str | None = None
    prefix: bool = False


@dataclass(frozen=True)
class TableFile:
    """A file of a table.

    path: below the table's folder. rows: 0 if the log does not have it. partition: values of the partition columns.
    ranges: least and greatest value of the numeric, date and time columns without nulls; times may be rounded outwards.
    is_counted: whether the log has the number of rows.
    """

    path: str
    bytes: int
    rows: int
    bounds: Bounds
    partition: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    is_counted: bool = True

    @property
    def is_clustered(self) -> bool:
        """Whether the file was sorted by group."""
        return Path(self.path).name.startswith(CLUSTERED)


_MICROSECONDS = (FIRST_DAY * 86_400_000_000, (LAST_DAY + 1) * 86_400_000_000 - 1_001)
"""The first time that Python can represent, and the last time to which a millisecond can be added; microseconds."""


class GroupIndex:
    """Groups sorted by shard and key, so that a range of both is looked up in logarithmic time.

    shards: the fleet's number of shards.
    """

    def __init__(self, group_keys: Iterable[str], shards: int) -> None:
        by_shard: dict[int, list[str]] = defaultdict(list)
        for key in sorted(set(group_keys)):
            by_shard[shard_of(key, shards)].append(key)
        self._keys = dict(by_shard)
        self._shards = sorted(by_shard)

    def overlaps(self, bounds: Bounds) -> bool:
        """Whether one of the groups is within the bounds."""
        first = 0 if bounds.first_shard is None else bisect_left(self._shards, bounds.first_shard)
        end = len(self._shards) if bounds.last_shard is None else bisect_right(self._shards, bounds.last_shard)
        return any(_any_within(self._keys[shard], bounds) for shard in self._shards[first:end])

    def keys(self) -> list[str]:
        """Return the groups' keys, by shard."""
        return [key for shard in self._shards for key in self._keys[shard]]


def _any_within(keys: Sequence[str], bounds: Bounds) -> bool:
    """Whether one of the keys is within the bounds.

    Only the first key that is not below them has to be compared. keys: sorted.
    """
    at = 0 if bounds.first_key is None else bisect_left(keys, bounds.first_key)
    if at == len(keys):
        return False
    if bounds.last_key is None:
        return True
    return (keys[at][: len(bounds.last_key)] if bounds.prefix else keys[at]) <= bounds.last_key


def open_dataset(table: DeltaTable) -> ds.Dataset:
    """Return the table as an Arrow dataset on Arrow's own file system.

    deltalake's dataset has two faults (version 1.6). Its file system is Python code that Arrow's threads call: a thread
    that returns to it while the interpreter ends aborts the process. And it tells Arrow that all values of a column
    without statistics are null, so that a filter by that column loses the file's rows; Spark's Delta writes statistics
    of the first 32 columns only.
    """
    version = table.protocol().min_reader_version
    if version > 1:
        raise StoreError(
            f"table at {table_folder(table)}: expected reader version 1; got {version}. Its rows cannot be "
            "read from its files alone; write it without deletion vectors and column mapping"
        )
    schema = arrow_schema_of(table)
    return ds.FileSystemDataset(
        [fragment_of_file(table_folder(table), file, schema) for file in list_files(table)], schema, FORMAT
    )


def list_files(table: DeltaTable) -> list[TableFile]:
    """Return the files of the table at its opened version. Reads the log's state and opens no file."""
    actions = pa.table(table.get_add_actions(flatten=True))
    return [_file(row) for row in _within_python(actions.select(_used_columns(actions.schema))).to_pylist()]


def _within_python(actions: pa.Table) -> pa.Table:
    """Return the statistics with null for dates and times that Python cannot represent, alone
    or a millisecond later.
    """
    for at, (name, column) in enumerate(zip(actions.column_names, actions.columns, strict=True)):
        if pa.types.is_date(column.type):
            whole, (first, last) = column.cast(pa.int32()), (FIRST_DAY, LAST_DAY)
        elif pa.types.is_timestamp(column.type):
            whole, (first, last) = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()), _MICROSECONDS
        else:
            continue
        known = pc.and_(pc.greater_equal(whole, first), pc.less_equal(whole, last))
        actions = actions.set_column(at, name, pc.if_else(known, column, pa.scalar(None, column.type)))
    return actions


def _used_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that `_file` uses.

    Only these are converted: wide tables have many more, which takes most of the time.
    """
    ranged = {
        field.name.partition(".")[2]
        for field in schema
        if field.name.startswith("min.") and (_is_ranged(field.type) or field.name == "min.group_key")
    }
    plain = {"path", "size_bytes", "num_records"}
    return [
        name
        for name in schema.names
        if name in plain or name.startswith(_PARTITION) or name.partition(".")[2] in ranged
    ]


def _is_ranged(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def files_of_groups(
    table: DeltaTable, group_keys: Iterable[str], shards: int, where: ds.Expression | None = None
) -> list[str]:
    """Return the files that may have rows of these groups, as paths below the table's folder.

    shards: the fleet's `shards`. where: a further condition on the rows. Files without statistics are included.
    """
    return [file.path for file in _candidate_files(table, GroupIndex(group_keys, shards), where)]


def read_groups(
    table: DeltaTable,
    columns: Sequence[str] | None,
    group_keys: Iterable[str],
    shards: int,
    where: ds.Expression | None = None,
) -> pa.Table:
    """Return the rows of these groups, in no order, reading only files and row groups that may have some.

    columns: None for all, in the table's order. shards: the fleet's `shards`. where: a further condition on the rows.
    """
    wanted, schema = GroupIndex(group_keys, shards), arrow_schema_of(table)
    parts = []
    for file in _candidate_files(table, wanted, where):
        fragment = fragment_of_file(table_folder(table), file, schema)
        chosen = matching_row_groups(fragment.metadata, wanted)
        if chosen:
            parts.append(fragment.subset(row_group_ids=chosen))
    within = ds.field("group_key").isin(pa.array(wanted.keys(), pa.string()))
    rows = ds.FileSystemDataset(parts, schema, FORMAT)
    return rows.to_table(None if columns is None else list(columns), filter=within if where is None else within & where)


def _candidate_files(table: DeltaTable, wanted: GroupIndex, where: ds.Expression | None) -> list[TableFile]:
    found = {file.path: file for file in list_files(table) if wanted.overlaps(file.bounds)}
    if where is None:
        return list(found.values())
    schema, base = arrow_schema_of(table), table_folder(table)
    fragments = [fragment_of_file(base, file, schema) for file in found.values()]
    kept = ds.FileSystemDataset(fragments, schema, FORMAT).get_fragments(filter=where)
    return [found[str(Path(file.path).relative_to(base))] for file in kept]


def matching_row_groups(metadata: Any, wanted: GroupIndex) -> list[int]:
    """Return the row groups of a Parquet file that may have rows of these groups.

    metadata: the metadata in its footer.
    """
    place = {metadata.schema.column(at).path: at for at in range(metadata.num_columns)}
    shard, key = place.get("shard"), place.get("group_key")
    chosen = []
    for at in range(metadata.num_row_groups):
        part = metadata.row_group(at)
        shards, keys = _least_and_greatest(part, shard, int), _least_and_greatest(part, key, str)
        if wanted.overlaps(Bounds(*shards, *keys)):
            chosen.append(at)
    return chosen


def _least_and_greatest(part: Any, column: int | None, kind: type) -> tuple[Any, Any]:
    """Return the bounds of a column in a row group; None without statistics."""
    statistics = None if column is None else part.column(column).statistics
    if (
        statistics is None
        or not statistics.has_min_max
        or not isinstance(statistics.min, kind)
        or not isinstance(statistics.max, kind)
    ):
        return None, None
    return statistics.min, statistics.max


FORMAT = ds.ParquetFileFormat(
    # Spark writes times as INT96, which would become nanoseconds.
    read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit="us"),
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True),
)


def arrow_schema_of(table: DeltaTable) -> pa.Schema:
    """Return the table's schema, with the partition columns, which files do not have."""
    return pa.schema(table.schema().to_arrow(as_large_types=False))


def table_folder(table: DeltaTable) -> Path:
    """Return the folder of a table. It is on this machine: `spinney.storage.atomic_files` refuses other roots."""
    return Path(unquote(urlsplit(table.table_uri).path))


def fragment_of_file(base: Path, file: TableFile, schema: pa.Schema) -> ds.ParquetFileFragment:
    """Return a file as an Arrow fragment with the bounds that the log guarantees. The file is not opened.

    base: the table's folder.
    """
    known = ds.scalar(True)
    for name, value in file.partition.items():
        same = (
            ds.field(name).is_null() if value is None else ds.field(name) == pa.scalar(value, schema.field(name).type)
        )
        known = known & same
    for name, (least, greatest) in file.ranges.items():
        if name not in schema.names:  # a column that is no longer declared
            continue
        kind = schema.field(name).type
        known = known & (ds.field(name) >= pa.scalar(least, kind)) & (ds.field(name) <= pa.scalar(greatest, kind))
    return FORMAT.make_fragment(str(base / file.path), filesystem=fs.LocalFileSystem(), partition_expression=known)


def dataset_of_paths(base: Path, paths: Iterable[str], schema: pa.Schema) -> ds.Dataset:
    """Return files as a dataset with the columns of `schema`; null if a file lacks a column. No file is opened.

    base: the table's folder. paths: relative to it.
    """
    files = [fragment_of_file(base, TableFile(path, 0, 0, Bounds()), schema) for path in paths]
    return ds.FileSystemDataset(files, schema, FORMAT)


def _file(row: Mapping[str, Any]) -> TableFile:
    greatest = row.get("max.group_key")
    is_exact = Path(row["path"]).name.startswith(CLUSTERED)
    is_cut = greatest is not None and not is_exact and _utf16(greatest) >= TRUNCATED_FROM
    bounds = Bounds(
        first_shard=row.get("min.shard"),
        last_shard=row.get("max.shard"),
        first_key=row.get("min.group_key"),
        last_key=_first_utf16(greatest, TRUNCATED_FROM - 1) if is_cut and greatest is not None else greatest,
        prefix=is_cut,
    )
    partition = {name[len(_PARTITION) :]: value for name, value in row.items() if name.startswith(_PARTITION)}
    rows = row.get("num_records")
    return TableFile(
        row["path"], row["size_bytes"], rows or 0, bounds, partition, _ranges(row), is_counted=rows is not None
    )


def _ranges(row: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    found = {}
    for name in (column[len("min.") :] for column in row if column.startswith("min.")):
        least, greatest = row[f"min.{name}"], row.get(f"max.{name}")
        is_known = isinstance(least, int | date) and isinstance(greatest, int | date)
        if is_known and not isinstance(least, bool) and row.get(f"null_count.{name}") == 0:
            # Spark cuts the times in a log's statistics to whole milliseconds.
            found[name] = (least, greatest + _MILLISECOND if isinstance(greatest, datetime) else greatest)
    return found


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _first_utf16(text: str, units: int) -> str:
    """Return the first `units` UTF-16 units of a text. A surrogate pair is not split."""
    return text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", errors="ignore")
