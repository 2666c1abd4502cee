"""Write the rows of a spool to its table in one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake.transaction import AddAction

from batch.load import parquet_writer
from batch.load.deduplication import Merger
from batch.load.group_numbers import GroupNumbers
from batch.load.incumbent_answers import ANSWER
from batch.load.spool import Spool
from batch.load.vectorized_validation import GROUP, PLACE
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter

NAME = QueryName.LOAD.value

Show = Callable[[int, int], None]


@dataclass(frozen=True)
class Target:
    """A table to write. time: the column by which a group's rows are sorted; None keeps their order."""

    contract: Contract
    topic: str
    time: str | None


class TableWriter:
    """Writes spools, each in one commit. groups: the groups of all rows. moment: the time of this load."""

    def __init__(self, store: FleetStore, groups: GroupNumbers, moment: datetime) -> None:
        self._store = store
        self._moment = moment
        self._merger = Merger(groups)
        self._of_groups = {
            **dict(zip(store.fleet.group, groups.columns(), strict=True)),
            "shard": pa.array(groups.shards()),
            "group_key": groups.keys(),
        }

    def store(self, spool: Spool, target: Target, answered: Spool | None, show: Show) -> int:
        """Append the rows that the table does not have; return their number.

        answered: receives every distinct row with an answer, whether its event is stored already or not. show: called
        with the number of rows written so far and the number of rows in the spool.
        """
        place = self._store.directory(target.contract)
        writer = DirectoryWriter(place, NAME, NAME)
        last = writer.last_commit(NAME)
        batch_id = last.batch_id + 1 if last else 0
        partition = {name: self._moment.date() for name in place.contract.partitioned_by}
        stamps = {"topic": target.topic, "kafka_partition": 0, "ingested_at": self._moment, "batch_id": batch_id}
        added: list[AddAction] = []
        rows = 0
        for action, count in _write_ahead(
            lambda part: parquet_writer.write(
                local_folder(place.uri), self._finished(part, place.contract, stamps, partition), partition
            ),
            self._slices(spool, target, self._stored_table(target), answered),
        ):
            added.append(action)
            rows += count
            show(rows, spool.rows)
        if added:
            writer.append_files(added, step=NAME, batch_id=batch_id)
        return rows

    def _stored_table(self, target: Target) -> ds.Dataset | None:
        table = delta.open_table(self._store.directory(target.contract))
        return delta.open_dataset(table) if table is not None and table.file_uris() else None

    def _slices(
        self, spool: Spool, target: Target, stored_table: ds.Dataset | None, answered: Spool | None
    ) -> Iterator[pa.Table]:
        for given in spool.ranges():
            rows = given if target.time is None else self._merger.distinct(given, target.time)
            if answered is not None:
                answered.add(rows.filter(rows[ANSWER].is_valid()))
            rows = self._merger.missing(rows, stored_table)
            order = self._merger.order(rows, target.time)
            for start in range(0, len(order), parquet_writer.FILE_ROWS):
                yield rows.take(pa.array(order[start : start + parquet_writer.FILE_ROWS]))

    def _finished(
        self, rows: pa.Table, contract: Contract, stamps: Mapping[str, Any], partition: Mapping[str, date]
    ) -> pa.Table:
        """Return the rows with all columns of the table except its partition columns."""
        fields = [field for field in arrow_schema(contract) if field.name not in partition]
        columns = []
        for field in fields:
            if field.name in self._of_groups:
                columns.append(self._of_groups[field.name].take(rows[GROUP].combine_chunks()))
            elif field.name == "kafka_offset":
                columns.append(rows[PLACE])
            elif field.name in stamps:
                columns.append(pa.repeat(pa.scalar(stamps[field.name], field.type), rows.num_rows))
            else:
                columns.append(rows[field.name])
        return pa.table(columns, schema=pa.schema(fields))


def _write_ahead(write: Callable[[pa.Table], AddAction], parts: Iterator[pa.Table]) -> Iterator[tuple[AddAction, int]]:
    """Yield the result of `write` and the number of rows of each part. A thread writes one part while the next is
    computed.
    """
    with ThreadPoolExecutor(1) as pool:
        running: Future[AddAction] | None = None
        count = 0
        for part in parts:
            if running is not None:
                yield running.result(), count
            running, count = pool.submit(write, part), part.num_rows
        if running is not None:
            yield running.result(), count
