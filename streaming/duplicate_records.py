"""Recognise copies of the records that a query has stored, by the ids of its own recent rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from schemas import tables
from schemas.contract import Contract
from spinney.core.records.recent_ids import IdHashes, Mask, RecentIds
from spinney.core.timestamps import to_microseconds
from spinney.storage import checkpoints
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.table_log import files_appended_since
from streaming.clock_checks import MAX_TOLERANCE as CLOCK_TOLERANCE

ARRIVED = {tables.EVENTS.name: "ingested_at", tables.OUTCOMES.name: "ingested_at", tables.PREDICTIONS.name: "scored_at"}
"""Table -> its column with the timestamp of the batch that a row came in."""


class RecentRecords:
    """The records that a query has stored in a table, by (group_key, event_id), within some time.

    They are read from the table when the first batch that was not stored before asks for them, and kept in memory from
    then on: what is stored is what is remembered, whenever a process ends. Times are those of batches, which a repeated
    batch has again, so it has the same copies.

    Rows of other topics, such as those that `load` has stored, are not compared.

    An id is remembered until a batch begins after one that began at least `remembered` after the id arrived. So a
    silence, or a time without a running stream, forgets nothing.
    """

    def __init__(self, store: FleetStore, query: str, contract: Contract, remembered: timedelta) -> None:
        """contract: of the table, one of ARRIVED."""
        schema = store.record_schema
        self._topic = schema.outcomes_topic if contract.name == tables.OUTCOMES.name else schema.events_topic
        self._directory, self._arrived = store.directory(contract), ARRIVED[contract.name]
        self._query, self._location, self._remembered = query, store.checkpoint(query), remembered
        self._recent: RecentIds | None = None

    def are_new(self, ids: IdHashes, batch_id: int) -> Mask:
        """Return whether each record of a batch is no copy, shape (n,).

        ids: in the order of the records in Kafka: the first one counts. The batch is not stored yet.
        """
        now = checkpoints.previous_start(self._location, batch_id)
        if self._recent is None:
            self._recent = self._stored(now)
        self._recent.forget(now)
        return ids.first_of_each() & ~self._recent.contain(ids)

    def add(self, ids: IdHashes, batch_id: int) -> None:
        """Remember what was stored of a batch that `are_new` was asked about."""
        if self._recent is not None:
            arrived = checkpoints.started_batch(self._location, batch_id).started_at
            self._recent.add(ids, to_microseconds(arrived))

    def _stored(self, now: datetime) -> RecentIds:
        recent = RecentIds(self._remembered)
        for rows in self._rows_since(recent.oldest(now)):
            times = pc.cast(rows[self._arrived], pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
            recent.add(IdHashes.of(rows["group_key"], rows["event_id"]), times.to_numpy())
        return recent

    def _rows_since(self, oldest: datetime) -> Iterator[pa.Table]:
        """Yield the ids and times of the query's rows since a time.

        The files of its own commits are read while they are there, also those that were merged with others since: a
        merged file may have the rows of the whole history.
        """
        columns = ["group_key", "event_id", self._arrived]
        since = pa.scalar(oldest, pa.timestamp("us", "UTC"))
        where = (ds.field(self._arrived) >= since) & (ds.field("topic") == self._topic)
        table = delta.open_existing(self._directory)
        files = files_appended_since(self._directory, oldest - CLOCK_TOLERANCE, int(table.version()), self._query)
        if files is None:
            for name in self._directory.contract.partitioned_by:  # the UTC date of the same time
                where &= ds.field(name) >= oldest.date()
            for batch in delta.open_dataset(table).scanner(columns, filter=where).to_batches():
                yield pa.Table.from_batches([batch])
            return
        for file in files:
            rows = pq.ParquetFile(file).read([*columns, "topic"])
            yield rows.filter(where)
