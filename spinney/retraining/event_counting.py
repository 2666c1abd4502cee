"""Count the events of each group when a round is planned, so that a fit that reads fewer fails the round."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.vocabulary import Staleness
from spinney.retraining.fitting import training_row_reader
from spinney.retraining.fitting.training_row_reader import TrainingTables
from spinney.spark.arrow_frames import frame_of_table

EVENTS = "events"
"""Key in a verdict's numbers: the number of events in the window of its group when the round was planned."""


@dataclass(frozen=True)
class EventCounter:
    """Adds EVENTS to the numbers of verdicts whose groups are to be fitted. tables: the tables that the round reads."""

    tables: TrainingTables

    def add_to_table(self, verdicts: pa.Table) -> pa.Table:
        """Add the key EVENTS to the JSON of `numbers`, for groups to be fitted that lack it.

        verdicts: with the columns group_key, decision and numbers.
        """
        numbers = [json.loads(text or "{}") for text in verdicts.column("numbers").to_pylist()]
        to_fit = pc.equal(verdicts.column("decision"), Staleness.FIT.value).to_pylist()
        uncounted = [at for at, is_due in enumerate(to_fit) if is_due and EVENTS not in numbers[at]]
        if not uncounted:
            return verdicts
        keys = verdicts.column("group_key").to_pylist()
        counts = training_row_reader.events_per_key(self.tables, [keys[at] for at in uncounted])
        for at in uncounted:
            numbers[at][EVENTS] = counts[keys[at]]
        texts = pa.array([json.dumps(members, separators=(",", ":")) for members in numbers], pa.string())
        return verdicts.set_column(verdicts.column_names.index("numbers"), "numbers", texts)

    def add_to_frame(self, verdicts: DataFrame) -> DataFrame:
        """Do for a Spark frame what `add_to_table` does. Only the keys of the groups to fit are collected."""
        is_due = F.col("decision") == Staleness.FIT.value
        keys = verdicts.filter(is_due).select("group_key").toArrow().column("group_key").to_pylist()
        if not keys:
            return verdicts
        counts = training_row_reader.events_per_key(self.tables, keys)
        columns = {"group_key": pa.array(counts, pa.string()), f"#{EVENTS}": pa.array(counts.values(), pa.int64())}
        counted = frame_of_table(verdicts.sparkSession, pa.table(columns))
        # An object with at least one member, as the judge writes it.
        numbers = F.expr(f"concat(left(numbers, length(numbers) - 1), ',\"{EVENTS}\":', `#{EVENTS}`, '}}')")
        both = verdicts.join(F.broadcast(counted), "group_key", "left")
        return both.withColumn("numbers", F.when(is_due, numbers).otherwise(F.col("numbers"))).drop(f"#{EVENTS}")
