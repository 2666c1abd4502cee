"""The closed lists: every value that a coded column may hold."""

from __future__ import annotations

from enum import StrEnum


class DeadLetterReason(StrEnum):
    """Why a record was rejected. Decided from the record alone, never from when it is read."""

    NULL_VALUE = "null_value"  # a tombstone
    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    DUPLICATE_FIELD = "duplicate_field"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"  # absent or null where a value is required
    NULL_KEY = "null_key"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    EMPTY_ID = "empty_id"
    ID_TOO_LONG = "id_too_long"
    CONTROL_CHARACTER = "control_character"
    OUT_OF_RANGE = "out_of_range"
    TIME_OUT_OF_RANGE = "time_out_of_range"  # before 1970, or over an hour after the record's own timestamp


class AnsweredBy(StrEnum):
    """Which model answered."""

    OWN = "own"
    PARENT = "parent"
    GLOBAL = "global"
    NONE = "none"


class ModelStatus(StrEnum):
    """Result of one attempt to fit."""

    FITTED = "fitted"
    FAILED = "failed"
    TOO_FEW_ROWS = "too_few_rows"
    TIMED_OUT = "timed_out"


class Decision(StrEnum):
    """Decision about a challenger, or of a person about a champion."""

    PROMOTED = "promoted"
    UNPROVEN = "unproven"  # promoted on too little evidence to be sure
    KEPT = "kept"  # the same rows as the champion's: nothing to fit
    HELD = "held"  # the group is pinned, its predictions jump, or the round is halted: the champion stays
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    PINNED = "pinned"


class Staleness(StrEnum):
    """The decision of a verdict."""

    FIT = "fit"
    DEFERRED = "deferred"
    HELD = "held"
    REFUSED = "refused"
    FRESH = "fresh"


RESERVED_POLICIES = (
    "new_group", "error_rise", "new_rows", "row_days", "max_age", "schedule", "no_labels", "drift", "all", "asked",
    "manual",
)  # fmt: skip
"""Values of `verdicts.policy` that no policy of a user's may have."""

MANUAL = "manual"
"""The value of `verdicts.policy` for a group that a person asked the stream to retrain."""


class RoundQueue(StrEnum):
    """Which queue of a round's budget took a group."""

    RANK = "rank"  # by expected gain
    OLDEST = "oldest"  # stale longest
    RANDOM = "random"  # drawn from all due groups
    BRAKE = "brake"  # the brake's sample
    REQUEST = "request"  # asked for by a person, before all others


class RoundKind(StrEnum):
    """Which process runs a round: the query `retrain` or the weekly batch."""

    STREAM = "stream"
    BATCH = "batch"


MACHINES = frozenset(RoundKind)
"""Values of `promotions.by` for decisions that no person made."""


class QueryName(StrEnum):
    """Processes that write tables."""

    INGEST = "ingest"
    SCORE = "score"
    LABELS = "labels"
    RETRAIN = "retrain"
    WEEKLY = "weekly"  # the batch
    LOAD = "load"


STREAMING = (QueryName.INGEST, QueryName.SCORE, QueryName.LABELS, QueryName.RETRAIN)
"""The four streaming queries, in the order in which records flow."""


class Scope(StrEnum):
    """A scope of an API key: the calls to the gateway that it allows."""

    READ = "read"  # status of groups, rounds and dead letters
    SCORE = "score"  # predictions
    OPERATE = "operate"  # retrain, promote, roll back, pin and unpin under the key's name


PREDECESSOR = "predecessor"
"""Key in the numbers of a verdict `fit`: the model that would answer if the champion were withdrawn. Its value has two
fields: `model_id`, and `since`, the fleet's clock at the last attempt in microseconds.
"""

ALSO = "also"
"""Key in the numbers of a verdict: the policies that apply besides the one that gives the reason."""

ESTIMATED = "estimated"
"""Value of `recipe.pooling_rows`: the number of rows that a parent's model counts as is estimated from the fleet's
rows.
"""
