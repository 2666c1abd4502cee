"""The JSON messages. UTF-8 objects, keyed by group_key; an event holds the fleet's declared columns."""

from __future__ import annotations

from schemas.contract import Column, Contract

MAX_RECORD_BYTES = 1 << 20
"""A larger value is a dead letter (``too_large``)."""

MAX_ID_CHARACTERS = 512
"""Of an event_id and of each key column."""

MAX_FUTURE_SECONDS = 3600
"""How far an event_time may run ahead of its record's own Kafka timestamp."""

PREDICTION = Contract(
    "prediction",
    "One per scored event, on the predictions topic. At least once: a replayed copy is equal byte for byte.",
    (
        Column("event_id", "string", "the event's id", nullable=False),
        Column("group_key", "string", "the event's group", nullable=False),
        Column("event_time", "timestamp", "the event's time", nullable=False),
        Column("prediction", "double", "the answer; null where nobody answered; a string for classification"),
        Column("lower", "double", "lower end of the interval"),
        Column("upper", "double", "upper end of the interval"),
        Column("probabilities", "map<string,double>", "class to probability; null for regression"),
        Column("model_id", "string", "the model that answered"),
        Column("answered_by", "string", "own, parent, global, none", nullable=False),
        Column("scored_at", "timestamp", "the batch's timestamp", nullable=False),
    ),
)
