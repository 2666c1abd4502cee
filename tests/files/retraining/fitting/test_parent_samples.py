"""The rows of a parent whose groups have the same ids: the documentation asks for ids that are unique in a group."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from new_tables import create_tables

from schemas import tables
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.parent_row_lineage import ORIGIN
from spinney.core.training.training_set import TrainingSet, select_training_set
from spinney.retraining.fitting.parent_samples import PARENT, cut_samples, read_parent_rows
from spinney.retraining.fitting.training_row_reader import TrainingTables, shard_ranges
from spinney.storage.layout import FleetStore

CLOCK = datetime(2024, 5, 31, tzinfo=UTC)
ALL = "{}"
SHOPS, DAYS = 10, 20
INLINE = ('outcomes = "sold"\n', "")


def sold(day: int, shop: int, **values: Any) -> dict[str, Any]:
    """The sales of a shop on a day, whose id is the day."""
    key, at = keys.encode([f"s{shop}", 1]), CLOCK - timedelta(days=day + 1)
    row = {"group_key": key, "event_id": f"{at:%Y-%m-%d}", "event_time": at, "shop": f"s{shop}", "dept": 1}
    kafka = {"topic": "sales", "kafka_partition": 0, "kafka_offset": 0, "batch_id": 0}
    return row | kafka | {"price": float(shop), "sold": 1.0, "ingested_at": at, "ingested_on": at.date()} | values


def training_set(config: Config, most: int) -> TrainingSet:
    """The rows that the parent of all groups is fitted on, from samples of two shard ranges."""
    recipe = config.recipe.model_copy(update={"parents": config.recipe.parents.model_copy(update={"max_rows": most})})
    source = TrainingTables.of(FleetStore.of(config), recipe, {}, CLOCK)
    parts = [read_parent_rows(source, [ALL], shards)[0] for shards in shard_ranges(4, 2)]
    drawn = cut_samples(pa.concat_tables(parts), source.max_rows)
    rows = drawn.drop_columns([PARENT]).to_pandas().assign(group_key=ALL)
    assert ORIGIN in rows
    return select_training_set(rows, [ALL], Recipe.of(config), CLOCK)


@pytest.fixture(params=["late labels", "labels inside"])
def fleet(request, configured, put) -> Config:
    """Ten shops with one event a day for twenty days; the first shop's are stored twice."""
    is_late = request.param == "late labels"
    config = configured() if is_late else configured(INLINE)
    create_tables(FleetStore.of(config))
    events = [sold(day, shop) for day in range(DAYS) for shop in [*range(SHOPS), 0]]
    put(config, tables.EVENTS, events)
    if is_late:
        names = ("group_key", "event_id", "topic", "kafka_partition", "kafka_offset", "batch_id")
        labels = [{name: row[name] for name in names} for row in events]
        known = [row["event_time"] for row in events]
        put(
            config,
            tables.OUTCOMES,
            [{**label, "label": 1.0, "observed_at": at} for label, at in zip(labels, known, strict=True)],
        )
    return config


def test_events_of_several_groups_with_the_same_id_all_count_and_copies_do_not(fleet: Config) -> None:
    assert len(training_set(fleet, 100_000).times) == SHOPS * DAYS


def test_a_sample_is_of_many_days_and_shops_where_ids_are_days(fleet: Config) -> None:
    """Of 200 events 100 are drawn. Of a day or shop none is drawn with a chance below 0.1 %."""
    found = training_set(fleet, 100)
    assert len(found.times) == 100
    assert len(set(found.ids.tolist())) == DAYS
    prices = found.columns.numbers[:, 0].tolist()
    assert set(prices) == set(map(float, range(SHOPS)))
