"""What a running stream writes down of its topics, from progress as Spark reports it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pyspark.sql.streaming.listener import SourceProgress

from spinney.storage.layout import FleetStore
from spinney.storage.reported_offsets import read_seen_offsets
from streaming.latest_offset_reporting import OffsetReporter
from streaming.progress import ProgressListener

KAFKA = "KafkaV2[Subscribe[sales]]"


def batch(latest: object, description: str = KAFKA) -> Any:
    """The progress of a batch as Spark's JSON has it."""
    rates = {"inputRowsPerSecond": 0.0, "processedRowsPerSecond": 0.0, "numInputRows": 0}
    offsets = {"startOffset": None, "endOffset": None, "latestOffset": latest}
    delta = {"description": "DeltaSource[/tables/promotions]", "latestOffset": {"reservoirId": "r"}}
    kafka = {**offsets, **rates, "description": description}
    sources = [SourceProgress.fromJson(each) for each in (kafka, {**kafka, **delta})]
    return SimpleNamespace(name="score", sources=sources)


@pytest.fixture
def store(configured) -> FleetStore:
    return FleetStore.of(configured())


def test_the_ends_of_topics_are_written_at_most_every_two_seconds_and_the_next_event_makes_up_for_it(store) -> None:
    now = [0.0]
    reporter = OffsetReporter(store, lambda: now[0])
    for at, latest, expected in ((0.0, 5, 5), (1.9, 7, 5), (2.0, 8, 8)):
        now[0] = at
        reporter.receive(batch({"sales": {"0": latest}}))
        seen = read_seen_offsets(store, "score")
        assert seen is not None
        assert seen.ends == {"sales": {"0": expected}}
    before, now[0] = seen.seen_at, 12.0
    reporter.still_current("score")
    assert before < read_seen_offsets(store, "score").seen_at <= datetime.now(UTC)


@pytest.mark.parametrize("progress", [batch(None), batch({}), batch({"sales": {"0": 5}}, "MemoryStream[x]")])
def test_nothing_is_written_of_a_source_that_is_no_topic_or_has_no_offset(store, progress) -> None:
    reporter = OffsetReporter(store)
    reporter.receive(progress)
    reporter.still_current("score")
    assert read_seen_offsets(store, "score") is None


def test_a_query_is_idle_by_name_and_only_in_its_own_run() -> None:
    idle: list[str] = []
    listener, run = ProgressListener(idle=idle.append), uuid4()
    listener.onQueryStarted(SimpleNamespace(runId=run, name="score"))  # type: ignore[arg-type]
    for each in (run, uuid4()):
        listener.onQueryIdle(SimpleNamespace(runId=each))  # type: ignore[arg-type]
    assert idle == ["score"]
