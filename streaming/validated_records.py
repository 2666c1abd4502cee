"""Records of a topic as typed, validated rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf

from schemas import messages
from schemas.contract import Contract
from spinney.core.config import RecordSchema
from spinney.core.internal_column_names import internal_name, quote_identifier
from spinney.core.records.rules import RecordRules, build_rules
from spinney.storage.charter import Edition
from streaming.record_validation import RESULT_DDL, RecordValidator, value_ddl

RECORD_COLUMNS = ("key", "value", "topic", "kafka_partition", "kafka_offset", "record_time")
"""The columns of a source, as in Kafka. record_time is the record's own timestamp."""

REASON, DETAIL, FIELD = map(internal_name, ("reason", "detail", "field"))
"""Internal columns beside those that a fleet declares."""

Editions = Sequence[Edition]

_RESULT = internal_name("validated")


def group_key_sql(group: Sequence[str], of: str = "") -> str:
    """Return the canonical key as SQL, equal to `spinney.core.keys.encode`. of: a table alias with its dot."""
    return f"to_json(array({', '.join(f'CAST({of}`{name}` AS STRING)' for name in group)}))"


def shard_sql(shards: int, key: str = "group_key") -> str:
    """Return the shard of a key as SQL, equal to `spinney.core.keys.shard_of`."""
    return f"CAST(pmod(xxhash64({key}), {shards}L) AS INT)"


def validate_events(records: DataFrame, schema: RecordSchema, editions: Editions = ()) -> DataFrame:
    """Return the records of the events topic, validated and with typed columns.

    records: RECORD_COLUMNS; other columns are kept. editions: the validation settings by offset; without them the
    settings of the configuration apply.

    Columns: topic, kafka_partition, kafka_offset, REASON (null: valid), DETAIL, FIELD, shard, group_key, event_id,
    event_time and the declared columns.
    """
    extra_columns = [name for name in records.columns if name not in RECORD_COLUMNS]
    validated = _with_results(records, edition_rules(schema, messages.EVENT, editions), editions)
    typed = validated.selectExpr(
        *("topic", "kafka_partition", "kafka_offset", *(f"`{name}`" for name in extra_columns)),
        *(f"{_RESULT}.{name} AS {internal_name(name)}" for name in ("reason", "detail", "field")),
        *(
            f"{_RESULT}.value.{quote_identifier(field)} AS `{name}`"
            for name, field in stored_fields(schema, messages.EVENT).items()
        ),
    )
    return typed.selectExpr("*", f"{group_key_sql(schema.fleet.group)} AS group_key").selectExpr(
        "*", f"{shard_sql(schema.fleet.shards)} AS shard"
    )


def edition_rules(schema: RecordSchema, message: Contract, editions: Editions) -> tuple[RecordRules, ...]:
    """Return the rules of each edition; without editions those of the configuration."""
    rules = (build_rules(schema, message, edition.settings, edition.originals) for edition in editions)
    return tuple(rules) or (build_rules(schema, message),)


def stored_fields(schema: RecordSchema, message: Contract) -> dict[str, str]:
    """Return column of a stored row -> field of the validated message."""
    fleet = schema.fleet
    if message is messages.OUTCOME:
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
    arguments = (F.expr(sql) for sql in ("value", "unix_micros(record_time)", edition_index_sql(editions)))
    # Nondeterministic, so that no rule of the optimiser repeats or moves it.
    return records.select("*", validate.asNondeterministic()(*arguments).alias(_RESULT))


def edition_index_sql(editions: Editions) -> str:
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
