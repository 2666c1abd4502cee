"""The rows that `ingest` stores of the records of its topics, computed in Spark's Python workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinney.core import keys
from spinney.tables.row_writing import ARRIVED_AT
from streaming.record_validation import RecordValidator

DEAD = "dead"
"""The kind of the rows of records that are not valid."""

POSITION = ("topic", "kafka_partition", "kafka_offset", ARRIVED_AT)
"""Columns of a record that its row has unchanged."""


@dataclass(frozen=True)
class TopicRows:
    """Makes the rows of one topic's records. It is pickled and sent to Spark's workers.

    kind: kind of the rows of valid records. fields: column of a row -> field of the validated message. group: names of
    the key columns.
    """

    kind: str
    validator: RecordValidator
    fields: Mapping[str, str]
    group: tuple[str, ...]
    shards: int

    def rows(self, records: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        """Yield the kind and the rows of the valid records, then those of the rejected records; nothing for a kind
        without rows.

        records: key, value, record_us (the record's time, microseconds), edition (index of the validation rules) and
        POSITION. The row of a valid record has shard, group_key, the columns of `fields` and POSITION. The row of a
        rejected record has the columns of `dead_letters`.
        """
        arguments = (records.column(name).combine_chunks() for name in ("value", "record_us", "edition"))
        results = self.validator.validate(*arguments)
        reason = results.field("reason")
        if reason.null_count:
            valid = pc.is_null(reason)
            yield self.kind, self._valid_rows(records.filter(valid), results.filter(valid).field("value"))
        if reason.null_count < len(reason):
            dead = pc.is_valid(reason)
            yield DEAD, _dead_rows(records.filter(dead), results.filter(dead))

    def _valid_rows(self, records: pa.Table, values: pa.StructArray) -> pa.Table:
        by_column = {name: values.field(field) for name, field in self.fields.items()}
        key_columns = (by_column[name].to_pylist() for name in self.group)
        group_keys = [keys.encode(texts) for texts in zip(*key_columns, strict=True)]
        shards = np.fromiter((keys.shard_of(key, self.shards) for key in group_keys), np.int32, len(group_keys))
        position = {name: records.column(name) for name in POSITION}
        return pa.table({"shard": shards, "group_key": pa.array(group_keys, pa.string()), **by_column, **position})


def _dead_rows(records: pa.Table, results: pa.StructArray) -> pa.Table:
    said = {name: results.field(name) for name in ("reason", "detail", "field")}
    kept = records.select(["key", "value", *POSITION])
    return pa.table({**dict(zip(kept.column_names, kept.columns, strict=True)), **said})


@dataclass(frozen=True)
class StoredRows:
    """Makes the rows of the records of several topics.

    It is pickled and sent to Spark's workers. by_topic: topic -> its rows.
    """

    by_topic: Mapping[str, TopicRows]

    def of(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.Table]]:
        """Yield the rows of all batches, with their kind."""
        for batch in batches:
            records = pa.Table.from_batches([batch])
            topics = pc.unique(batch.column("topic")).to_pylist()
            for topic in topics:
                is_alone = len(topics) == 1
                of_topic = records if is_alone else records.filter(pc.equal(records.column("topic"), topic))
                yield from self.by_topic[topic].rows(of_topic)
