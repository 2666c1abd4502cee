"""Reads a few groups' rows, or a few columns of all rows, fast enough for a command or a request. Rows have no order.

delta-rs reads through DataFusion, which skips files, row groups and pages by their statistics: it decodes the key
columns first, then only those pages of other columns that have a matching row. One of 10,000 models of 40 kB takes 8 ms
of CPU; a scan by Arrow takes 450 ms or more. `pyarrow.dataset` and pandas, which take a third of a second to import,
are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from schemas.contract import Contract
from spinney.core import keys, timestamps
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.opened_tables import KeptQueries, OpenedTables, query_of

if TYPE_CHECKING:
    import pyarrow.dataset as ds

GROUPS_PER_QUERY = 200
"""Groups in one query. Planning time grows faster than the number of literals, and 50,000 overflow the stack."""

MAX_LOOKUP_GROUPS = 1_000
"""Largest number of groups in a lookup. For more groups a scan of the whole table is cheaper."""

SCAN_BATCH_ROWS = 1_024
"""Rows in one batch of a scan. With payloads of 50 kB that is 50 MB, and a few batches are in memory."""

_open: Callable[[Directory], DeltaTable] = delta.open_existing
"""Opens a table for a lookup."""

_query: Callable[[DeltaTable], QueryBuilder | None] = query_of
"""Returns an engine that queries an opened table under the name `t`; None for a table without files."""

_files_of_groups: Callable[[Directory, DeltaTable, Collection[str], int], ds.Dataset | None] | None = None
"""Returns the files with rows of some groups; None if they are not known, as in a process that does few lookups."""

FEW_GROUPS = 10
"""For lookups of up to this many groups the files are looked up first. More groups would be in most of the files."""

_TIES = ("group_key", "event_id", "round_id", "decision")
"""Columns by which rows of one time are ordered: a round decides about thousands of groups at once."""

_US = """'Timestamp(Microsecond, Some("UTC"))'"""


@dataclass(frozen=True)
class _Comparison:
    """Compares the time in a column with a bound."""

    column: str
    at: datetime
    operator: ClassVar[str]

    def __str__(self) -> str:
        return f"{_quoted(self.column)} {self.operator} arrow_cast({timestamps.to_microseconds(self.at)}, {_US})"


class NotAfter(_Comparison):
    """Rows whose time in a column is not after `at`."""

    operator = "<="


class NotBefore(_Comparison):
    """Rows whose time in a column is not before `at`."""

    operator = ">="


@dataclass(frozen=True)
class HasText:
    """Rows with a text in a column."""

    column: str
    text: str

    def __str__(self) -> str:
        return f"{_quoted(self.column)} = {_literal(self.text)}"


@dataclass(frozen=True)
class ContainsText:
    """Rows with a text inside a column's text."""

    column: str
    text: str

    def __str__(self) -> str:
        return f"contains({_quoted(self.column)}, {_literal(self.text)})"


@dataclass(frozen=True)
class InShards:
    """Rows of the shards `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"shard BETWEEN {self.first} AND {self.last}"


@dataclass(frozen=True)
class IsKnown:
    """Rows whose value in a column is not null."""

    column: str

    def __str__(self) -> str:
        return f"{_quoted(self.column)} IS NOT NULL"


class OfParent:
    """Rows of parents, whose keys are JSON objects."""

    def __str__(self) -> str:
        return "group_key LIKE '{%'"


Condition = NotAfter | NotBefore | InShards | HasText | ContainsText | IsKnown | OfParent
"""A condition on rows. `str` gives its SQL."""


@dataclass(frozen=True)
class RowFilter:
    """Selects the rows of some groups or parents, or of some of their models.

    group_keys: sorted. model_ids: empty, or one for each of group_keys, in which a key may then occur several times.
    until: a further condition.
    """

    group_keys: tuple[str, ...]
    model_ids: tuple[str, ...] = ()
    until: NotAfter | None = None

    @classmethod
    def of_groups(cls, group_keys: Iterable[str], until: NotAfter | None = None) -> RowFilter:
        """Return the filter for the rows of these groups or parents."""
        return cls(tuple(sorted(set(group_keys))), until=until)

    @classmethod
    def of_models(cls, owners: Mapping[str, str]) -> RowFilter:
        """Return the filter for the rows of these models. owners: model_id -> key of its group or parent."""
        pairs = sorted((key, name) for name, key in owners.items())
        return cls(tuple(key for key, _ in pairs), tuple(name for _, name in pairs))

    def conditions(self, shards: int) -> Iterator[str]:
        """Yield SQL conditions, each for at most GROUPS_PER_QUERY groups. shards: the fleet's number of shards."""
        for start in range(0, len(self.group_keys), GROUPS_PER_QUERY):
            group_keys, models = (
                names[start : start + GROUPS_PER_QUERY] for names in (self.group_keys, self.model_ids)
            )
            listed = {
                "shard": sorted({str(keys.shard_of(key, shards)) for key in group_keys}),
                "group_key": map(_literal, dict.fromkeys(group_keys)),
                "model_id": map(_literal, models),
            }
            all_of = [f"{name} IN ({some})" for name, values in listed.items() if (some := ", ".join(values))]
            yield " AND ".join(all_of + ([str(self.until)] if self.until else []))


