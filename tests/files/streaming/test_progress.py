"""What a listener collects, from events as Spark sends them."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from streaming.progress import ProgressListener


def started(run: UUID, name: str) -> Any:
    return SimpleNamespace(runId=run, name=name)


def batch(run: UUID, batch_id: int) -> Any:
    return SimpleNamespace(progress=SimpleNamespace(runId=run, batchId=batch_id))


def test_the_latest_progress_is_kept_by_query() -> None:
    listener, ingest, score = ProgressListener(), uuid4(), uuid4()
    listener.onQueryStarted(started(ingest, "ingest"))
    listener.onQueryStarted(started(score, "score"))
    for event in (batch(ingest, 0), batch(score, 0), batch(ingest, 1)):
        listener.onQueryProgress(event)
    assert listener.latest("ingest").batchId == 1  # type: ignore[union-attr]
    assert listener.latest("score").batchId == 0  # type: ignore[union-attr]
    assert listener.latest("labels") is None


def test_the_progress_of_a_run_that_began_before_is_ignored() -> None:
    received: list[Any] = []
    listener, before, now = ProgressListener(received.append), uuid4(), uuid4()
    listener.onQueryStarted(started(now, "ingest"))
    listener.onQueryProgress(batch(before, 8))
    listener.onQueryTerminated(SimpleNamespace(runId=before))  # type: ignore[arg-type]
    listener.onQueryProgress(batch(now, 0))
    assert [progress.batchId for progress in received] == [0]
    assert not listener.wait_until_complete("ingest", 0)


def test_the_progress_is_complete_once_the_query_has_terminated_and_at_once_for_one_that_never_ran() -> None:
    listener, run = ProgressListener(), uuid4()
    assert listener.wait_until_complete("score", 0)
    listener.onQueryStarted(started(run, "score"))
    thread = threading.Timer(0.05, listener.onQueryTerminated, [SimpleNamespace(runId=run)])
    thread.start()
    assert listener.wait_until_complete("score", 60)
    thread.join()
