"""Tables read for a person or a model: some groups' rows, or some columns of all.

For a few groups files, row groups and pages are skipped by their statistics. `delta-rs` reads through DataFusion, which
decodes the key columns first and then only those pages of the other columns that have a matching row. One model of
10,000 of 40 kB each: 8 ms of CPU, where a scan by Arrow takes 450 ms or more. It also needs neither `pyarrow.dataset`
nor pandas, whose import takes a third of a second. Rows come in no order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from schemas.contract import Contract
from spinney.core import keys, timestamps
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema

AT_ONCE = 200
"""Groups of one query: the time to plan one grows faster than its literals, and 50,000 of them overflow the stack."""

MOST = 1_000
"""Groups that are looked up; for more, one scan of the whole table costs less."""

SCANNED_ROWS = 1_024
"""Rows of one batch of a scan: of payloads of 50 kB each 50 MB, and a few batches are in memory."""

_US = """'Timestamp(Microsecond, Some("UTC"))'"""


@dataclass(frozen=True)
class Until:
    """Rows whose time in this column is not after a moment."""

    column: str
    at: datetime

    def __str__(self) -> str:
        return f"{_quoted(self.column)} <= arrow_cast({timestamps.to_microseconds(self.at)}, {_US})"


@dataclass(frozen=True)
class Shards:
    """Rows of groups in these shards, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"shard BETWEEN {self.first} AND {self.last}"


@dataclass(frozen=True)
class Equal:
    """Rows with this text in this column."""

    column: str
    text: str

    def __str__(self) -> str:
        return f"{_quoted(self.column)} = {_literal(self.text)}"


class OfParents:
    """Rows of parents, whose keys are JSON objects."""

    def __str__(self) -> str:
        return "group_key LIKE '{%'"


Condition = Until | Shards | Equal | OfParents
"""What rows are read, as SQL when it is made text."""


@dataclass(frozen=True)
class Wanted:
    """Which rows: those of these groups or parents; of these models alone, where any are named.

    group_keys: sorted. model_ids: none, or one beside each of group_keys, which then may repeat.
    """

    group_keys: tuple[str, ...]
    model_ids: tuple[str, ...] = ()
    until: Until | None = None

    @classmethod
    def of_groups(cls, group_keys: Iterable[str], until: Until | None = None) -> Wanted:
        return cls(tuple(sorted(set(group_keys))), until=until)

    @classmethod
    def of_models(cls, owners: Mapping[str, str]) -> Wanted:
        """owners: model_id -> group_key."""
        pairs = sorted((key, name) for name, key in owners.items())
        return cls(tuple(key for key, _ in pairs), tuple(name for _, name in pairs))

    def conditions(self, shards: int) -> Iterator[str]:
        """As SQL, AT_ONCE groups each."""
        for start in range(0, len(self.group_keys), AT_ONCE):
            mine, models = (names[start : start + AT_ONCE] for names in (self.group_keys, self.model_ids))
            listed = {
                "shard": sorted({str(keys.shard_of(key, shards)) for key in mine}),
                "group_key": map(_literal, dict.fromkeys(mine)),
                "model_id": map(_literal, models),
            }
            all_of = [f"{name} IN ({some})" for name, each in listed.items() if (some := ", ".join(each))]
            yield " AND ".join(all_of + ([str(self.until)] if self.until else []))


def rows(store: FleetStore, base: Contract, columns: Sequence[str], wanted: Wanted) -> pa.Table:
    """These rows from every directory of a table, in no order.

    Raises StoreError when the table was never made.
    """
    found = list(batches(store, base, columns, wanted))
    return pa.Table.from_batches(found, _schema(store.contract(base), columns))


