"""Whether a drain would find anything to do, told from checkpoints written by hand as Spark writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from schemas.contract import Contract
from spinney.core.config import parse
from spinney.core.errors import Busy, StoreError
from spinney.kafka import topic_ids, topic_metadata
from spinney.kafka.topic_metadata import Topic, TopicExtent
from spinney.storage import leases
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import RetrainRequest, add_request, remove_requests
from spinney.tables import lookup
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter
from spinney.tables.empty_append import append_no_rows
from spinney.tables.lookup import RowFilter
from spinney.tables.table_log import Append, read_appends
from streaming.pending_work import find_pending_work
from streaming.query_names import QUERY_NAMES, select_queries

A = '["a","1"]'
READ: dict[str, tuple[Contract, ...]] = {
    "ingest": (),
    "score": (tables.PROMOTIONS,),
    "labels": (tables.PREDICTIONS, tables.OUTCOMES),
    "retrain": (tables.HEALTH, tables.PROMOTIONS, tables.MODELS),
}
TOPICS = {"ingest": ("sales", "till"), "score": ("sales",), "labels": (), "retrain": ()}


@dataclass
class Fleet:
    """A fleet whose queries have read everything. ends: of the topics, by partition."""

    past: Past
    ends: dict[str, dict[str, int]]

    def unread(self, *only: str) -> str | None:
        return find_pending_work(self.past.config, select_queries(self.past.config, only))

    def drained(self, *names: str, batch: int = 4, ended: bool = True) -> None:
        """Each query has ended this batch, which read all that there is."""
        for name in names or QUERY_NAMES:
            sources: list[Any] = [{topic: self.ends[topic]} for topic in TOPICS[name]]
            self.write(name, [*sources, *self.delta(READ[name])], batch, ended=ended)

    def delta(self, read: Sequence[Contract]) -> list[dict[str, Any]]:
        places = [place for base in read for place in FleetStore.of(self.past.config).directories(base)]
        opened = [DeltaTable(place.uri) for place in places if place.name != "models/people"]
        return [offset(table, table.version() + 1) for table in opened]

    def write(self, name: str, sources: Sequence[Any], batch: int = 4, *, ended: bool = True) -> None:
        place = Path(FleetStore.of(self.past.config).checkpoint(name))
        reported = '{"batchWatermarkMs":1714550000000,"batchTimestampMs":1714557600000}'
        lines = ["v1", reported, *("-" if each is None else json.dumps(each) for each in sources)]
        for log, text in (("offsets", "\n".join(lines)), *([("commits", "v1\n{}")] if ended else [])):
            (place / log).mkdir(parents=True, exist_ok=True)
            (place / log / str(batch)).write_text(text)


def offset(table: DeltaTable, version: int, index: int = -1, *, first: bool = False) -> dict[str, Any]:
    return {
        "sourceVersion": 1,
        "reservoirId": str(table.metadata().id),
        "reservoirVersion": version,
        "index": index,
        "isStartingVersion": first,
    }


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    past = Past(parse(fleet_toml(tmp_path / "root", kafka='outcomes = "till"'), "fleet.toml", {}))
    past.round(1, {A: 2.0})
    made = Fleet(past, {"sales": {"0": 207, "1": 94}, "till": {"0": 0}})
    monkeypatch.setattr(
        topic_metadata,
        "require_topics",
        lambda config, names: {name: Topic(name, f"id of {name}", 1, frozenset()) for name in names},
    )
    monkeypatch.setattr(topic_metadata, "topic_extent", lambda config, topic: TopicExtent({}, made.ends[topic.name]))
    topic_ids.ensure_same(
        FleetStore.of(past.config),
        past.config.kafka,
        topic_metadata.require_topics(past.config.kafka, ["sales", "till"]),
    )
    made.drained()
    return made


def test_where_all_is_read_and_every_batch_has_ended_there_is_nothing_to_do(fleet: Fleet) -> None:
    assert fleet.unread() is None


@pytest.mark.parametrize("name", QUERY_NAMES)
def test_a_query_that_has_not_begun_has_something_to_do(fleet: Fleet, name: str) -> None:
    place = Path(FleetStore.of(fleet.past.config).checkpoint(name))
    place.rename(place.with_name("aside"))
    assert fleet.unread() == f"query {name} has not begun"
    assert fleet.unread(*(other for other in QUERY_NAMES if other != name)) is None


@pytest.mark.parametrize("name", QUERY_NAMES)
def test_a_batch_that_was_cut_off_is_done_again(fleet: Fleet, name: str) -> None:
    fleet.drained(name, batch=5, ended=False)
    assert fleet.unread() == f"query {name}: batch 5 has not ended"


@pytest.mark.parametrize(
    ("ends", "topic"),
    [
        ({"sales": {"0": 208, "1": 94}}, "sales"),
        ({"sales": {"0": 207, "1": 94, "2": 0}}, "sales"),  # a partition more
        ({"sales": {"0": 3, "1": 0}}, "sales"),  # less than was read: Spark says what that means
        ({"till": {"0": 1}}, "till"),
    ],
)
def test_a_topic_that_ends_elsewhere_has_to_be_read(fleet: Fleet, ends: dict[str, Any], topic: str) -> None:
    fleet.ends |= ends
    assert (fleet.unread() or "").startswith(f"topic {topic}: read by ingest up to ")


def test_score_may_be_behind_ingest(fleet: Fleet) -> None:
    fleet.ends["sales"] = {"0": 208, "1": 94}
    fleet.drained("ingest", batch=5)
    assert (fleet.unread() or "").startswith("topic sales: read by score up to ")
    assert fleet.unread("ingest") is None


def test_a_topic_that_was_made_again_is_refused_as_at_any_start(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        topic_metadata,
        "require_topics",
        lambda config, names: {name: Topic(name, "another", 1, frozenset()) for name in names},
    )
    monkeypatch.setattr(topic_ids, "explain_recreated", lambda store, kafka, topic: f"{topic.name} was made again")
    with pytest.raises(StoreError, match="sales was made again"):
        fleet.unread()


@pytest.mark.parametrize(
    ("base", "part", "query"),
    [
        (tables.PROMOTIONS, "people", "score"),
        (tables.PREDICTIONS, "", "labels"),
        (tables.OUTCOMES, "", "labels"),
        (tables.HEALTH, "labels", "retrain"),
        (tables.MODELS, "batch", "retrain"),
    ],
)
def test_rows_appended_since_have_to_be_read(fleet: Fleet, base: Contract, part: str, query: str) -> None:
    place = FleetStore.of(fleet.past.config).directory(base, part)
    version = DeltaTable(place.uri).version() + 1
    fleet.past.put(base, part, {"group_key": A, "model_id": "m", "decided_at": hour(2)})
    assert fleet.unread() == f"table {place.name}: version {version} is not read by {query}"


def test_a_request_to_retrain_a_group_is_something_to_do_for_retrain(fleet: Fleet) -> None:
    store = FleetStore.of(fleet.past.config)
    request = add_request(store, RetrainRequest.new(A, "ada", "why", hour(2)))
    assert fleet.unread() == "people have asked for 1 group to be retrained"
    assert fleet.unread("ingest", "score", "labels") is None
    remove_requests(store, [request.id])
    assert fleet.unread() is None


def test_a_file_without_rows_is_something_to_read_for_spark_only(fleet: Fleet) -> None:
    store = FleetStore.of(fleet.past.config)
    place = store.directory(tables.MODELS, "stream")
    before = lookup.count_rows(store, tables.MODELS)
    for _ in range(2):
        append_no_rows(place, "retrain", "c1")
    version = DeltaTable(place.uri).version() - 1
    assert fleet.unread() == f"table models/stream: version {version} is not read by retrain"
    assert lookup.count_rows(store, tables.MODELS) == before
    assert len(lookup.read_rows(store, tables.MODELS, ["group_key"], RowFilter.of_groups([A]))) == before


def test_tables_that_no_query_reads_may_grow(fleet: Fleet) -> None:
    fleet.past.put(tables.EVENTS, "", {"group_key": A, "event_id": "e", "event_time": hour(2)})
    fleet.past.put(tables.MODELS, "people", {"group_key": A, "model_id": "m"})
    assert fleet.unread() is None


def test_files_put_together_and_rows_forgotten_are_nothing_to_read(fleet: Fleet) -> None:
    for at in (2, 3):
        fleet.past.put(tables.PREDICTIONS, "", {"group_key": A, "event_id": str(at)})
    fleet.drained("labels", batch=5)
    table = DeltaTable(FleetStore.of(fleet.past.config).directory(tables.PREDICTIONS).uri)
    table.optimize.compact()
    table.delete("event_id = '2'")
    assert fleet.unread() is None


def test_a_source_that_has_given_nothing_yet_is_read_once_its_table_has_rows(fleet: Fleet) -> None:
    predictions, _ = fleet.delta(READ["labels"])
    fleet.write("labels", [predictions, None])
    assert fleet.unread() is None
    fleet.past.put(tables.OUTCOMES, "", {"group_key": A, "event_id": "e"})
    assert fleet.unread() == "table outcomes was empty when labels read it last"


def test_models_that_people_brought_are_nothing_to_read(fleet: Fleet) -> None:
    fleet.past.put(tables.MODELS, "people", {"group_key": A, "model_id": "m"})
    empty = str(DeltaTable(FleetStore.of(fleet.past.config).directory(tables.MODELS, "batch").uri).metadata().id)
    read = [None if each["reservoirId"] == empty else each for each in fleet.delta(READ["retrain"])]
    fleet.write("retrain", read)
    assert fleet.unread() is None


@pytest.mark.parametrize(("index", "first"), [(3, False), (-1, True)])
def test_a_version_that_is_read_in_part_is_not_read(fleet: Fleet, index: int, first: bool) -> None:
    table = DeltaTable(FleetStore.of(fleet.past.config).directory(tables.PREDICTIONS).uri)
    fleet.write("labels", [offset(table, 9, index, first=first), fleet.delta([tables.OUTCOMES])[0]])
    assert fleet.unread() == "table predictions: labels has read a part of version 9"


def test_what_cannot_be_found_out_is_left_to_spark(fleet: Fleet) -> None:
    place = FleetStore.of(fleet.past.config).directory(tables.PREDICTIONS)
    for at in range(2):
        fleet.past.put(tables.PREDICTIONS, "", {"group_key": A, "event_id": str(at)})
    DeltaTable(place.uri).create_checkpoint()
    (Path(place.uri) / "_delta_log" / f"{1:020d}.json").unlink()
    assert "cannot be found out without Spark" in (fleet.unread() or "")


def test_a_table_that_was_made_anew_is_left_to_spark(fleet: Fleet) -> None:
    table = DeltaTable(FleetStore.of(fleet.past.config).directory(tables.PREDICTIONS).uri)
    other = {**offset(table, 1), "reservoirId": "another"}
    fleet.write("labels", [other, fleet.delta([tables.OUTCOMES])[0]])
    assert fleet.unread() == "query labels has read a table that is none of the fleet's now"


def test_a_fleet_that_runs_elsewhere_is_busy_as_at_any_start(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(config: object, names: object) -> None:
        raise Busy("it runs")

    monkeypatch.setattr(leases, "held", busy)
    with pytest.raises(Busy, match="it runs"):
        fleet.unread()


def test_a_row_count_and_a_writer_are_read_from_a_commit_of_ours(fleet: Fleet) -> None:
    place = FleetStore.of(fleet.past.config).directory(tables.PREDICTIONS)
    before = DeltaTable(place.uri).version()
    rows = pa.Table.from_pylist([{"group_key": A, "event_id": str(at)} for at in range(3)])
    empty = arrow_schema(place.contract).empty_table()
    whole = pa.concat_tables([empty, rows], promote_options="default").select(empty.column_names)
    DirectoryWriter(place, "score", "c").append(whole, step="predictions", batch_id=7)
    (append,) = read_appends(place, before + 1, before + 1)
    assert replace(append, nulls={}) == Append(before + 1, "score", 7, 3)
