"""What a batch of score writes, and writes again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from started_batches import start_batch

from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by
from streaming import score
from streaming.answer_encoding import DDL, answer_schema, encode_answers
from streaming.score import ScoreBatchWriter

AT = datetime(2024, 5, 2, tzinfo=UTC)
A = '["a","1"]'


class Crash(Exception):  # noqa: N818 - said as what is so
    """The process ends here."""


def answered(spark, fleet, model_id: str, prediction: float, *ids: str):
    """Events of A, answered by this model, as a worker returns them; the last one came first."""
    ids = ids or ("e",)
    row = {
        "group_key": A, "event_time": int(AT.timestamp()) * 1_000_000, "prediction": prediction, "label": 5.0,
        "model_id": model_id, "answered_by": "own", "kafka_partition": 0,
    }  # fmt: skip
    columns = {name: [value] * len(ids) for name, value in row.items()}
    columns |= {"event_id": list(ids), "kafka_offset": list(range(len(ids)))[::-1]}
    same = {"shard": 0, "topic": "sales", "scored_at": AT, "scored_on": AT.date()}
    schema = answer_schema(FleetStore.of(fleet.config))
    (value,) = encode_answers(columns, same, schema)
    return spark.createDataFrame([(bytearray(value),)], DDL)


def test_a_replay_counts_the_answers_that_are_stored_and_not_those_of_an_edited_configuration(
    spark, world, monkeypatch
) -> None:
    fleet = world()
    start_batch(FleetStore.of(fleet.config), "score", 3, AT)

    def crash(name: str, batch_id: int) -> None:
        if name == "score.predictions":
            raise Crash

    with observed_by(crash), pytest.raises(Crash):
        ScoreBatchWriter(fleet.config, "c1")(answered(spark, fleet, "own", 4.0), 3)
    published = []
    monkeypatch.setattr(score, "publish_answers", lambda *_: published.append("again"))
    to_kafka = fleet.config.kafka.model_copy(update={"predictions": "answers"})
    again = fleet.config.model_copy(update={"kafka": to_kafka})
    ScoreBatchWriter(again, "c1")(answered(spark, fleet, "parents", 1.0), 3)
    (stored,) = fleet.rows(tables.PREDICTIONS)
    assert (stored["model_id"], stored["prediction"]) == ("own", 4.0)
    counted = [(row["model_id"], row["rows"], row["loss"]) for row in fleet.rows(tables.HEALTH) if row["group_key"]]
    assert counted == [("own", 1, 1.0)]
    assert published == []
    ticks = [row["last_event_time"] for row in fleet.rows(tables.HEALTH) if row["group_key"] is None]
    assert ticks == [AT] * 4  # one a shard


def test_a_fleets_own_columns_stand_beside_those_of_promotions(spark, configured, world) -> None:
    own = ('price = "double"\n', 'price = "double"\npayload = "double"\nepoch = "date"\n')
    fleet = world(own, ('["price", "stock"]', '["payload", "epoch"]'))
    names = score.query(spark, fleet.config, fleet.signer, ()).plan.columns
    assert names == ["answers"]


def test_a_worker_gets_times_as_whole_numbers_however_far_they_lie(spark) -> None:
    rows = spark.sql(
        """SELECT * FROM VALUES
        (1, TIMESTAMP '9999-12-31 23:59:59.999999Z', DATE '9999-12-31'),
        (2, TIMESTAMP '0001-01-01 00:00:00Z', DATE '0001-01-01'), (3, NULL, NULL) AS t(`event id`, `valid to`, born)"""
    )
    found = score.times_as_microseconds(rows).orderBy("event id").toArrow()
    never = -(2**63)
    assert found["valid to"].to_pylist() == [253_402_300_799_999_999, -62_135_596_800_000_000, never]
    assert found["born"].to_pylist() == [253_402_214_400_000_000, -62_135_596_800_000_000, never]
    assert found["event id"].to_pylist() == [1, 2, 3]


def test_a_copy_of_an_event_is_neither_published_nor_stored_nor_counted(spark, world, monkeypatch) -> None:
    fleet = world()
    store, published = FleetStore.of(fleet.config), []
    monkeypatch.setattr(score, "publish_answers", lambda _, answers: published.append(answers["event_id"].to_pylist()))
    to_kafka = fleet.config.kafka.model_copy(update={"predictions": "answers"})
    config = fleet.config.model_copy(update={"kafka": to_kafka})
    for batch_id, ids in enumerate([("e", "f", "e"), ("f", "e"), ("g", "f")]):
        start_batch(store, "score", batch_id, AT)
        ScoreBatchWriter(config, "c1")(answered(spark, fleet, "own", 4.0, *ids), batch_id)
    stored = [(row["event_id"], row["batch_id"], row["kafka_offset"]) for row in fleet.rows(tables.PREDICTIONS)]
    assert sorted(stored) == [("e", 0, 0), ("f", 0, 1), ("g", 2, 1)]
    assert [sorted(ids) for ids in published] == [["e", "f"], ["g"]]
    assert sum(row["rows"] for row in fleet.rows(tables.HEALTH) if row["group_key"]) == 3
