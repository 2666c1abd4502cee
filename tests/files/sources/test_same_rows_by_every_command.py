"""`init --from`, `try`, `produce`, `load` and the stream give the same rows, reasons and models for the same file."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from export_file_cases import EXPORT_FILE_CASES
from file_cases import CASES, Case, Dead
from foreign_file_cases import FOREIGN_CASES
from new_tables import create_tables
from rare_file_cases import RARE_CASES
from typed_file_cases import TYPED_FILE_CASES
from unvalidated_records import unvalidated

from batch.load import load
from schemas import messages, tables
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.config_proposal import Choices, propose
from spinney.core.records.rules import build_rules
from spinney.local.trial.rows import BAD_CELLS, OUT_OF_RANGES, open_rows, read_file_rows
from spinney.sources import open_source
from spinney.sources.fleet_files import messages_of, open_fleet_file
from spinney.sources.rejections import Rejections
from spinney.sources.row_validation import ValidRow, valid_rows
from spinney.sources.sample import read_sample
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.ingest import stored_rows

ALL_CASES = (*CASES, *FOREIGN_CASES, *TYPED_FILE_CASES, *RARE_CASES, *EXPORT_FILE_CASES)
of_each_case = pytest.mark.parametrize("case", ALL_CASES, ids=[case.name for case in ALL_CASES])
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
Typed = dict[str, tuple[type, Any]]


@pytest.fixture
def made(case: Case, tmp_path: Path) -> tuple[Config, Path]:
    return case.fleet.config(tmp_path / "root", case.features), case.write(tmp_path)


def typed(row: dict[str, Any]) -> Typed:
    """With each value's type: 1 is not True, nor 1.0."""
    return {name: (type(value), value) for name, value in row.items()}


def kinds(dead: tuple[Dead, ...]) -> dict[tuple[str, str | None], int]:
    return {(each.reason, each.field): each.rows for each in dead}


def sent(config: Config, place: Path, case: Case) -> tuple[list[ValidRow], Rejections]:
    """What `produce` hands to its client."""
    rejections = Rejections()
    source = open_fleet_file(config.record_schema, place, case.options, outcomes=False)
    return list(valid_rows(source, build_rules(config.record_schema, messages.EVENT), rejections)), rejections


@of_each_case
def test_produce_sends_the_rows_that_are_expected_and_counts_the_others_by_reason(case: Case, made) -> None:
    config, place = made
    rows, rejections = sent(config, place, case)
    assert {row.values["id"]: typed(dict(row.values)) for row in rows} == {
        one: typed(row) for one, row in case.expected(config).items()
    }
    assert len(rows) == len(case.rows)
    assert rejections.counts == kinds(case.dead)
    first = {kind: example.row for kind, example in rejections.examples.items()}
    assert first == {(each.reason, each.field): each.row for each in case.dead}


@of_each_case
def test_the_stream_stores_the_rows_that_are_expected_of_the_messages_and_the_others_as_dead_letters(
    case: Case, made
) -> None:
    config, place = made
    schema = config.record_schema
    batches = open_fleet_file(schema, place, case.options, outcomes=False).batches()
    rules = build_rules(schema, messages.EVENT)
    values = [value for batch in batches for _, value in messages_of(batch, rules)]
    parts = stored_rows(schema, ()).of([unvalidated(values, schema.events_topic, NOON)])
    found = [(kind, row) for kind, rows in parts for row in rows.to_pylist()]
    stored = [row for kind, row in found if kind == "event"]
    own, names = {"id": "event_id", "at": "event_time"}, ("id", "at", *schema.event_columns)
    expected = case.expected(config)
    assert {row["event_id"]: typed({name: row[own.get(name, name)] for name in names}) for row in stored} == {
        one: typed(row) for one, row in expected.items()
    }
    assert {row["event_id"]: row["group_key"] for row in stored} == {
        one: keys.encode([row["store"]]) for one, row in expected.items()
    }
    # Rows that cannot be split into columns give no message.
    dead = {(each.reason, each.field): each.rows for each in case.dead if not each.is_unsplit}
    assert Counter((row["reason"], row["field"]) for kind, row in found if kind == "dead") == dead


