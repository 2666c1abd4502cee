"""The lag of a query, from its checkpoint and from what its stream has seen."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spinney.storage.layout import FleetStore
from spinney.storage.reported_offsets import SeenOffsets, TopicLag, read_lag, write_seen_offsets

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
DELTA = '{"sourceVersion":1,"reservoirId":"r","reservoirVersion":4,"index":-1,"isStartingVersion":false}'


@pytest.fixture
def store(configured) -> FleetStore:
    return FleetStore.of(configured())


def put_batch(store: FleetStore, batch_id: int, *sources: str, has_ended: bool = True) -> None:
    for log in ("offsets", "commits") if has_ended else ("offsets",):
        file = Path(store.checkpoint("score")) / log / str(batch_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(["v1", '{"batchTimestampMs":0}', *sources]))


def sales(*offsets: int) -> str:
    return json.dumps({"sales": {str(partition): offset for partition, offset in enumerate(offsets)}})


def test_the_lag_is_what_the_stream_has_seen_beyond_the_newest_batch_that_has_ended(store) -> None:
    put_batch(store, 6, sales(10, 20), DELTA)
    put_batch(store, 7, sales(12, 20), DELTA)
    assert read_lag(store, "score") == (TopicLag("sales", 0, None),), "no stream has reported an end"
    write_seen_offsets(store, "score", SeenOffsets(AT, {"sales": {"0": 15, "1": 21}}))
    assert read_lag(store, "score") == (TopicLag("sales", 3 + 1, AT),)


def test_a_batch_that_has_begun_and_not_ended_counts_also_if_it_was_reported_by_nobody(store) -> None:
    put_batch(store, 6, sales(10, 20))
    put_batch(store, 7, sales(100, 20), has_ended=False)
    assert read_lag(store, "score") == (TopicLag("sales", 90, None),)
    write_seen_offsets(store, "score", SeenOffsets(AT, {"sales": {"0": 50, "1": 22}}))
    assert read_lag(store, "score") == (TopicLag("sales", 90 + 2, AT),)


def test_a_query_that_reads_no_topic_or_has_ended_no_batch_has_no_lag(store) -> None:
    assert read_lag(store, "score") == ()
    put_batch(store, 0, sales(5), has_ended=False)
    assert read_lag(store, "score") == ()
    put_batch(store, 0, DELTA, "-")
    assert read_lag(store, "score") == ()
