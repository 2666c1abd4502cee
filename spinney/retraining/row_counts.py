"""The plan counts what each fit will read, so that a fit that reads less fails its round instead of its groups."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.vocabulary import Staleness
from spinney.retraining import training_tables
from spinney.retraining.training_tables import TrainingTables

EVENTS = "events"
"""Among a verdict's numbers: how many events of the window its group had when the round was planned."""


@dataclass(frozen=True)
class EventCounting:
    """Adds EVENTS to the numbers of verdicts whose groups are to be fitted. tables: what the round will read."""

    tables: TrainingTables

    def in_rows(self, verdicts: pa.Table) -> pa.Table:
        """verdicts: group_key, decision and numbers among the columns. Numbers that have EVENTS stay."""
        numbers = [json.loads(text or "{}") for text in verdicts.column("numbers").to_pylist()]
        to_fit = pc.equal(verdicts.column("decision"), Staleness.FIT.value).to_pylist()
        lacking = [at for at, is_due in enumerate(to_fit) if is_due and EVENTS not in numbers[at]]
        if not lacking:
            return verdicts
        keys = verdicts.column("group_key").to_pylist()
        counts = training_tables.counts_of(self.tables, [keys[at] for at in lacking])
        for at in lacking:
            numbers[at][EVENTS] = counts[keys[at]]
        texts = pa.array([json.dumps(each, separators=(",", ":")) for each in numbers], pa.string())
        return verdicts.set_column(verdicts.column_names.index("numbers"), "numbers", texts)

    def in_frame(self, verdicts: DataFrame) -> DataFrame:
        """The same where the verdicts of a fleet stay in Spark. Only the keys of the groups to fit come here."""
        is_due = F.col("decision") == Staleness.FIT.value
        keys = verdicts.filter(is_due).select("group_key").toArrow().column("group_key").to_pylist()
        if not keys:
            return verdicts
        counts = list(training_tables.counts_of(self.tables, keys).items())
        counted = verdicts.sparkSession.createDataFrame(counts, f"group_key string, `#{EVENTS}` bigint")
        # An object with at least one member, as the judge writes it.
        numbers = F.expr(f"concat(left(numbers, length(numbers) - 1), ',\"{EVENTS}\":', `#{EVENTS}`, '}}')")
        both = verdicts.join(F.broadcast(counted), "group_key", "left")
        return both.withColumn("numbers", F.when(is_due, numbers).otherwise(F.col("numbers"))).drop(f"#{EVENTS}")