@of_each_case
def test_load_stores_the_rows_that_are_expected_and_the_others_as_dead_letters(case: Case, made) -> None:
    config, place = made
    create_tables(FleetStore.of(config))
    loaded = load(config, str(place), options=case.options)
    stored = delta.read_table(FleetStore.of(config), tables.EVENTS).to_pylist()
    names = [name for name in config.record_schema.event_columns if name not in ("id", "at")]
    got = {
        row["event_id"]: typed({"id": row["event_id"], "at": row["event_time"], **{name: row[name] for name in names}})
        for row in stored
    }
    expected = case.expected(config)
    assert got == {one: typed(row) for one, row in expected.items()}
    assert len(stored) == len(expected)
    assert {row["group_key"] for row in stored} == {keys.encode([row["store"]]) for row in expected.values()}
    assert loaded.rejections.counts == kinds(case.dead)
    dead = delta.read_table(FleetStore.of(config), tables.DEAD_LETTERS, ["reason", "field"]).to_pylist()
    assert Counter((row["reason"], row["field"]) for row in dead) == kinds(case.dead)


@of_each_case
def test_try_takes_the_groups_rows_that_are_expected_and_says_why_not_the_others(case: Case, made) -> None:
    config, place = made
    expected = case.expected(config)
    for store in {row["store"] for row in expected.values()}:
        found = read_file_rows(
            config.record_schema, open_rows(config.record_schema, str(place), case.options), keys.encode([store])
        )
        mine = {one: row for one, row in expected.items() if row["store"] == store}
        frame = found.frame.set_index("event_id")
        assert set(frame.index) == set(mine)
        for one, row in mine.items():
            got = {name: None if frame[name].isna()[one] else frame.loc[one, name] for name in case.features}
            assert got == {name: row[name] for name in case.features}
            assert (frame.loc[one, "event_time"], frame.loc[one, "label"]) == (row["at"], row["sold"])
        assert found.left_out == Counter(
            _left_out(each)
            for each in case.dead
            if each.group == str(store) or each.is_unsplit
            for _ in range(each.rows)
        )


def _left_out(dead: Dead) -> str:
    """As `try` says it."""
    if dead.is_unsplit:
        return BAD_CELLS
    if dead.reason == "out_of_range":
        return OUT_OF_RANGES
    if dead.reason == "missing_field" and dead.field in ("id", "at"):
        return "without an id or a time"
    return f"rejected: {dead.reason}" + (f" in {dead.field}" if dead.field else "")


@of_each_case
def test_what_init_proposes_is_accepted_and_takes_the_same_rows(case: Case, made) -> None:
    config, place = made
    chosen = case.chosen(config)
    sample = read_sample(open_source(place, case.options))
    choices = Choices((chosen["group"],), chosen["target"], chosen["identity"], chosen["time"])
    proposal = parse(propose(sample.frame, "proposed", sample.texts, choices), "proposed", {})
    rules = build_rules(proposal.record_schema, messages.EVENT)
    kinds = {rule.source: rule.type if rule.unit is None else f"{rule.type}({rule.unit})" for rule in rules.fields}
    assert {name: kinds.get(name) for name in case.proposed} == dict(case.proposed)
    rows, rejections = sent(proposal, place, case)
    expected = case.expected(config)
    taken = {str(row.values[proposal.fleet.event_id]): row for row in rows}
    assert set(taken) == {*expected, *case.also}, json.dumps(rejections.as_dicts(), default=str)
    sources = {rule.source: rule.name for rule in build_rules(config.record_schema, messages.EVENT).fields}
    for one, row in expected.items():
        assert keys.encode([taken[one].values[name] for name in proposal.fleet.group]) == keys.encode([row["store"]])
        for rule in rules.fields:
            value = row[sources[rule.source]] if rule.source in sources else None
            usual = {datetime: "timestamp", bool: "boolean"}.get(type(value), rule.type)
            is_read_otherwise = usual != rule.type
            if rule.source in sources and not is_read_otherwise:
                assert taken[one].values[rule.name] == _as(value, rule.type), rule.name


def _as(value: Any, kind: str) -> Any:
    """The value as a column of the proposed type has it."""
    return (
        value if value is None else {"double": float, "bigint": int, "string": str}.get(kind, lambda same: same)(value)
    )
