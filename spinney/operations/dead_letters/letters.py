"""Read rows of `dead_letters`, selected by a filter: counted by kind, or one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from schemas.tables import DEAD_LETTERS
from spinney.storage.layout import FleetStore
from spinney.tables import delta

IDENTITY = ("topic", "kafka_partition", "kafka_offset", "ingested_at")
"""Columns that identify a dead letter.

Position alone does not, since a recreated topic uses the same positions again.
"""

LOADED = "load:"
"""Prefix of `topic` for rows that `spinney load` rejected. Names of topics contain no colon."""

ROWS_AT_ONCE = 1_000
"""Rows per batch. Batches are small, since a value may be larger than a megabyte."""


@dataclass(frozen=True)
class LetterFilter:
    """Selects dead letters; an empty filter selects all.

    since, before: bounds of `ingested_at`. after_batch: only letters of later batches of `ingest`.
    """

    reasons: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    since: datetime | None = None
    before: datetime | None = None
    after_batch: int | None = None


@dataclass(frozen=True)
class LetterGroup:
    """Dead letters that are alike. source: the topic, or ``load`` for all files. example: the detail of one of them."""

    source: str
    reason: str
    field: str | None
    count: int
    replayed: int
    first_seen: datetime | None
    last_seen: datetime | None
    example: str | None


@dataclass(frozen=True)
class DeadLetters:
    """The selected rows of a table at one version."""

    table: DeltaTable
    choice: LetterFilter

    @classmethod
    def opened(cls, store: FleetStore, choice: LetterFilter) -> DeadLetters:
        """Open the table. Raises StoreError if it was never created."""
        return cls(delta.open_existing(store.directory(DEAD_LETTERS)), choice)

    @cached_property
    def _dataset(self) -> ds.Dataset:
        return delta.open_dataset(self.table)

    @property
    def has_fields(self) -> bool:
        """Whether the table has the column `field`, which tables of earlier versions lack."""
        return "field" in self._dataset.schema.names

    def batches(self, columns: Sequence[str], where: ds.Expression | None = None) -> Iterator[pa.Table]:
        """Yield the selected rows in batches of at most ROWS_AT_ONCE. where: a further condition."""
        present = [name for name in columns if name != "field" or self.has_fields]
        condition = _both(self._condition(), where)
        if condition is None:
            return
        batches = self._dataset.to_batches(
            columns=present, filter=condition, batch_size=ROWS_AT_ONCE, batch_readahead=1, fragment_readahead=1
        )
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            if rows.num_rows:
                missing = "field" in columns and not self.has_fields
                yield rows.append_column("field", pa.nulls(rows.num_rows, pa.string())) if missing else rows

    def _condition(self) -> ds.Expression | None:
        """Return the filter's condition; None if no row can meet it."""
        choice = self.choice
        found = ds.scalar(True)
        if choice.reasons:
            found &= ds.field("reason").isin(list(choice.reasons))
        if choice.fields and not self.has_fields:
            return None
        if choice.fields:
            found &= ds.field("field").isin(list(choice.fields))
        at = pa.timestamp("us", "UTC")
        if choice.since is not None:
            found &= ds.field("ingested_at") >= pa.scalar(choice.since, at)
        if choice.before is not None:
            found &= ds.field("ingested_at") < pa.scalar(choice.before, at)
        if choice.after_batch is not None:
            found &= (ds.field("batch_id") > choice.after_batch) & ~pc.starts_with(ds.field("topic"), LOADED)
        return found


def _both(one: ds.Expression | None, other: ds.Expression | None) -> ds.Expression | None:
    return one if one is None or other is None else one & other


def identities(rows: pa.Table) -> pa.Array:
    """Return each row's identity as a text. rows: the columns IDENTITY."""
    texts = [rows[name].combine_chunks() for name in IDENTITY[:-1]]
    at = pc.cast(rows["ingested_at"].combine_chunks().cast(pa.timestamp("us", "UTC")), pa.int64())
    columns = [pc.cast(column, pa.string()) for column in (*texts, at)]
    return pc.binary_join_element_wise(*columns, " ", null_handling="replace", null_replacement="")


_KIND = ["source", "reason", "field"]
_SUMS = [("count", "sum"), ("replayed", "sum"), ("first_seen", "min"), ("last_seen", "max"), ("example", "first")]


def group_letters(letters: DeadLetters, replayed: pa.Array) -> list[LetterGroup]:
    """Count by source, reason and field, the most frequent kind first. replayed: identities of those sent again."""
    parts = [
        _sum_groups(_as_groups(rows, replayed)) for rows in letters.batches([*IDENTITY, "reason", "field", "detail"])
    ]
    if not parts:
        return []
    found = [LetterGroup(**row) for row in _sum_groups(pa.concat_tables(parts)).to_pylist()]
    return sorted(found, key=lambda kind: (-kind.count, kind.source, kind.reason, kind.field or ""))


def _as_groups(rows: pa.Table, replayed: pa.Array) -> pa.Table:
    """Return each row as a group of one letter."""
    is_loaded = pc.starts_with(rows["topic"], LOADED)
    at = rows["ingested_at"].cast(pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "source": pc.if_else(is_loaded, "load", rows["topic"]),
            "reason": rows["reason"],
            "field": rows["field"],
            "count": pa.array([1] * rows.num_rows, pa.int64()),
            "replayed": pc.is_in(identities(rows), value_set=replayed).cast(pa.int64()),
            "first_seen": at,
            "last_seen": at,
            "example": rows["detail"],
        }
    )


def _sum_groups(rows: pa.Table) -> pa.Table:
    found = rows.group_by(_KIND, use_threads=False).aggregate(_SUMS)
    plain = {f"{name}_{how}": name for name, how in _SUMS}
    return found.rename_columns([plain.get(name, name) for name in found.column_names])


def newest_letters(letters: DeadLetters, limit: int) -> list[dict[str, Any]]:
    """Return the selected dead letters with all columns, newest first. limit: maximum number; 0: all."""
    places = list(letters.batches(IDENTITY))
    if not places:
        return []
    order = [(name, "descending") for name in ("ingested_at", "topic", "kafka_partition", "kafka_offset")]
    wanted = pa.concat_tables(places).sort_by(order)
    wanted = wanted.slice(0, limit) if limit else wanted
    shown = identities(wanted)
    rank = {text: at for at, text in enumerate(shown.to_pylist())}
    near = ds.field("kafka_offset").isin(pc.unique(wanted["kafka_offset"]))
    found: list[tuple[int, dict[str, Any]]] = []
    for rows in letters.batches([*IDENTITY, "key", "value", "reason", "field", "detail"], near):
        found += [
            (rank[text], row)
            for text, row in zip(identities(rows).to_pylist(), rows.to_pylist(), strict=True)
            if text in rank
        ]
    return [row for _, row in sorted(found, key=lambda ranked: ranked[0])]