def batches(store: FleetStore, base: Contract, columns: Sequence[str], wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """The same batch by batch, for what may be large."""
    for directory, table in _opened(store, base):
        yield from in_directory(store, table, directory, columns, wanted)


def every(store: FleetStore, base: Contract, columns: Sequence[str], *where: Condition | None) -> pa.Table:
    """All rows of a table that meet all conditions. Raises StoreError when it was never made."""
    schema = _schema(store.contract(base), columns)
    found: list[pa.RecordBatch] = []
    for _, table in _opened(store, base):
        found += (batch.cast(schema) for batch in _query(table, _names(columns), _all_of(where)))
    return pa.Table.from_batches(found, schema)


def count(store: FleetStore, base: Contract) -> int:
    """How many rows a table has, by its log alone. Raises StoreError when it was never made."""
    return sum(int(table.count()) for _, table in _opened(store, base))


def least(store: FleetStore, base: Contract, column: str) -> datetime | None:
    """The least time in a column; None where the table has none. Raises StoreError when it was never made."""
    found: list[datetime] = []
    for _, table in _opened(store, base):
        for batch in _query(table, f"min({_quoted(column)}) AS least", ""):
            found += [row["least"] for row in dicts(batch) if row["least"] is not None]
    return min(found, default=None)


def dicts(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Its rows, times in UTC. As `to_pylist`, which imports pandas where there is a time."""
    columns = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_timestamp(field.type):
            whole = column.cast(pa.int64()).to_pylist()
            columns[field.name] = [None if value is None else timestamps.from_microseconds(value) for value in whole]
        else:
            columns[field.name] = column.to_pylist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def group_keys(store: FleetStore, base: Contract, *where: Condition | None) -> list[str]:
    """The keys that stand in such rows, each once, sorted: groups and parents. In memory are the keys alone.

    Raises StoreError when the table was never made.
    """
    found: set[str] = set()
    for _, table in _opened(store, base):
        for batch in _query(table, "DISTINCT group_key", _all_of(where)):
            found.update(batch.column(0).to_pylist())
    return sorted(found - {None})


def _opened(store: FleetStore, base: Contract) -> Iterator[tuple[Directory, DeltaTable]]:
    for directory in store.directories(base):
        yield directory, delta.existing(directory)


def in_directory(
    store: FleetStore, table: DeltaTable, directory: Directory, columns: Sequence[str], wanted: Wanted
) -> Iterator[pa.RecordBatch]:
    """These rows of one opened directory, batch by batch."""
    schema = _schema(directory.contract, columns)
    if len(wanted.group_keys) > MOST:
        yield from (batch.cast(schema) for batch in _scanned(table, columns, wanted))
        return
    for where in wanted.conditions(store.fleet.shards):
        yield from (batch.cast(schema) for batch in _query(table, _names(columns), where))


def newer(table: DeltaTable, directory: Directory, columns: Sequence[str], batch_id: int) -> pa.Table:
    """The rows of one opened directory that a later batch than this one wrote."""
    schema = _schema(directory.contract, columns)
    found = _query(table, _names(columns), f"batch_id > {batch_id:d}")
    return pa.Table.from_batches([each.cast(schema) for each in found], schema)


def _schema(contract: Contract, columns: Sequence[str]) -> pa.Schema:
    kinds = arrow_schema(contract)
    return pa.schema([kinds.field(name) for name in columns])


def _query(table: DeltaTable, what: str, where: str) -> Iterator[pa.RecordBatch]:
    found = QueryBuilder().register("t", table).execute(f"SELECT {what} FROM t" + (f" WHERE {where}" if where else ""))
    yield from pa.RecordBatchReader.from_stream(found)


def _all_of(where: Iterable[Condition | None]) -> str:
    return " AND ".join(str(each) for each in where if each is not None)


def _names(columns: Sequence[str]) -> str:
    return ", ".join(map(_quoted, columns))


def _scanned(table: DeltaTable, columns: Sequence[str], wanted: Wanted) -> Iterator[pa.RecordBatch]:
    import pyarrow.dataset as ds

    mine = ds.field("group_key").isin(pa.array(wanted.group_keys, pa.string()))
    if wanted.model_ids:
        mine &= ds.field("model_id").isin(pa.array(wanted.model_ids, pa.string()))
    if wanted.until:
        mine &= ds.field(wanted.until.column) <= wanted.until.at
    found = delta.dataset(table).to_batches(
        list(columns), filter=mine, batch_size=SCANNED_ROWS, batch_readahead=2, fragment_readahead=1
    )
    yield from found


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
