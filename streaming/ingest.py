"""Kafka → events, outcomes, dead_letters: validated records, written by the tasks that have the rows."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.storage.atomic_files import folder
from spinney.storage.layout import FleetStore
from spinney.tables.delta import Writer
from spinney.tables.row_writing import ARRIVED_AT, KIND, REPORT_DDL, RowWriting, Target, actions
from streaming import source
from streaming.query import Query
from streaming.validated_records import DEAD_LETTER_COLUMNS, KEY, UNKNOWN_FIELDS, VALUE, Editions

NAME = QueryName.INGEST.value
TRIGGER = "5 seconds"
"""Nobody waits for the tables within seconds, as readers of predictions do: the cores are for the answers first."""

STEPS: tuple[tuple[str, str, Contract], ...] = (
    ("events", source.EVENT, tables.EVENTS),
    ("outcomes", source.OUTCOME, tables.OUTCOMES),
    ("dead_letters", source.DEAD, tables.DEAD_LETTERS),
)
"""The writes of a batch, in order: step, the rows' kind, table."""


def query(spark: SparkSession, config: Config, editions: Editions) -> Query:
    rows = source.events(spark, config, editions)
    late = source.outcomes(spark, config, editions)
    if late is not None:
        rows = rows.unionByName(late, allowMissingColumns=True)
    # Only a dead letter's bytes are stored: those of valid rows would go through shuffles for nothing.
    rows = rows.withColumns({name: F.when(F.col(KIND) == source.DEAD, F.col(name)) for name in (KEY, VALUE)})
    rows = rows.observe("arrivals", F.count(F.lit(1)).alias("records"), F.sum(UNKNOWN_FIELDS).alias("unknown_fields"))
    rows = source.distinct(rows, config)
    return Query(NAME, rows, lambda checkpoint: Batches(config, checkpoint), trigger=TRIGGER)


class Batches:
    """Writes each batch: the rows of a kind to their table. A step that is stored already is not written again."""

    def __init__(self, config: Config, checkpoint: str) -> None:
        places = {step: FleetStore.of(config).directory(contract) for step, _, contract in STEPS}
        self._writers = {step: Writer(place, NAME, checkpoint) for step, place in places.items()}
        named = {"dead_letters": DEAD_LETTER_COLUMNS}
        self._targets = {
            step: Target(folder(place.uri), place.contract, named.get(step, {})) for step, place in places.items()
        }

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        open_steps = [(step, kind) for step, kind, _ in STEPS if not self._writers[step].done(step, batch_id)]
        writing = RowWriting({kind: self._targets[step] for step, kind in open_steps}, batch_id)
        # Always computed: the state of duplicates advances with it.
        report = self._needed(batch).mapInArrow(writing.write, REPORT_DDL).toArrow()
        for step, kind in open_steps:
            if files := actions(report, kind):
                self._writers[step].append_files(files, step=step, batch_id=batch_id)

    def _needed(self, batch: DataFrame) -> DataFrame:
        targets = self._targets.values()
        wanted = {KIND, ARRIVED_AT} | {each.named.get(name, name) for each in targets for name in each.contract.names}
        return batch.select(*(name for name in batch.columns if name in wanted))
