"""Records of a topic as typed, validated rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf

from schemas import messages
from spinney.core.config import RecordSchema
from spinney.core.internal_column_names import internal_name, quote_identifier
from spinney.core.records.rules import RecordRules, build_rules
from spinney.storage.charter import Edition
from streaming.record_validation import RESULT_DDL, RecordValidator, value_ddl

RECORD_COLUMNS = ("key", "value", "topic", "kafka_partition", "kafka_offset", "record_time")
"""The columns of a source, as in Kafka. record_time is the record's own timestamp."""

KEY, VALUE, RECORD_TIME = map(internal_name, ("key", "value", "record_time"))
REASON, DETAIL, FIELD, UNKNOWN_FIELDS = map(internal_name, ("reason", "detail", "field", "unknown_fields"))
"""Internal columns beside those that a fleet declares."""

DEAD_LETTER_COLUMNS = {"key": KEY, "value": VALUE, "reason": REASON, "detail": DETAIL, "field": FIELD}
"""Columns of `dead_letters` that have another name in a validated row."""

Editions = Sequence[Edition]

_EDITION, _RESULT = map(internal_name, ("edition", "validated"))


def group_key_sql(group: Sequence[str], of: str = "") -> str:
    """Return the canonical key as SQL, equal to `spinney.core.keys.encode`. of: a table alias with its dot."""
    return f"to_json(array({', '.join(f'CAST({of}`{name}` AS STRING)' for name in group)}))"


def shard_sql(shards: int, key: str = "group_key") -> str:
    """Return the shard of a key as SQL, equal to `spinney.core.keys.shard_of`."""
    return f"CAST(pmod(xxhash64({key}), {shards}L) AS INT)"


def validate_records(records: DataFrame, schema: RecordSchema, *, outcomes: bool, editions: Editions = ()) -> DataFrame:
    """The records of one topic, validated and with typed columns.

    records: RECORD_COLUMNS, and others that are kept. editions: the validation settings by offset; without them those
    of the configuration apply.

    Returns topic, kafka_partition, kafka_offset, KEY, VALUE, RECORD_TIME, REASON (null: valid), DETAIL, FIELD,
    UNKNOWN_FIELDS, shard, group_key, event_id and, of an event, event_time and the declared columns, of an outcome,
    label and observed_at.
    """
    message = messages.OUTCOME if outcomes else messages.EVENT
    rules = [build_rules(schema, message, edition.settings, edition.originals) for edition in editions]
    rules = rules or [build_rules(schema, message)]
    extra_columns = [name for name in records.columns if name not in RECORD_COLUMNS]
    validated = _with_results(records, rules, editions)
    typed = validated.selectExpr(
        f"key AS {KEY}",
        f"value AS {VALUE}",
        f"record_time AS {RECORD_TIME}",
        *("topic", "kafka_partition", "kafka_offset", *(f"`{name}`" for name in extra_columns)),
        *(f"{_RESULT}.{name} AS {internal_name(name)}" for name in ("reason", "detail", "field")),
        f"{_RESULT}.unknown_fields AS {UNKNOWN_FIELDS}",
        *(
            f"{_RESULT}.value.{quote_identifier(field)} AS `{name}`"
            for name, field in _message_columns(schema, outcomes=outcomes).items()
        ),
    )
    return typed.selectExpr("*", f"{group_key_sql(schema.fleet.group)} AS group_key").selectExpr(
        "*", f"{shard_sql(schema.fleet.shards)} AS shard"
    )


def _message_columns(schema: RecordSchema, *, outcomes: bool) -> dict[str, str]:
    """Return column of a validated row -> column of the message."""
    fleet = schema.fleet
    if outcomes:
        named = {"event_id": fleet.event_id, "label": fleet.target, "observed_at": "observed_at"}
        return named | {name: name for name in fleet.group}
    return {
        "event_id": fleet.event_id,
        "event_time": fleet.event_time,
        **{name: name for name in schema.event_columns},
    }


def _with_results(records: DataFrame, rules: Sequence[RecordRules], editions: Editions) -> DataFrame:
    """Return the records with the column _RESULT. rules: of each edition."""
    as_udf: Any = arrow_udf  # PySpark's stubs know no functions of iterators of tuples
    validate = as_udf(RecordValidator(tuple(rules)).function(), RESULT_DDL.format(value_ddl(rules[-1].fields)))
    arguments = (F.expr(sql) for sql in ("value", "unix_micros(record_time)", _edition_index_sql(editions)))
    # Nondeterministic, so that no rule of the optimiser repeats or moves it.
    return records.select("*", validate.asNondeterministic()(*arguments).alias(_RESULT))


def _edition_index_sql(editions: Editions) -> str:
    """Return, as SQL, the index of the edition that applies to a record: the last one whose first offset it has
    reached.
    """
    cases = " ".join(f"WHEN {_is_at_or_after_sql(editions[at])} THEN {at}" for at in range(len(editions) - 1, 0, -1))
    return f"CASE {cases} ELSE 0 END" if cases else "0"


def _is_at_or_after_sql(edition: Edition) -> str:
    """Return, as SQL, whether a record has reached the offset from which this edition applies."""
    cases = " ".join(
        f"WHEN topic = '{topic}' AND kafka_partition = {partition} THEN {offset}L"
        for topic, partitions in edition.since.items()
        for partition, offset in partitions.items()
    )
    return f"kafka_offset >= CASE {cases} ELSE 0L END" if cases else "true"
