"""Common base of the four queries: a name, a plan, a checkpoint, a pool, start and stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from spinney.core.config import Config
from spinney.spark.session import apply_required_settings, in_pool
from spinney.storage import checkpoints
from spinney.storage.layout import FleetStore
from streaming.clock_checks import (
    ClockJumpCheck,
    clock_tolerance,
    refuse_clock_behind_checkpoint,
)
from streaming.progress import ProgressListener

WriteBatch = Callable[[DataFrame, int], None]


class StopRequested(Exception):  # noqa: N818 - not an error: it ends the query before the batch is written
    """Raised before the first write of a batch after a stop was requested. The next start repeats the whole batch."""


@dataclass(frozen=True)
class Query:
    """One streaming query before it runs.

    batch_writer: takes the id of the checkpoint, and returns the function that writes each batch. trigger: interval
    between batches, in Spark's syntax. output_mode: Spark's. former_operators: numbers of stateful operators that only
    earlier versions of the query had; their state is removed from the checkpoint, since Spark would refuse it.
    write_lock: held while a batch is written, so that no other thread of this process commits to the same directories.
    """

    name: str
    plan: DataFrame
    batch_writer: Callable[[str], WriteBatch]
    trigger: str = "1 second"
    output_mode: str = "append"
    former_operators: tuple[int, ...] = ()
    write_lock: threading.Lock = field(default_factory=threading.Lock)

    def start(
        self, config: Config, stop_requested: threading.Event, progress: ProgressListener, *, once: bool
    ) -> RunningQuery:
        """Start the query. once: process the available data, then end. progress: listens to it from its first batch.

        Raises:
            StoreError: the checkpoint is not the one that the tables were written from, or is dated in the future.
        """
        location = FleetStore.of(config).checkpoint(self.name)
        identity = checkpoints.query_id(location)
        write = self.batch_writer(identity)
        refuse_clock_behind_checkpoint(self.name, location, datetime.now(UTC), clock_tolerance(config.kafka))
        checkpoints.write_query_id(location, identity)
        for operator in self.former_operators:
            checkpoints.remove_state(location, operator)
        clock = ClockJumpCheck(self.name, clock_tolerance(config.kafka))
        batches = _GuardedBatches(self, write, clock, stop_requested)
        writer = (
            self.plan.writeStream.queryName(self.name)
            .outputMode(self.output_mode)
            .option("checkpointLocation", location)
            .foreachBatch(batches)
        )
        writer = writer.trigger(availableNow=True) if once else writer.trigger(processingTime=self.trigger)
        progress.attach(self.plan.sparkSession)
        with in_pool(apply_required_settings(self.plan.sparkSession), self.name):
            return RunningQuery(writer.start(), batches)


@dataclass
class _GuardedBatches:
    """Writes batches unless a stop was requested or the clock is wrong.

    Spark passes on only the traceback text of a Python exception, so `error` keeps the exception itself.
    """

    query: Query
    write: WriteBatch
    clock: ClockJumpCheck
    stop_requested: threading.Event
    error: Exception | None = None

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        try:
            self._write(batch, batch_id)
        except Exception as error:
            self.error = error
            raise

    def _write(self, batch: DataFrame, batch_id: int) -> None:
        if self.stop_requested.is_set():
            raise StopRequested
        self.clock.check()
        with self.query.write_lock:
            self.write(batch, batch_id)


@dataclass(frozen=True)
class RunningQuery:
    """A query that was started. spark_query: Spark's own handle of it."""

    spark_query: StreamingQuery
    _batches: _GuardedBatches

    @property
    def is_active(self) -> bool:
        """Whether the query has not ended yet."""
        return self.spark_query.isActive

    @property
    def is_in_batch(self) -> bool:
        """Whether a batch is being processed."""
        return bool(self.spark_query.status["isTriggerActive"])

    def error(self) -> Exception | None:
        """Return the exception that ended the query: the one of its batch function, else Spark's; None if it did not
        fail.
        """
        failure = self.spark_query.exception()
        return None if failure is None else self._batches.error or failure

    def wait(self) -> None:
        """Wait until the query has ended. Raises nothing: `error` says why it ended."""
        with suppress(PySparkException):
            self.spark_query.awaitTermination()

    def stop(self) -> None:
        """End the query at once, even in the middle of a batch."""
        self.spark_query.stop()
