"""The fleet read back from tables that are filled by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from handwritten_history import fleet_toml
from new_tables import create_tables

import spinney
import spinney.fleet
from schemas import tables
from schemas.contract import Contract
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.errors import StoreError
from spinney.core.reporting.group_status import State
from spinney.fleet import Fleet
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

PARENTS = '[["dept"], []]'
START = datetime(2024, 5, 1, tzinfo=UTC)
A, B, C, D, DEPT = '["a","1"]', '["b","1"]', '["c","2"]', '["d","1"]', '{"dept":"1"}'


def hour(n: float) -> datetime:
    return START + timedelta(hours=n)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = parse(fleet_toml(tmp_path, parents=PARENTS), "fleet.toml", {})
    create_tables(FleetStore.of(made))
    return made


def put(config: Config, base: Contract, part: str, *rows: Mapping[str, Any]) -> None:
    place = FleetStore.of(config).directory(base, part)
    schema = arrow_schema(place.contract)
    sharded = ({**row, "shard": keys.shard_of(row["group_key"], config.fleet.shards)} for row in rows)
    whole = [{name: row.get(name) for name in schema.names} for row in sharded]
    write_deltalake(place.uri, pa.Table.from_pylist(whole, schema=schema), mode="append")


def seen(config: Config, *group_keys: str) -> None:
    put(config, tables.EVENTS, "", *({"group_key": key, "event_id": "e", "event_time": START} for key in group_keys))


def verdict(key: str, at: float, decision: str, reason: str, round_id: str) -> dict[str, Any]:
    return {"group_key": key, "judged_at": hour(at), "decision": decision, "reason": reason, "round_id": round_id}


def attempt(key: str, at: float, status: str, **more: Any) -> dict[str, Any]:
    return {"group_key": key, "fitted_at": hour(at), "clock": hour(at), "status": status, **more}


def decided(key: str, at: float, decision: str, model_id: str, round_id: str, **more: Any) -> dict[str, Any]:
    times = {"decided_at": hour(at), "clock": hour(at)}
    row = {
        "group_key": key,
        "epoch": 0,
        "decision": decision,
        "model_id": model_id,
        "round_id": round_id,
        "by": "stream",
    }
    return {**row, **times, "reason": "because", **more}


def fitted(at: float, rows: int = 40, loss: float = 1.5) -> dict[str, Any]:
    return {"trained_through": hour(at), "fitted_at": hour(at), "rows": rows, "challenger_loss": loss}


@pytest.mark.parametrize("at_once", [1_000_000, 1])
def test_every_group_that_has_an_event_has_one_state_and_parents_are_none(config, monkeypatch, at_once: int) -> None:
    monkeypatch.setattr(spinney.fleet, "ROWS_AT_ONCE", at_once)
    seen(config, B, A, A, C, D)
    put(
        config,
        tables.VERDICTS,
        "stream",
        verdict(A, 1, "fit", "new group", "r1"),
        verdict(D, 1, "fit", "new group", "r1"),
    )
    put(config, tables.MODELS, "stream", attempt(D, 1, "failed", error="ValueError: no", round_id="r1"))
    rows = [decided(A, 1, "promoted", "m1", "r1", **fitted(0)), decided(DEPT, 1, "promoted", "m2", "r1", **fitted(0))]
    put(config, tables.PROMOTIONS, "stream", *rows)
    found = {each.group_key: each for each in Fleet(config).groups()}
    assert list(found) == [A, B, C, D]
    states = {A: State.FRESH, B: State.PARENT, C: State.NONE, D: State.FAILED}
    assert {key: each.state for key, each in found.items()} == states
    mine = found[A]
    assert (mine.model_id, mine.trained_through, mine.fitted_at, mine.rows, mine.loss) == (
        "m1",
        hour(0),
        hour(0),
        40,
        1.5,
    )
    assert (mine.reason, found[D].error, found[B].model_id) == ("new group", "ValueError: no", None)


def test_a_champion_that_was_kept_still_has_what_it_was_fitted_on(config: Config) -> None:
    seen(config, A)
    put(config, tables.PROMOTIONS, "stream", decided(A, 1, "promoted", "m1", "r1", **fitted(0)))
    put(config, tables.PROMOTIONS, "batch", decided(A, 5, "kept", "m1", "r2"))
    (mine,) = Fleet(config).groups()
    assert (mine.state, mine.model_id, mine.trained_through, mine.rows, mine.loss) == (
        State.FRESH,
        "m1",
        hour(0),
        40,
        1.5,
    )
    assert "trained through 2024-05-01 00:00" in str(Fleet(config).why(A))


def test_a_refused_challenger_changes_the_state_and_not_the_champion(config: Config) -> None:
    seen(config, A)
    put(config, tables.VERDICTS, "stream", verdict(A, 3, "fit", "older than 7 d", "r2"))
    rows = [
        decided(A, 1, "promoted", "m1", "r1", **fitted(0)),
        decided(A, 3, "refused", "m2", "r2", **fitted(3, loss=9)),
    ]
    put(config, tables.PROMOTIONS, "stream", *rows)
    (mine,) = Fleet(config).groups()
    assert (mine.state, mine.model_id, mine.loss) == (State.REFUSED, "m1", 1.5)


def test_an_attempt_with_too_few_rows_settles_the_verdict_that_asked_for_it(config: Config) -> None:
    seen(config, A, B)
    put(config, tables.PROMOTIONS, "stream", decided(A, 1, "promoted", "m1", "r1", **fitted(0)))
    put(config, tables.VERDICTS, "stream", verdict(A, 200, "fit", "8 days since the last attempt", "r2"))
    assert Fleet(config).groups()[0].state is State.STALE
    put(config, tables.MODELS, "stream", attempt(A, 200, "too_few_rows", error="8 rows needed", round_id="r2"))
    assert Fleet(config).groups()[0].state is State.FRESH
    put(config, tables.VERDICTS, "stream", verdict(A, 400, "fit", "8 days since the last attempt", "r3"))
    assert Fleet(config).groups()[0].state is State.STALE


def test_what_a_person_or_the_batch_decides_settles_an_older_verdict(config: Config) -> None:
    seen(config, A)
    put(config, tables.PROMOTIONS, "stream", decided(A, 1, "promoted", "m1", "r1", **fitted(0)))
    put(config, tables.VERDICTS, "stream", verdict(A, 2, "deferred", "7 d old; no budget left", "r2"))
    assert Fleet(config).groups()[0].state is State.STALE
    put(config, tables.PROMOTIONS, "people", decided(A, 3, "promoted", "m1", "", by="ada", epoch=1, **fitted(0)))
    assert Fleet(config).groups()[0].state is State.FRESH


def test_the_last_word_counts_whichever_directory_it_stands_in(config: Config) -> None:
    seen(config, A)
    put(
        config, tables.MODELS, "stream", attempt(A, 1, "failed", error="first"), attempt(A, 2, "failed", error="second")
    )
    (mine,) = Fleet(config).groups()
    assert (mine.state, mine.error) == (State.FAILED, "second")
    put(config, tables.PROMOTIONS, "batch", decided(A, 3, "promoted", "m3", "b1", **fitted(3)))
    (mine,) = Fleet(config).groups()
    assert (mine.state, mine.model_id) == (State.FRESH, "m3")


def test_a_pin_holds_from_the_moment_it_is_set_to_the_moment_it_is_lifted(config: Config) -> None:
    seen(config, A)
    put(config, tables.PROMOTIONS, "stream", decided(A, 1, "promoted", "m1", "r1", **fitted(0)))
    put(config, tables.PROMOTIONS, "stream", decided(A, 2, "promoted", "m2", "r2", **fitted(2)))
    put(config, tables.PROMOTIONS, "people", decided(A, 3, "pinned", "m1", "", by="ada", epoch=1))
    (mine,) = Fleet(config).groups()
    assert (mine.state, mine.model_id, mine.trained_through) == (State.HELD, "m1", hour(0))
    put(config, tables.PROMOTIONS, "batch", decided(A, 4, "kept", "m1", "b1", epoch=1))
    assert Fleet(config).groups()[0].state is State.HELD
    put(config, tables.PROMOTIONS, "people", decided(A, 5, "promoted", "m2", "", by="ada", epoch=2, **fitted(2)))
    (mine,) = Fleet(config).groups()
    assert (mine.state, mine.model_id) == (State.FRESH, "m2")


def test_a_group_whose_challenger_the_gate_held_is_not_pinned_and_one_that_a_person_pinned_is(config) -> None:
    seen(config, A)
    put(config, tables.PROMOTIONS, "stream", decided(A, 1, "promoted", "a1", "r1", **fitted(1)))
    put(config, tables.PROMOTIONS, "stream", decided(A, 2, "held", "a2", "r2", **fitted(2)))
    fleet = Fleet(config)
    assert (fleet.why(A).standing.state, fleet.why(A).is_pinned) == (State.HELD, False)
    put(config, tables.PROMOTIONS, "people", decided(A, 3, "pinned", "a1", "people-0", epoch=1, by="ada"))
    assert (fleet.why(A).standing.state, fleet.why(A).is_pinned) == (State.HELD, True)
    put(config, tables.PROMOTIONS, "people", decided(A, 4, "promoted", "a1", "people-1", epoch=2, by="ada"))
    assert not fleet.why(A).is_pinned


def test_why_reports_verdicts_attempts_and_promotions_in_order(config: Config) -> None:
    seen(config, A, B)
    put(config, tables.VERDICTS, "batch", verdict(A, 9, "fit", "the batch refits every group", "b0"))
    put(
        config,
        tables.VERDICTS,
        "stream",
        verdict(A, 1, "fit", "new group", "r1"),
        verdict(B, 1, "fit", "not mine", "r1"),
    )
    put(config, tables.PROMOTIONS, "people", decided(A, 5, "pinned", "m1", "people-0", by="ada", epoch=1))
    put(config, tables.PROMOTIONS, "stream", decided(A, 1, "promoted", "m1", "r1", **fitted(0)))
    made = attempt(A, 1, "fitted", model_id="m1", rows=40, trained_through=hour(0), fit_ms=2.34)
    put(config, tables.MODELS, "stream", made, attempt(A, 0.5, "too_few_rows", error="20 rows needed"))
    story = Fleet(config).why(A)
    assert [(each["what"], each["said"]) for each in story.happened] == [
        ("too_few_rows", "20 rows needed"),
        ("judged fit", "new group"),
        ("fitted", "model m1, 40 rows through 2024-05-01 00:00, 2.34 ms"),
        ("promoted", "model m1: because (stream)"),
        ("pinned", "by ada: because; model m1 goes on (epoch 1)"),
        ("judged fit", "the batch refits every group"),
    ]
    lines = str(story).splitlines()
    assert lines[0].startswith('["a","1"]: ')
    assert lines[3] == "  2024-05-01 01:00  fitted: model m1, 40 rows through 2024-05-01 00:00, 2.34 ms"
    assert all("payload" not in each for each in story.happened)


def test_a_group_that_only_has_events_has_an_empty_story(config: Config) -> None:
    seen(config, A)
    assert Fleet(config).why(A).happened == ()
    with pytest.raises(StoreError, match=r"group \[\"x\",\"1\"\]: nothing was ever stored of it; the nearest are "):
        Fleet(config).why('["x","1"]')


def test_without_tables_the_error_says_what_to_run(tmp_path: Path) -> None:
    nowhere = parse(fleet_toml(tmp_path / "other", parents=PARENTS), "fleet.toml", {})
    with pytest.raises(StoreError, match=r"table events: nothing at .*spinney init"):
        Fleet(nowhere).groups()


def test_the_package_has_no_other_name() -> None:
    with pytest.raises(AttributeError, match="module 'spinney' has no attribute 'Flet'"):
        spinney.Flet  # noqa: B018


def test_the_gain_is_read_from_new_champions_of_groups_that_the_stream_drew_and_only_as_of_then(config) -> None:
    assert Fleet(config).gain() is None
    drawn = {**verdict(A, 1, "fit", "9 days", "stream-1"), "numbers": '{"rows_since":4,"queue":"random"}'}
    by_rank = {**verdict(B, 1, "fit", "9 days", "stream-1"), "numbers": '{"rows_since":4,"queue":"rank"}'}
    put(config, tables.VERDICTS, "stream", drawn, by_rank)
    for key, name, lost in ((A, "a", 4.0), (B, "b", 9.0)):
        put(config, tables.PROMOTIONS, "stream", decided(key, 1, "promoted", name, "stream-1"))
        measures = {"watched_rows": 12, "predecessor_loss": lost, "watched_champion_loss": 3.0}
        reported = json.dumps({"champion_id": name, **measures})
        put(
            config,
            tables.MODELS,
            "batch",
            attempt(key, 2, "fitted", round_id="batch-2", model_id=f"{name}-2", metrics=reported),
        )
    found = Fleet(config).gain()
    assert (found.groups, found.rows, found.gain, found.percent, found.lower) == (1, 12, 1.0, 25.0, None)
    assert Fleet(config).summary().gain == found
    assert Fleet(config).gain(as_of=hour(1.5)) is None
