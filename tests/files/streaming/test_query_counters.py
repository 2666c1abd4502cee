"""What queries did, from tables and checkpoints written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from schemas.contract import Contract
from spinney.core.config import parse
from spinney.operations.dead_letters.letters import LetterGroup
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter
from streaming.query_counters import QueryCounters
from streaming.query_names import QUERY_NAMES
from streaming.reporting import JsonReporter, QueryReport, TextReporter, format_report

A = '["a","1"]'


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(parse(fleet_toml(tmp_path / "root", kafka='outcomes = "till"'), "fleet.toml", {}))


def store(past: Past, query: str, base: Contract, *rows: Mapping[str, Any], batch: int, part: str = "") -> None:
    """What a query's batch appends to a table."""
    place = FleetStore.of(past.config).directory(base, part)
    schema = arrow_schema(place.contract)
    whole = [{name: row.get(name) for name in schema.names} | {"batch_id": batch} for row in rows]
    table = pa.Table.from_pylist(whole, schema=schema)
    DirectoryWriter(place, query, "c").append(table, step=base.name, batch_id=batch)


def end(past: Past, query: str, batch: int) -> None:
    place = Path(FleetStore.of(past.config).checkpoint(query)) / "commits"
    place.mkdir(parents=True, exist_ok=True)
    (place / str(batch)).write_text("v1\n{}")


def progress(batch: int, records: int | None) -> Any:
    """As Spark reports a batch; records: None where it had none."""
    metrics = {} if records is None else {"arrivals": {"records": records}}
    return SimpleNamespace(batchId=batch, durationMs={"addBatch": 5}, observedMetrics=metrics)


def events(*ids: str) -> list[dict[str, Any]]:
    return [{"group_key": A, "event_id": each} for each in ids]


def dead(offset: int, **changed: Any) -> dict[str, Any]:
    row = {"topic": "sales", "kafka_partition": 0, "kafka_offset": offset, "ingested_at": hour(offset)}
    return {**row, "reason": "wrong_type", "detail": f"price: got {offset}", **changed}


def test_ingest_counts_what_was_stored_what_was_dropped_and_what_was_rejected(past: Past) -> None:
    counters = QueryCounters(FleetStore.of(past.config), ("ingest",))
    store(past, "ingest", tables.EVENTS, *events("e1", "e2"), batch=0)
    store(past, "ingest", tables.OUTCOMES, *events("e1"), batch=1)
    store(past, "ingest", tables.DEAD_LETTERS, dead(1), dead(2), dead(3, reason="not_json", detail="x"), batch=1)
    counters.add_progress([progress(0, 5), progress(1, 6)])
    counters.add_progress([progress(0, 5), progress(1, 6)])
    [report] = counters.reports()
    assert report.counts == {"events": 2, "outcomes": 1, "dead": 3, "duplicates": 5}
    assert [(kind.reason, kind.count, kind.example) for kind in report.dead_letters] == [
        ("wrong_type", 2, "price: got 1"),
        ("not_json", 1, "x"),
    ]
    assert counters.reports()[0].is_empty


def test_what_was_there_before_and_what_others_write_does_not_count(past: Past) -> None:
    store(past, "ingest", tables.EVENTS, *events("e1"), batch=0)
    store(past, "load", tables.EVENTS, *events("e2"), batch=9)
    store(past, "load", tables.DEAD_LETTERS, dead(1, topic="load:a.parquet"), batch=9)
    end(past, "ingest", 0)
    counters = QueryCounters(FleetStore.of(past.config), ("ingest",))
    past.put(tables.EVENTS, "", *events("e3"))
    store(past, "ingest", tables.EVENTS, *events("e4"), batch=1)
    store(past, "ingest", tables.DEAD_LETTERS, dead(2), batch=1)
    counters.add_progress([progress(0, 7), progress(1, 2)])
    [report] = counters.reports()
    assert report.counts == {"events": 1, "outcomes": 0, "dead": 1, "duplicates": 0}
    assert [(kind.source, kind.count) for kind in report.dead_letters] == [("sales", 1)]


def test_a_batch_that_is_under_way_counts_when_it_has_ended(past: Past) -> None:
    counters = QueryCounters(FleetStore.of(past.config), ("ingest", "score"))
    store(past, "ingest", tables.EVENTS, *events("e1"), batch=0)
    store(past, "ingest", tables.EVENTS, *events("e2", "e3"), batch=1)
    store(past, "score", tables.PREDICTIONS, *events("e1"), batch=0)
    counters.add_progress([progress(0, 1)])
    assert [dict(each.counts) for each in counters.reports()] == [
        {"events": 1, "outcomes": 0, "dead": 0, "duplicates": 0},
        {"answers": 0},
    ]
    counters.add_progress([progress(0, 1), progress(1, 3), progress(2, None)])
    end(past, "score", 0)
    assert [dict(each.counts) for each in counters.reports()] == [
        {"events": 2, "outcomes": 0, "dead": 0, "duplicates": 1},
        {"answers": 1},
    ]


