"""The JSON messages: UTF-8 objects, keyed by group_key. Each fleet adds its own field names and columns."""

from __future__ import annotations

from schemas.contract import Column, Contract

MAX_RECORD_BYTES = 1 << 20
"""Largest value of a record in bytes. A larger one is a dead letter (``too_large``)."""

MAX_ID_CHARACTERS = 512
"""Largest number of characters in an event_id or a key column."""

MAX_FUTURE_SECONDS = 3600
"""Longest time that an event_time may be ahead of its record's own Kafka timestamp."""

EVENT = Contract(
    "event",
    "One per event, on the events topic. The id and the time have the names that the fleet gives them. Then come the "
    "fleet's declared columns, including the target if no topic of outcomes is configured. Columns of the group are "
    "never null.",
    (
        Column(
            "event_id", "string", "the producer's id or a hash of the event, unique within its group", nullable=False
        ),
        Column("event_time", "timestamp", "time of the event, ISO 8601", nullable=False),
    ),
)

OUTCOME = Contract(
    "outcome",
    "One per late label, on the outcomes topic. The id has the name that the fleet gives it. Then come the columns of "
    "the group and the target, none of them null.",
    (
        Column("event_id", "string", "the event's id", nullable=False),
        Column("observed_at", "timestamp", "when the label became known, ISO 8601", nullable=False),
    ),
)

PREDICTION = Contract(
    "prediction",
    "One per scored event, on the predictions topic. At least once: a replayed copy is equal byte for byte.",
    (
        Column("event_id", "string", "the event's id", nullable=False),
        Column("group_key", "string", "the event's group", nullable=False),
        Column("event_time", "timestamp", "the event's time", nullable=False),
        Column("prediction", "double", "the answer; null if no model answered; a string for classification"),
        Column(
            "lower",
            "double",
            "lower end of the interval around the prediction; null if unbounded, and for classification",
        ),
        Column(
            "upper",
            "double",
            "upper end of the interval around the prediction; null if unbounded, and for classification",
        ),
        Column("probabilities", "map<string,double>", "class to probability; null for regression"),
        Column("model_id", "string", "the model that answered; null if none did"),
        Column("answered_by", "string", "own, parent, global, none", nullable=False),
        Column("scored_at", "timestamp", "the batch's timestamp", nullable=False),
    ),
)
