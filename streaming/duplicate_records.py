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
"""Table -> its column with the timestamp of the batch in which a row arrived."""


class RecentRecords:
    """The records that a query has stored in a table, by (group_key, event_id), within some time.

    They are read from the table for the first batch that is not stored yet, and kept in memory from then on. So the
    remembered records are always the stored ones, even after a kill. Times are timestamps of batches. A repeated batch
    has the same timestamp, and so the same copies.

    Rows of other topics, such as those that `load` has stored, are not compared.

    Only batches make ids expire: an id is forgotten when a second batch begins that is at least `remembered` later than
    the id's arrival. So no id expires while no records arrive or no stream runs.
    """

    def __init__(self, store: FleetStore, query: str, contract: Contract, remembered: timedelta) -> None:
        """contract: of the table, one of ARRIVED."""
        schema = store.record_schema
        self._topic = schema.outcomes_topic if contract.name == tables.OUTCOMES.name else schema.events_topic
        self._directory, self._arrived = store.directory(contract), ARRIVED[contract.name]
        self._query, self._location, self._remembered = query, store.checkpoint(query), remembered
        self._recent: RecentIds | None = None

    def are_new(self, ids: IdHashes, batch_id: int) -> Mask:
        """Return whether each record of a batch is new, not a copy, shape (n,). The batch must not be stored yet.

        ids: in the order of the records in Kafka: of copies in one batch the first is new.
        """
        now = checkpoints.previous_start(self._location, batch_id)
        if self._recent is None:
            self._recent = self._stored(now)
        self._recent.forget(now)
        return ids.first_of_each() & ~self._recent.contain(ids)

    def add(self, ids: IdHashes, batch_id: int) -> None:
        """Remember the stored records of a batch. Call it after `are_new` of the same batch."""
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

        The files of the query's own commits are read as long as they exist, even if they have been merged since: a
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
