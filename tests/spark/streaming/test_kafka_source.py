"""A record's own columns on their way from Kafka to the tables, which may have any other name."""

from __future__ import annotations

from spinney.core.config.cross_checks import RESERVED_NAMES
from spinney.core.internal_column_names import is_internal_name
from spinney.tables.row_writing import ARRIVED_AT
from streaming import kafka_source


def test_every_column_that_stands_beside_a_fleets_own_is_a_name_that_no_fleet_may_use(spark, configured) -> None:
    config = configured()
    own = {*config.fleet.columns, config.fleet.event_time}
    found = {*kafka_source.read_events(spark, config.record_schema, config.kafka, ()).columns} - own
    assert {name for name in found if not is_internal_name(name)} <= RESERVED_NAMES


def test_the_records_of_both_topics_have_what_their_rows_are_made_of(spark, configured) -> None:
    config = configured()
    records = kafka_source.read_unvalidated(spark, config.record_schema, config.kafka, ())
    assert dict(records.dtypes) == {
        "key": "binary",
        "value": "binary",
        "topic": "string",
        "kafka_partition": "int",
        "kafka_offset": "bigint",
        ARRIVED_AT: "timestamp",
        "record_us": "bigint",
        "edition": "int",
    }
