"""A record's own columns on their way from Kafka to the tables, which may have any other name."""

from __future__ import annotations

from spinney.core.config.cross_checks import RESERVED_NAMES
from spinney.core.internal_column_names import is_internal_name
from streaming import kafka_source


def test_every_column_that_stands_beside_a_fleets_own_is_a_name_that_no_fleet_may_use(spark, configured) -> None:
    config = configured()
    events, outcomes = (
        kafka_source.read_events(spark, config.record_schema, config.kafka, ()),
        kafka_source.read_outcomes(spark, config.record_schema, config.kafka, ()),
    )
    own = {*config.fleet.columns, config.fleet.event_time}
    found = {name for rows in (events, outcomes) for name in rows.columns} - own
    assert {name for name in found if not is_internal_name(name)} <= RESERVED_NAMES