def keep_tables_open() -> None:
    """Keep tables open after a lookup, from now on, in this process.

    For a process that makes many lookups in the same roots, such as the gateway.
    """
    from spinney.tables.group_file_cache import GroupFileCache

    global _open, _query, _files_of_groups

    _open, _query, _files_of_groups = OpenedTables().open, KeptQueries().of, GroupFileCache().dataset_of


def read_rows(store: FleetStore, base: Contract, columns: Sequence[str], wanted: RowFilter) -> pa.Table:
    """Return the selected rows from all directories of a table.

    Raises StoreError if the table does not exist.
    """
    schema = _schema(store.contract(base), columns)
    opened = _open_tables(store, base)
    found = [_as_table(_read(store, table, place, columns, wanted), schema) for place, table in opened]
    return pa.concat_tables(found)


def read_batches(
    store: FleetStore, base: Contract, columns: Sequence[str], wanted: RowFilter
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `read_rows` batch by batch, if all of them together may be large."""
    for directory, table in _open_tables(store, base):
        yield from read_directory(store, table, directory, columns, wanted)


def read_where(store: FleetStore, base: Contract, columns: Sequence[str], *where: Condition | None) -> pa.Table:
    """Return the rows that meet all conditions, in one chunk: batches hold twice the memory. Raises StoreError."""
    found = read_batches_where(store, base, columns, *where)
    return pa.Table.from_batches(found, _schema(store.contract(base), columns)).combine_chunks()


def read_batches_where(
    store: FleetStore,
    base: Contract,
    columns: Sequence[str],
    *where: Condition | None,
    wanted: RowFilter | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `read_where` batch by batch, if the caller keeps only few of them.

    wanted: at most MAX_LOOKUP_GROUPS groups; None for all groups.
    """
    schema = _schema(store.contract(base), columns)
    groups = [None] if wanted is None else [*wanted.conditions(store.fleet.shards)]
    for _, table in _open_tables(store, base):
        for condition in groups:
            found = _run_query(table, _column_list(table, columns), _conjunction([condition, *where]))
            yield from (batch.cast(schema) for batch in found)


def select(store: FleetStore, base: Contract, columns: Sequence[str], what: str, rest: str) -> pa.Table:
    """Return the rows of ``SELECT what FROM t rest``, where t is the union of a table's directories.

    For aggregates: their result is small even if the table is large. columns: those that `what` and `rest` use. what,
    rest: SQL of this package, never of a user. Raises StoreError if the table does not exist.
    """
    query, parts = QueryBuilder(), []
    for place, (_, table) in enumerate(_open_tables(store, base)):
        query.register(f"t{place}", table)
        parts.append(f"SELECT {_column_list(table, columns)} FROM t{place}")
    result = query.execute(f"SELECT {what} FROM ({' UNION ALL '.join(parts)}) AS t {rest}")
    return pa.RecordBatchReader.from_stream(result).read_all()


def read_newest(
    store: FleetStore, base: Contract, columns: Sequence[str], by: str, limit: int, where: str = ""
) -> pa.Table:
    """Return the rows of a table that are greatest in the column `by`, the greatest first.

    Equal ones are ordered by _TIES. limit: largest number of rows. where: SQL; empty: all. Raises StoreError: no table.
    """
    schema, ties = _schema(store.contract(base), columns), [name for name in _TIES if name in columns]
    newest = f"ORDER BY {', '.join([f'{_quoted(by)} DESC', *map(_quoted, ties)])} LIMIT {limit:d}"
    found = [
        _as_table(_run_query(table, _column_list(table, columns), f"{where or 'TRUE'} {newest}"), schema)
        for _, table in _open_tables(store, base)
    ]
    order = [(by, "descending"), *((name, "ascending") for name in ties)]
    return pa.concat_tables(found).sort_by(order).slice(0, limit)


def count_rows(store: FleetStore, base: Contract) -> int:
    """Return the number of rows of a table, from its log alone. Raises StoreError if it does not exist."""
    return sum(int(table.count()) for _, table in _open_tables(store, base))


def versions(store: FleetStore, base: Contract) -> tuple[int, ...]:
    """Return the version of each directory of a table. Raises StoreError if it does not exist."""
    return tuple(int(table.version()) for _, table in _open_tables(store, base))


def earliest_time(store: FleetStore, base: Contract, column: str) -> datetime | None:
    """Return the earliest time in a column; None if it has none. Raises StoreError if the table does not exist."""
    return min(_extreme_times(store, base, column, "min", ""), default=None)


def latest_time(store: FleetStore, base: Contract, column: str, at: datetime | None = None) -> datetime | None:
    """Return the latest time in a column that is not after `at`; None if it has none. at: None for no bound.

    Raises StoreError if the table does not exist.
    """
    where = "" if at is None else str(NotAfter(column, at))
    return max(_extreme_times(store, base, column, "max", where), default=None)


def _extreme_times(store: FleetStore, base: Contract, column: str, function: str, where: str) -> list[datetime]:
    """The SQL aggregate `function` of a column in each directory of a table that has one."""
    found: list[datetime] = []
    for _, table in _open_tables(store, base):
        for batch in _run_query(table, f"{function}({_quoted(column)}) AS extreme", where):
            found += [row["extreme"] for row in to_dicts(batch) if row["extreme"] is not None]
    return found


def to_dicts(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows as dictionaries, times in UTC. Like `to_pylist`, which would import pandas for times."""
    columns = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_timestamp(field.type):
            whole = column.cast(pa.int64()).to_pylist()
            columns[field.name] = [None if value is None else timestamps.from_microseconds(value) for value in whole]
        else:
            columns[field.name] = column.to_pylist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def read_group_keys(store: FleetStore, base: Contract, *where: Condition | None) -> list[str]:
    """Return the distinct keys of the rows that meet all conditions, sorted: groups and parents.

    Raises StoreError if the table does not exist.
    """
    found: set[str] = set()
    for _, table in _open_tables(store, base):
        for batch in _run_query(table, "DISTINCT group_key", _conjunction(where)):
            found.update(batch.column(0).to_pylist())
    return sorted(found - {None})


def _open_tables(store: FleetStore, base: Contract) -> Iterator[tuple[Directory, DeltaTable]]:
    for directory in store.directories(base):
        yield directory, _open(directory)


def read_directory(
    store: FleetStore, table: DeltaTable, directory: Directory, columns: Sequence[str], wanted: RowFilter
) -> Iterator[pa.RecordBatch]:
    """Yield the selected rows of one opened directory, batch by batch."""
    schema = _schema(directory.contract, columns)
    yield from (batch.cast(schema) for batch in _read(store, table, directory, columns, wanted))


def _read(
    store: FleetStore, table: DeltaTable, directory: Directory, columns: Sequence[str], wanted: RowFilter
) -> Iterator[pa.RecordBatch]:
    """Yield rows as `read_directory` does, with the types that the engine gives: texts may be views."""
    if len(wanted.group_keys) > MAX_LOOKUP_GROUPS:
        yield from _scan(delta.open_contract_dataset(directory, table), columns, wanted)
        return
    if _files_of_groups is not None and len(wanted.group_keys) <= FEW_GROUPS:
        files = _files_of_groups(directory, table, wanted.group_keys, store.fleet.shards)
        if files is not None:
            yield from _scan(files, columns, wanted)
            return
    for where in wanted.conditions(store.fleet.shards):
        yield from _run_query(table, _column_list(table, columns), where)


def _as_table(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Return the batches as a table with the types of a schema. To cast each batch alone took 5 % of a lookup's CPU."""
    if found := list(batches):
        return pa.Table.from_batches(found).cast(schema)
    return pa.Table.from_batches([], schema)  # `empty_table` would import pandas


def read_rows_after(table: DeltaTable, directory: Directory, columns: Sequence[str], batch_id: int) -> pa.Table:
    """Return the rows of one opened directory that were written by batches after `batch_id`."""
    schema = _schema(directory.contract, columns)
    found = _run_query(table, _column_list(table, columns), f"batch_id > {batch_id:d}")
    return _as_table(found, schema)


def _schema(contract: Contract, columns: Sequence[str]) -> pa.Schema:
    kinds = arrow_schema(contract)
    return pa.schema([kinds.field(name) for name in columns])


def _run_query(table: DeltaTable, what: str, where: str) -> Iterator[pa.RecordBatch]:
    if (query := _query(table)) is None:
        return
    found = query.execute(f"SELECT {what} FROM t" + (f" WHERE {where}" if where else ""))
    yield from pa.RecordBatchReader.from_stream(found)


def _conjunction(where: Iterable[Condition | str | None]) -> str:
    return " AND ".join(str(condition) for condition in where if condition is not None)


def _column_list(table: DeltaTable, columns: Sequence[str]) -> str:
    """Return the columns as SQL. A column that a table of an earlier version lacks is null."""
    stored = {field.name for field in table.schema().fields}
    return ", ".join(_quoted(name) if name in stored else f"NULL AS {_quoted(name)}" for name in columns)


def _scan(dataset: ds.Dataset, columns: Sequence[str], wanted: RowFilter) -> Iterator[pa.RecordBatch]:
    import pyarrow.dataset as ds

    condition = ds.field("group_key").isin(pa.array(wanted.group_keys, pa.string()))
    if wanted.model_ids:
        condition &= ds.field("model_id").isin(pa.array(wanted.model_ids, pa.string()))
    if wanted.until:
        condition &= ds.field(wanted.until.column) <= wanted.until.at
    found = dataset.to_batches(
        list(columns), filter=condition, batch_size=SCAN_BATCH_ROWS, batch_readahead=2, fragment_readahead=1
    )
    yield from found


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