def test_a_column_that_no_event_has_is_reported_once_until_an_event_has_it(tmp_path: Path) -> None:
    more = '[fleet.fields]\nprice = "p.q"\n'
    text = fleet_toml(tmp_path / "root", kafka='outcomes = "till"', more=more)
    past = Past(parse(text, "fleet.toml", {}))
    counters = QueryCounters(FleetStore.of(past.config), ("ingest",))

    def reported(batch: int, *rows: dict[str, Any]) -> Mapping[str, str]:
        store(past, "ingest", tables.EVENTS, *rows, batch=batch)
        counters.add_progress([progress(batch, len(rows))])
        return counters.reports()[0].without_values

    names = [name for name in past.config.record_schema.event_columns if name != "price"]
    whole = dict.fromkeys(names, None)
    assert reported(0, *events("e1", "e2")) == {"price": "p.q", **{name: name for name in whole}}
    assert reported(1, *events("e3")) == {}
    assert reported(2, {**events("e4")[0], "price": 1.5}, *events("e5")) == {}
    assert reported(3, *events("e6")) == {"price": "p.q"}
    assert counters.reports()[0].without_values == {}


def test_labels_and_rounds_are_added_up(past: Past) -> None:
    counters = QueryCounters(FleetStore.of(past.config), QUERY_NAMES)
    health = {"shard": 0, "group_key": A, "model_id": "m", "rows": 0, "loss": 1.0}
    store(past, "labels", tables.HEALTH, {**health, "labelled": 3}, {**health, "labelled": 4}, batch=0, part="labels")
    counts = {"fitted": 5, "promoted": 2, "unproven": 1, "refused": 2, "withdrawn": 1, "failed": 1}
    rounds = {"round_id": "r", "kind": "stream", **counts}
    for batch in (0, 1):
        store(past, "retrain", tables.ROUNDS, rounds, batch=batch, part="stream")
    end(past, "labels", 0)
    end(past, "retrain", 1)
    found = {each.query: dict(each.counts) for each in counters.reports()}
    assert found["labels"] == {"labels": 7}
    assert found["retrain"] == {
        "rounds": 2, "groups_refitted": 10, "promoted": 4, "promoted_unproven": 2, "refused": 4, "withdrawn": 2,
        "failed": 2,
    }  # fmt: skip
    assert all(each.is_empty for each in counters.reports())


KIND = LetterGroup("sales", "wrong_type", "price", 2, 0, hour(1), hour(2), 'price: double expected, got STRING "1,5"')


def test_people_read_a_line_of_counts_and_one_for_each_kind_of_dead_letter() -> None:
    assert format_report(QueryReport("ingest", {"events": 1_204, "dead": 2}, (KIND,))) == [
        "ingest: events 1,204, dead 2",
        'ingest: 2 dead from sales: wrong_type (price): price: double expected, got STRING "1,5"',
        "ingest: `spinney dead-letters show` has them whole; after a fix, `replay` sends them again",
    ]
    assert format_report(QueryReport("score", {"answers": 0})) == ["score: answers 0"]


def test_columns_without_values_are_named_with_their_fields() -> None:
    report = QueryReport("ingest", {"events": 3}, (), {"x": "after.amount", "note": "note"})
    assert format_report(report) == [
        "ingest: events 3",
        (
            "ingest: no event had a value of x (field after.amount), note. If messages have one under another name, "
            "set it in [fleet.fields]"
        ),
    ]
    reported: list[str] = []
    JsonReporter(reported.append).report([report])
    assert json.loads(reported[0])["without_values"] == {"x": "after.amount", "note": "note"}


def test_programs_read_one_object_a_line() -> None:
    reported: list[str] = []
    reporter = JsonReporter(reported.append)
    reporter.ready(("ingest", "score"))
    reporter.report([QueryReport("ingest", {"events": 1, "dead": 2}, (KIND,)), QueryReport("score", {"answers": 0})])
    reporter.nothing_to_do()
    ready, ingest, score, nothing = (json.loads(line) for line in reported)
    assert (ready["event"], ready["queries"]) == ("ready", ["ingest", "score"])
    assert (ingest["event"], ingest["query"], ingest["events"], ingest["dead"]) == ("report", "ingest", 1, 2)
    assert ingest["dead_letters"][0]["field"] == "price"
    assert ingest["dead_letters"][0]["last_seen"] == "2024-05-01T02:00:00Z"
    assert (score["query"], score["answers"]) == ("score", 0)
    assert nothing["event"] == "nothing_to_do"
    assert all(line["at"].endswith("Z") for line in (ready, ingest, score, nothing))


def test_a_log_has_no_line_that_renews_itself() -> None:
    reported: list[str] = []
    reporter = TextReporter(reported.append)
    reporter.progress([{"name": "ingest"}])
    reporter.ready(("ingest",))
    assert reported == ["stream: ready: ingest; Ctrl-C stops between batches"]
