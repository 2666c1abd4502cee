"""The query `ingest`: Kafka → events, outcomes, dead_letters."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import FleetStore
from spinney.tables.delta import DirectoryWriter
from spinney.tables.row_writing import ARRIVED_AT, KIND, REPORT_DDL, RowWriting, TargetTable, WrittenRows
from streaming import kafka_source
from streaming.copies import RecentRecords
from streaming.kafka_source import coalesce_locally
from streaming.query import Query
from streaming.validated_records import DEAD_LETTER_COLUMNS, KEY, UNKNOWN_FIELDS, VALUE, Editions

NAME = QueryName.INGEST.value
TRIGGER = "5 seconds"
"""Longer than that of `score`: predictions are needed within seconds, rows of tables are not."""

STEPS: tuple[tuple[str, str, Contract], ...] = (
    ("events", kafka_source.EVENT, tables.EVENTS),
    ("outcomes", kafka_source.OUTCOME, tables.OUTCOMES),
    ("dead_letters", kafka_source.DEAD, tables.DEAD_LETTERS),
)
"""The writes of a batch, in order: step, KIND of the rows, table."""


def query(spark: SparkSession, config: Config, editions: Editions) -> Query:
    """Return the query `ingest`, in append mode.

    In: records of the events and outcomes topics. Out: validated records: KIND, which says the table, and the columns
    of `validate_records`. It has no state in Spark. Reports the metric `arrivals`: all records, and the unknown fields
    in them. editions: of the rules for valid records.

    The tasks that compute the rows also write the files; the driver drops copies of records and commits them.
    """
    rows = kafka_source.read_events(spark, config.record_schema, config.kafka, editions)
    late = kafka_source.read_outcomes(spark, config.record_schema, config.kafka, editions)
    if late is not None:
        rows = rows.unionByName(late, allowMissingColumns=True)
        rows = coalesce_locally(rows)
    # Bytes are stored of dead letters only: those of valid rows need not reach the worker.
    rows = rows.withColumns({name: F.when(F.col(KIND) == kafka_source.DEAD, F.col(name)) for name in (KEY, VALUE)})
    rows = rows.observe("arrivals", F.count(F.lit(1)).alias("records"), F.sum(UNKNOWN_FIELDS).alias("unknown_fields"))
    return Query(
        NAME, rows, lambda checkpoint: IngestBatchWriter(config, checkpoint), trigger=TRIGGER, former_operators=(0,)
    )


class IngestBatchWriter:
    """Writes the distinct rows of each KIND to their table, except steps that an earlier attempt has stored.

    A record is a copy if one with its group and id was stored within `kafka.duplicates_within`. Dead letters have no
    copies: each is a record of its own.
    """

    def __init__(self, config: Config, checkpoint: str) -> None:
        store = FleetStore.of(config)
        directories = {step: store.directory(contract) for step, _, contract in STEPS}
        self._writers = {step: DirectoryWriter(directory, NAME, checkpoint) for step, directory in directories.items()}
        renamed = {"dead_letters": DEAD_LETTER_COLUMNS}
        self._targets = {
            step: TargetTable(
                local_folder(directory.uri), directory.contract, renamed.get(step, {}), has_ids=step not in renamed
            )
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
        report = self._stored_columns(batch).mapInArrow(writing.write, REPORT_DDL).toArrow()
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

    def _stored_columns(self, batch: DataFrame) -> DataFrame:
        targets = self._targets.values()
        stored = {target.source_names.get(name, name) for target in targets for name in target.contract.names}
        return batch.select(*(name for name in batch.columns if name in {KIND, ARRIVED_AT, *stored}))
