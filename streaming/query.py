"""What the four queries have in common: a name, a plan, a checkpoint, a pool, and how they start and stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from spinney.core.config import Config
from spinney.spark.session import in_pool, with_required
from spinney.storage import checkpoints
from spinney.storage.layout import FleetStore
from streaming.clock import Clock, refuse_late, refuse_the_past, tolerance

Write = Callable[[DataFrame, int], None]


class Stopping(Exception):  # noqa: N818 - said as what is so
    """A stop was asked for: raised before the first write of a batch, so that the batch is replayed whole."""


@dataclass(frozen=True)
class Query:
    """One streaming query before it runs.

    writes: given the id of the checkpoint, what to do with each batch. writing: held meanwhile, so that no one else in
    this process commits to the same directories.
    """

    name: str
    plan: DataFrame
    writes: Callable[[str], Write]
    trigger: str = "1 second"
    mode: str = "append"
    writing: threading.Lock = field(default_factory=threading.Lock)

    def start(self, config: Config, stopping: threading.Event, *, once: bool) -> StreamingQuery:
        """Start it. once: work off what is there, then end.

        Raises StoreError: its checkpoint is not the one its tables were written from, or is dated in the future.
        """
        location = FleetStore.of(config).checkpoint(self.name)
        identity = checkpoints.identity(location)
        write = self.writes(identity)
        refuse_the_past(self.name, location, datetime.now(UTC), tolerance(config.kafka))
        checkpoints.keep(location, identity)
        clock = Clock(self.name, tolerance(config.kafka))

        def each(batch: DataFrame, batch_id: int) -> None:
            if stopping.is_set():
                raise Stopping
            refuse_late(self.name, location, checkpoints.begun(location, batch_id))
            clock.check()
            with self.writing:
                write(batch, batch_id)

        writer = (
            self.plan.writeStream.queryName(self.name)
            .outputMode(self.mode)
            .option("checkpointLocation", location)
            .foreachBatch(each)
        )
        writer = writer.trigger(availableNow=True) if once else writer.trigger(processingTime=self.trigger)
        with in_pool(with_required(self.plan.sparkSession), self.name):
            return writer.start()
