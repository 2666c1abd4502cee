from __future__ import annotations

import pytest

from schemas import messages, tables
from spinney.core.records.fleet_message_contracts import message_contract
from spinney.storage import layout
from spinney.storage.layout import FleetStore


def test_a_table_of_several_writers_is_several_directories(configured) -> None:
    config = configured(root="/data/shops/")
    assert [(each.name, each.uri) for each in FleetStore.of(config).directories(tables.MODELS)] == [
        ("models/stream", "/data/shops/tables/models/stream"),
        ("models/batch", "/data/shops/tables/models/batch"),
        ("models/people", "/data/shops/tables/models/people"),
    ]
    assert FleetStore.of(config).directory(tables.EVENTS).uri == "/data/shops/tables/events"
    assert FleetStore.of(config).checkpoint("score") == "/data/shops/checkpoints/score"


def test_every_directory_has_a_place_of_its_own(configured) -> None:
    uris = [each.uri for each in FleetStore.of(configured()).every_directory()]
    # events, outcomes, dead_letters, incumbent, predictions; health, verdicts, rounds twice; models, promotions thrice.
    assert len(uris) == len(set(uris)) == 5 + 3 * 2 + 2 * 3
    with pytest.raises(KeyError, match="table rounds has no directory 'people'"):
        FleetStore.of(configured()).directory(tables.ROUNDS, "people")


def test_the_declared_columns_stand_after_the_time_of_an_event(configured) -> None:
    names = FleetStore.of(configured()).contract(tables.EVENTS).names
    at = names.index("event_time")
    # The label comes late here, so `sold` is a column of outcomes only.
    assert names[: at + 1] == ("shard", "group_key", "event_id", "event_time")
    assert [name for name in names[at + 1 :] if name in ("shop", "dept", "price", "brand", "sold")] == [
        "shop", "dept", "price", "brand",
    ]  # fmt: skip


def test_a_message_has_the_fleets_own_names_and_what_must_not_be_null(configured) -> None:
    event = message_contract(configured().record_schema, messages.EVENT)
    assert event.names[:2] == ("sale", "at")
    assert set(event.names[2:]) == {"shop", "dept", "price", "brand"}
    outcome = message_contract(configured().record_schema, messages.OUTCOME)
    assert outcome.names == ("sale", "shop", "dept", "sold", "observed_at")
    never_null = [{column.name for column in each.columns if not column.nullable} for each in (event, outcome)]
    assert never_null == [{"sale", "at", "shop", "dept"}, set(outcome.names)]
    assert outcome.column("sold").type == "double"


def test_a_label_has_the_type_of_the_target_and_an_answer_that_of_the_task(configured) -> None:
    numbers = configured(('sold = "double"', 'sold = "int"'))
    assert FleetStore.of(numbers).contract(tables.OUTCOMES).column("label").type == "int"
    assert FleetStore.of(numbers).contract(tables.PREDICTIONS).column("label").type == "double"
    classes = configured(
        ('sold = "double"', 'sold = "string"'), ("[fleet.columns]", 'task = "classification"\n[fleet.columns]')
    )
    assert FleetStore.of(classes).contract(tables.OUTCOMES).column("label").type == "string"
    assert {
        FleetStore.of(classes).contract(tables.PREDICTIONS).column(name).type for name in ("prediction", "label")
    } == {"string"}
    incumbents = [FleetStore.of(config).contract(tables.INCUMBENT) for config in (numbers, classes)]
    assert [contract.column("prediction").type for contract in incumbents] == ["double", "string"]


def test_the_time_as_a_feature_is_read_from_where_it_is_stored(configured) -> None:
    config = configured(('features = ["price", "brand"]', 'features = ["at", "price"]'))
    assert layout.feature_sources(config.fleet) == {"at": "event_time", "price": "price"}
    plain = configured(
        ('event_time = "at"', 'event_time = "event_time"'), ('["price", "brand"]', '["event_time", "price"]')
    )
    assert layout.feature_sources(plain.fleet) == {"price": "price"}  # its time stands there already, under that name


def test_what_may_have_been_a_feature_once_is_every_column_but_the_label(configured) -> None:
    columns = ("event_time AS `at`", "`shop`", "`dept`", "`price`", "`brand`")
    assert layout.possible_features(FleetStore.of(configured())) == columns
    assert layout.possible_features(FleetStore.of(configured(('outcomes = "sold"', "")))) == columns
