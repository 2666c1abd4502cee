"""The query `ingest`: Kafka → events, outcomes, dead_letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import messages, tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.core.config import Config, RecordSchema
from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import FleetStore
from spinney.tables.delta import DirectoryWriter
from spinney.tables.row_writing import REPORT_DDL, RowWriting, TargetTable, WrittenRows
from streaming import kafka_source
from streaming.duplicate_records import RecentRecords
from streaming.ingest_rows import DEAD, StoredRows, TopicRows
from streaming.query import Query
from streaming.record_validation import RecordValidator
from streaming.validated_records import Editions, edition_rules, stored_fields

NAME = QueryName.INGEST.value
TRIGGER = "5 seconds"
"""Interval between batches. It is longer than that of `score`: predictions are needed within seconds, rows of tables
are not.
"""

EVENT, OUTCOME = "event", "outcome"

STEPS: tuple[tuple[str, str, Contract], ...] = (
    ("events", EVENT, tables.EVENTS),
    ("outcomes", OUTCOME, tables.OUTCOMES),
    ("dead_letters", DEAD, tables.DEAD_LETTERS),
)
"""The writes of a batch, in order: step, kind of the rows, table."""


def query(spark: SparkSession, config: Config, editions: Editions) -> Query:
    """Return the query `ingest`, in append mode.

    In: records of the events and outcomes topics. Out: the same records, with the index of the edition that applies to
    each. It has no state in Spark. Reports the metric `arrivals`: their number. editions: of the rules for valid
    records.

    One function validates the records and writes the files, so that a task needs one Python worker. The driver drops
    copies of records and commits the files.
    """
    records = kafka_source.read_unvalidated(spark, config.record_schema, config.kafka, editions)
    records = records.observe("arrivals", F.count(F.lit(1)).alias("records"))
    rows = stored_rows(config.record_schema, editions)
    return Query(
        NAME,
        records,
        lambda checkpoint: IngestBatchWriter(config, rows, checkpoint),
        trigger=TRIGGER,
        former_operators=(0,),
    )


def stored_rows(schema: RecordSchema, editions: Editions) -> StoredRows:
    """Return the function object that makes the rows to store of records, by topic.

    editions: of the rules for valid records.
    """

    def of_topic(kind: str, message: Contract) -> TopicRows:
        validator = RecordValidator(edition_rules(schema, message, editions))
        fields = stored_fields(schema, message)
        return TopicRows(kind, validator, fields, schema.fleet.group, schema.fleet.shards)

    by_topic = {schema.events_topic: of_topic(EVENT, messages.EVENT)}
    if schema.outcomes_topic is not None:
        by_topic[schema.outcomes_topic] = of_topic(OUTCOME, messages.OUTCOME)
    return StoredRows(by_topic)


class IngestBatchWriter:
    """Writes the distinct rows of each kind to their table, except steps that an earlier attempt has stored.

    A record is a copy if a record with the same group and id was stored within `kafka.duplicates_within`. Dead letters
    are never dropped as copies.
    """

    def __init__(self, config: Config, rows: StoredRows, checkpoint: str) -> None:
        store = FleetStore.of(config)
        self._rows = rows
        directories = {step: store.directory(contract) for step, _, contract in STEPS}
        self._writers = {step: DirectoryWriter(directory, NAME, checkpoint) for step, directory in directories.items()}
        self._targets = {
            step: TargetTable(local_folder(directory.uri), directory.contract, has_ids=step != "dead_letters")
            for step, directory in directories.items()
        }
        self._recent = {
            step: RecentRecords(store, NAME, contract, config.kafka.duplicates_within)
            for step, _, contract in STEPS
            if self._targets[step].has_ids
        }

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write a batch, except what an earlier attempt at it has stored."""
        open_steps = [(step, kind) for step, kind, _ in STEPS if not self._writers[step].is_stored(step, batch_id)]
        writing = RowWriting({kind: self._targets[step] for step, kind in open_steps}, batch_id)
        # Computed even if all is already stored, for its metrics.
        report = batch.mapInArrow(_writes(self._rows, writing), REPORT_DDL).toArrow()
        for step, kind in open_steps:
            self._commit(WrittenRows.of(report, kind, self._targets[step]), step, batch_id)

    def _commit(self, written: WrittenRows, step: str, batch_id: int) -> None:
        recent = self._recent.get(step)
        if recent is not None and len(written.ids) and not recent.are_new(written.ids, batch_id).all():
            written = written.without_copies(lambda ids: recent.are_new(ids, batch_id))
        if written.files:
            self._writers[step].append_files(written.add_actions(), step=step, batch_id=batch_id)
        if recent is not None:
            recent.add(written.ids, batch_id)


def _writes(rows: StoredRows, writing: RowWriting) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function that Spark runs in a task.

    It refers to no object of the driver, so that it can be pickled.
    """
    return lambda batches: writing.write(rows.of(batches))
