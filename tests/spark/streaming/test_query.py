from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import functions as F

from spinney.core.errors import StoreError
from spinney.spark.session import sibling_session
from spinney.spark.task_errors import error_summary
from streaming.progress import ProgressListener
from streaming.query import Query, RunningQuery, StopRequested


@pytest.fixture
def start(spark, configured, tmp_path) -> Callable[..., RunningQuery]:
    """Starts a query over three rows that writes its only batch by the given function."""
    config = configured()
    spark.range(3).write.parquet(str(tmp_path / "rows"))

    def started(write: Any, progress: ProgressListener, *, stops: bool = False, session: Any = spark) -> RunningQuery:
        rows = session.readStream.schema("id long").parquet(str(tmp_path / "rows"))
        plan = rows.observe("arrivals", F.count(F.lit(1)).alias("records"))
        stop_requested = threading.Event()
        if stops:
            stop_requested.set()
        query = Query("probe", plan, lambda _: lambda batch, batch_id: write(query, batch))
        return query.start(config, stop_requested, progress, once=True)

    return started


def test_a_query_lets_no_one_else_commit_while_it_writes_a_batch_and_only_then(start) -> None:
    seen, queries = [], []

    def write(query: Query, batch: Any) -> None:
        seen.append((batch.count(), query.write_lock.locked()))
        queries.append(query)

    start(write, ProgressListener()).wait()
    assert seen == [(3, True)]
    assert not queries[0].write_lock.locked()


def test_progress_is_complete_once_a_query_has_ended_also_in_a_session_of_its_own(spark, start) -> None:
    received = []
    progress = ProgressListener(received.append)
    query = start(lambda query, batch: batch.collect(), progress, session=sibling_session(spark, no_data_batches=False))
    query.wait()
    assert query.error() is None
    assert progress.wait_until_complete("probe", 60)
    assert [(each.batchId, each.observedMetrics["arrivals"]["records"]) for each in received] == [(0, 3)]
    assert progress.latest("probe").numInputRows == 3
    progress.detach()


def test_what_ended_a_query_is_known_by_its_type(start) -> None:
    def refuse(query: Query, batch: Any) -> None:
        raise StoreError("two\nlines")

    def refuse_in_a_task(query: Query, batch: Any) -> None:
        def raising(batches: Any) -> Any:
            raise StoreError("the disk is full")

        batch.mapInArrow(raising, "id long").collect()

    progress = ProgressListener()
    errors = []
    for write, stops in ((refuse, True), (refuse, False), (refuse_in_a_task, False)):
        query = start(write, progress, stops=stops)
        query.wait()
        errors.append(query.error())
    progress.detach()
    stopped, refused, failed = errors
    assert isinstance(stopped, StopRequested)
    assert isinstance(refused, StoreError)
    assert not isinstance(failed, StoreError)
    assert [error_summary(error) for error in (refused, failed)] == ["two\nlines", "the disk is full"]
