from __future__ import annotations

from schemas import messages


def test_a_prediction_names_its_event_and_who_answered() -> None:
    required = {column.name for column in messages.PREDICTION.columns if not column.nullable}
    assert required == {"event_id", "group_key", "event_time", "answered_by", "scored_at"}


def test_the_bounds_of_a_record_are_those_of_the_design() -> None:
    assert messages.MAX_RECORD_BYTES == 1_048_576
    assert messages.MAX_ID_CHARACTERS == 512
    assert messages.MAX_FUTURE_SECONDS == 3_600, "one hour after the record's own Kafka timestamp"
