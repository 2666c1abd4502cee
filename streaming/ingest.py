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
from spinney.tables.row_writing import ARRIVED_AT, KIND, REPORT_DDL, RowWriting, TargetTable, add_actions
from streaming import kafka_source
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

    In: records of the events and outcomes topics. Out: distinct validated records: KIND, which says the table,
    and the columns of `validate_records`. State: ids of `kafka.duplicates_within`. Reports the metric `arrivals`: all
    records, and the unknown fields in them. editions: of the rules for valid records.

    The tasks that compute the rows also write the files; the driver commits them.
    """
    rows = kafka_source.read_events(spark, config.record_schema, config.kafka, editions)
    late = kafka_source.read_outcomes(spark, config.record_schema, config.kafka, editions)
    if late is not None:
        rows = rows.unionByName(late, allowMissingColumns=True)
    # Bytes are stored of dead letters only: those of valid rows need not pass the shuffle.
    rows = rows.withColumns({name: F.when(F.col(KIND) == kafka_source.DEAD, F.col(name)) for name in (KEY, VALUE)})
    rows = rows.observe("arrivals", F.count(F.lit(1)).alias("records"), F.sum(UNKNOWN_FIELDS).alias("unknown_fields"))
    rows = kafka_source.drop_duplicates(rows, config.kafka)
    return Query(NAME, rows, lambda checkpoint: IngestBatchWriter(FleetStore.of(config), checkpoint), trigger=TRIGGER)


class IngestBatchWriter:
    """Writes the rows of each KIND to their table, except steps that an earlier attempt at the batch has stored."""

    def __init__(self, store: FleetStore, checkpoint: str) -> None:
        directories = {step: store.directory(contract) for step, _, contract in STEPS}
        self._writers = {step: DirectoryWriter(directory, NAME, checkpoint) for step, directory in directories.items()}
        renamed = {"dead_letters": DEAD_LETTER_COLUMNS}
        self._targets = {
            step: TargetTable(local_folder(directory.uri), directory.contract, renamed.get(step, {}))
            for step, directory in directories.items()
        }

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write a batch, except what an earlier attempt at it has stored."""
        open_steps = [(step, kind) for step, kind, _ in STEPS if not self._writers[step].is_stored(step, batch_id)]
        writing = RowWriting({kind: self._targets[step] for step, kind in open_steps}, batch_id)
        # Computed even if all is already stored: the state of duplicates must advance.
        report = self._stored_columns(batch).mapInArrow(writing.write, REPORT_DDL).toArrow()
        for step, kind in open_steps:
            if files := add_actions(report, kind):
                self._writers[step].append_files(files, step=step, batch_id=batch_id)

    def _stored_columns(self, batch: DataFrame) -> DataFrame:
        targets = self._targets.values()
        stored = {target.source_names.get(name, name) for target in targets for name in target.contract.names}
        return batch.select(*(name for name in batch.columns if name in {KIND, ARRIVED_AT, *stored}))
