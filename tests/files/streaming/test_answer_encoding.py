"""Answers on their way from a worker to the driver."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from schemas import tables
from spinney.storage.layout import FleetStore
from streaming.answer_encoding import answer_schema, decode_answers, encode_answers

AT = datetime(2024, 5, 1, 23, 59, 59, 500_000, tzinfo=UTC)
SAME = {"shard": 3, "topic": "t", "scored_at": AT, "scored_on": AT.date()}


def row(**values: object) -> dict[str, object]:
    found = {"group_key": '["a"]', "event_id": "e", "event_time": -1, "prediction": 1.5, "label": None}
    found |= {"model_id": "m", "answered_by": "own", "kafka_partition": 1, "kafka_offset": 2**40}
    return found | values


def through(config, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    schema = answer_schema(FleetStore.of(config))
    (value,) = encode_answers(dict(pd.DataFrame(rows)), SAME, schema)
    return decode_answers([pa.py_buffer(value), pa.py_buffer(value)], schema).to_pylist()


def test_the_driver_reads_what_the_worker_answered(configured) -> None:
    """Two shards with the same rows. Not a number is null in `predictions`; a column that is not filled is null."""
    config = configured()
    nobody = row(prediction=np.nan, model_id=None, answered_by="none", lower=np.nan)
    found = through(config, [row(lower=1.0), nobody])
    assert found[:2] == found[2:]
    assert list(found[0]) == [
        name for name in FleetStore.of(config).contract(tables.PREDICTIONS).names if name != "batch_id"
    ]
    first = row(lower=1.0, upper=None, probabilities=None, **SAME)
    first["event_time"] = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert found[0] == first
    assert found[1] == {**first, "prediction": None, "model_id": None, "answered_by": "none", "lower": None}


def test_classes_and_their_probabilities_arrive_in_order(configured) -> None:
    config = configured(
        ('target = "sold"', 'target = "sold"\ntask = "classification"'), ('sold = "double"', 'sold = "string"')
    )
    rows = [
        row(prediction="b", probabilities={"b": 0.75, "a": 0.25}, label="a"),
        row(prediction=None, probabilities=None),
    ]
    found = through(config, rows)
    assert [each["prediction"] for each in found[:2]] == ["b", None]
    assert [each["label"] for each in found[:2]] == ["a", None]
    assert [each["probabilities"] for each in found[:2]] == [[("b", 0.75), ("a", 0.25)], None]


def test_a_large_shard_is_divided_and_keeps_its_order(configured) -> None:
    schema = answer_schema(FleetStore.of(configured()))
    rows = pd.DataFrame([row()] * 25_001).assign(kafka_offset=range(25_001))
    values = list(encode_answers(dict(rows), SAME, schema))
    found = decode_answers(map(pa.py_buffer, values), schema)
    assert [batch.num_rows for batch in found.to_batches()] == [10_000, 10_000, 5_001]
    assert found["kafka_offset"].to_pylist() == list(range(25_001))
    assert sum(map(len, values)) < 1.5 * found.nbytes
