"""What people see of dead letters, from a table written by hand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import write_deltalake
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from spinney.cli import main
from spinney.core.config import Config
from spinney.core.errors import Busy
from spinney.core.migration import Migration
from spinney.operations.dead_letters import assessment, ledger, purge, replay
from spinney.operations.dead_letters.letters import LetterFilter
from spinney.storage import charter, leases
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema
from streaming import table_maintenance


@pytest.fixture(autouse=True)
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    monkeypatch.chdir(tmp_path)
    Path("fleet.toml").write_text(fleet_toml("root"))
    return Past(read_config("fleet.toml"))


def sale(number: int, price: str = "1.5") -> bytes:
    """A record that is valid, if the price is."""
    at = f'"at":"{hour(0):%Y-%m-%dT%H:%M:%SZ}"'
    return f'{{"sale":"{number}",{at},"shop":"a","dept":1,"price":{price},"sold":2.0}}'.encode()


def letter(offset: int, **changed: Any) -> dict[str, Any]:
    """A rejected event of the topic `sales`, one an hour."""
    row = {
        "key": b'["a","1"]',
        "value": sale(offset),
        "topic": "sales",
        "kafka_partition": 0,
        "kafka_offset": offset,
        "reason": "wrong_type",
        "field": "price",
        "detail": f'price: double expected, got STRING "{offset}"',
        "ingested_at": hour(offset),
        "batch_id": offset,
    }
    return {**row, **changed}


def put(past: Past, *rows: dict[str, Any], named: bool = True) -> None:
    """named: the table says which column is concerned; False: as one that was made before tables said so."""
    place = FleetStore.of(past.config).directory(tables.DEAD_LETTERS)
    others = [each for each in arrow_schema(place.contract) if each.name != "field"]
    schema = pa.schema([*others, pa.field("field", pa.string())] if named else others)
    kept = [{name: row.get(name) for name in schema.names} for row in rows]
    how = ("append", "merge") if named else ("overwrite", "overwrite")
    write_deltalake(place.uri, pa.Table.from_pylist(kept, schema=schema), mode=how[0], schema_mode=how[1])


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["dead-letters", *words])


def listed(*words: str) -> list[dict[str, Any]]:
    done = run("list", "--json", *words)
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_equal_reasons_are_one_line_however_their_values_differ(past: Past) -> None:
    put(past, *(letter(n) for n in range(5)), letter(9, reason="not_json", field=None, detail="JSON expected"))
    first, second = listed()
    assert first == {
        "source": "sales",
        "reason": "wrong_type",
        "field": "price",
        "count": 5,
        "replayed": 0,
        "first_seen": "2024-05-01T00:00:00Z",
        "last_seen": "2024-05-01T04:00:00Z",
        "example": 'price: double expected, got STRING "0"',
    }
    assert (second["reason"], second["field"], second["count"]) == ("not_json", None, 1)


def test_a_table_made_before_fields_were_named_is_listed_without_them(past: Past) -> None:
    put(past, letter(0), letter(1), named=False)
    assert [(kind["reason"], kind["field"], kind["count"]) for kind in listed()] == [("wrong_type", None, 2)]
    assert listed("--field", "price") == []


def test_rows_of_all_loaded_files_count_together(past: Past) -> None:
    put(past, letter(0, topic="load:a.parquet"), letter(0, topic="load:b.parquet"), letter(0))
    assert [(kind["source"], kind["count"]) for kind in listed()] == [("load", 2), ("sales", 1)]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--since", "2024-05-01T02:00:00Z"), 2),
        (("--since", "2024-05-01T02:00"), 2),
        (("--since", "36500d"), 4),
        (("--since", "1d"), 0),
        (("--reason", "wrong_type"), 3),
        (("--reason", "wrong_type", "--reason", "not_json"), 4),
        (("--reason", "wrong_type", "--field", "sold"), 1),
    ],
)
def test_some_are_chosen_by_time_reason_and_field(past: Past, words: tuple[str, ...], count: int) -> None:
    put(past, letter(0), letter(1), letter(2, field="sold"), letter(3, reason="not_json", field=None))
    assert sum(kind["count"] for kind in listed(*words)) == count


def test_an_unknown_time_is_wrong_usage_and_says_what_is_expected() -> None:
    done = run("list", "--since", "yesterday")
    assert done.exit_code == 2
    assert "--since" in done.stderr
    assert "a duration: a whole number and one of" in done.stderr


def test_without_any_the_list_says_so() -> None:
    done = run("list")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "no dead letters\n")
    assert listed() == []


def test_records_are_shown_as_they_came_the_newest_first(past: Past) -> None:
    put(past, letter(0), letter(1, key=None, value=b"f\xff"), letter(2))
    newest, odd = json.loads(run("show", "--json", "--limit", "2").stdout)
    assert (newest["kafka_offset"], newest["key"], newest["value"]) == (2, '["a","1"]', sale(2).decode())
    assert (newest["topic"], newest["kafka_partition"], newest["reason"]) == ("sales", 0, "wrong_type")
    assert (odd["kafka_offset"], odd["key"], odd["value_base64"]) == (1, None, "Zv8=")
    assert "value" not in odd


def test_records_are_shown_in_words(past: Past) -> None:
    put(past, letter(7))
    lines = run("show").stdout.splitlines()
    assert lines[0] == (
        'sales/0/7 at 2024-05-01T07:00:00Z: wrong_type, field price: price: double expected, got STRING "7"'
    )
    assert lines[1:3] == ['  key: ["a","1"]', f"  value: {sale(7).decode()}"]


def test_a_replay_says_what_it_would_send_and_why_the_rest_stays(past: Past) -> None:
    loaded = letter(1, topic="load:a.parquet")
    put(past, letter(0), loaded, letter(2, topic="other"), letter(3))
    begun = ledger.Replay("r", plan_of(past, past_offset=3), {})
    ledger.begin_replay(FleetStore.of(past.config), begun)
    ledger.end_replay(FleetStore.of(past.config), begun, [0])
    done = run("replay", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "sent": 0,
        "would_be_sent": 1,
        "left": {assessment.FROM_A_FILE: 1, assessment.OTHER_TOPIC: 1, replay.REPLAYED: 1},
    }
    assert run("replay").stderr.splitlines()[0] == "1 would be sent: add --yes"
    assert {kind["source"]: kind["replayed"] for kind in listed()} == {"load": 0, "other": 0, "sales": 1}


def test_what_would_be_rejected_again_stays_with_the_reason_that_holds_now(past: Past) -> None:
    put(past, letter(0), letter(1, value=sale(1, '"dear"')), letter(2, value=b"{"), letter(3, value=None))
    report = json.loads(run("replay", "--json").stdout)
    assert report["would_be_sent"] == 1
    assert report["left"] == {
        "would be rejected again: wrong_type (price)": 1,
        "would be rejected again: not_json": 1,
        "would be rejected again: null_value": 1,
    }


def test_an_id_that_is_stored_or_comes_twice_is_not_sent_a_second_time(past: Past) -> None:
    put(past, letter(0), letter(1), letter(2, value=sale(1)), letter(3, value=sale(1, '"dear"')))
    past.put(tables.EVENTS, "", {"group_key": '["a","1"]', "event_id": "0", "event_time": hour(0)})
    past.put(tables.EVENTS, "", {"group_key": '["b","1"]', "event_id": "1", "event_time": hour(0)})
    report = json.loads(run("replay", "--json").stdout)
    assert report["would_be_sent"] == 1
    assert report["left"] == {
        assessment.STORED: 1,
        assessment.REPEATED: 1,
        "would be rejected again: wrong_type (price)": 1,
    }


def test_nothing_is_sent_to_a_stream_that_would_reject_it_by_rules_edited_since(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    charter.amend_charter(FleetStore.of(past.config))
    put(past, letter(0))
    Path("fleet.toml").write_text(fleet_toml("root", more="[fleet.ranges]\nprice = [0, 9]\n"))
    held = leases.held

    def running(config: Config, names: Sequence[str]) -> Any:
        if "ingest" in names:
            raise Busy("query ingest: another process runs it")
        return held(config, names)

    monkeypatch.setattr(leases, "held", running)
    done = run("replay", "--yes")
    assert done.exit_code == 1
    assert "were edited after the stream started" in done.stderr
    assert "Restart the stream first (query ingest: another process runs it)" in done.stderr


@pytest.mark.parametrize("words", [("replay",), ("replay", "--yes")])
def test_nothing_is_judged_by_columns_that_were_edited_and_not_migrated(past: Past, words: tuple[str, ...]) -> None:
    charter.amend_charter(FleetStore.of(past.config))
    put(past, letter(0))
    Path("fleet.toml").write_text(fleet_toml("root").replace('dept = "int"', 'dept = "bigint"'))
    done = run(*words)
    assert done.exit_code == 1
    assert 'fleet.columns was {"dept": "int"} when it was made and is {"dept": "bigint"} now' in done.stderr
    assert list(Path("root").rglob("*.sending.parquet")) == []


@pytest.mark.parametrize("words", [("replay",), ("replay", "--yes")])
def test_nothing_is_sent_while_a_migration_has_not_ended(past: Past, words: tuple[str, ...]) -> None:
    there = charter.amend_charter(FleetStore.of(past.config))
    put(past, letter(0))
    columns = there.fixed[charter.COLUMNS]
    charter.write_charter(
        FleetStore.of(past.config),
        replace(there, unfinished_migration=Migration("m", "2026-11-20T18:00:00+00:00", columns, columns)),
    )
    done = run(*words)
    assert done.exit_code == 1
    assert "Run `spinney migrate --yes` with the same configuration again" in done.stderr


def plan_of(past: Past, past_offset: int) -> pa.Table:
    row = letter(past_offset)
    names = ("topic", "kafka_partition", "kafka_offset", "ingested_at")
    schema = pa.schema([arrow_schema(tables.DEAD_LETTERS).field(name) for name in names])
    return pa.Table.from_pylist([{name: row[name] for name in names}], schema=schema)


def test_the_same_position_of_a_topic_that_was_made_anew_is_another_letter(past: Past) -> None:
    begun = ledger.Replay("r", plan_of(past, past_offset=3), {})
    ledger.begin_replay(FleetStore.of(past.config), begun)
    ledger.end_replay(FleetStore.of(past.config), begun, [0])
    put(past, letter(3, ingested_at=hour(99)))
    assert json.loads(run("replay", "--json").stdout)["would_be_sent"] == 1


@pytest.fixture
def cut_off(past: Past) -> ledger.Replay:
    """A replay of the letters 0 to 2 that was begun and not ended."""
    put(past, *(letter(n) for n in range(3)))
    made = ledger.Replay("r", pa.concat_tables([plan_of(past, n) for n in range(3)]), {"sales": {0: 10}})
    ledger.begin_replay(FleetStore.of(past.config), made)
    return made


def test_a_replay_that_was_killed_after_it_learned_what_arrived_is_not_settled_again(
    past: Past, cut_off: ledger.Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(file: Path, **_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.end_replay(FleetStore.of(past.config), cut_off, range(3))
    assert ledger.unfinished_replays(FleetStore.of(past.config)) == []
    replay.settle_replays(FleetStore.of(past.config), past.config.kafka)
    assert [kind["replayed"] for kind in listed()] == [3]


@pytest.mark.parametrize(("lost", "replayed"), [(set(), 1), ({"other"}, 1), ({"sales"}, 3)])
def test_records_that_the_topic_no_longer_has_count_as_sent(
    past: Past, cut_off: ledger.Replay, monkeypatch: pytest.MonkeyPatch, lost: set[str], replayed: int
) -> None:
    monkeypatch.setattr(replay, "read_headers", lambda *_: iter([f"{cut_off.replay_id}/1", "another/2"]))
    monkeypatch.setattr(replay, "topics_with_lost_records", lambda *_: lost)
    replay.settle_replays(FleetStore.of(past.config), past.config.kafka)
    assert [kind["replayed"] for kind in listed()] == [replayed]
    assert ledger.unfinished_replays(FleetStore.of(past.config)) == []


@pytest.mark.usefixtures("cut_off")
def test_without_yes_what_a_replay_that_was_cut_off_had_begun_to_send_is_distinguished(past: Past) -> None:
    put(past, letter(3))
    assert json.loads(run("replay", "--json").stdout) == {"sent": 0, "would_be_sent": 1, "left": {replay.UNSETTLED: 3}}


def test_nothing_is_forgotten_before_somebody_says_yes(past: Past) -> None:
    put(past, letter(0), letter(1, reason="not_json", field=None), letter(2, field="it's"))
    assert json.loads(run("purge", "--reason", "wrong_type", "--json").stdout) == {
        "forgotten": 0,
        "would_be_forgotten": 2,
    }
    assert sum(kind["count"] for kind in listed()) == 3
    done = run("purge", "--field", "it's", "--yes")
    assert (done.exit_code, done.stderr) == (0, "1 forgotten\n")
    assert {kind["field"] for kind in listed()} == {"price", None}


@pytest.mark.parametrize(("words", "left"), [(("--older-than", "1d"), []), (("--older-than", "36500d"), [0, 1])])
def test_what_is_older_is_forgotten(past: Past, words: tuple[str, ...], left: list[int]) -> None:
    put(past, letter(0), letter(1))
    assert run("purge", *words, "--yes").exit_code == 0
    assert sorted(row["kafka_offset"] for row in json.loads(run("show", "--json").stdout)) == left


def test_to_purge_all_of_them_needs_an_option(past: Past) -> None:
    done = run("purge", "--yes")
    assert done.exit_code == 2
    assert "expected at least one of: --older-than" in done.stderr


@contextmanager
def running(past: Past, monkeypatch: pytest.MonkeyPatch, serves: Callable[[], None]) -> Iterator[None]:
    """Another process holds the lease; each time that it is asked for, that process has had its turn."""

    def busy(config: object, names: list[str]) -> None:
        serves()
        raise Busy(f"query {names[0]} is run by another process")

    monkeypatch.setattr(leases, "held", busy)
    monkeypatch.setattr(purge, "LOOK_SECONDS", 0.0)
    yield


def test_a_running_stream_forgets_what_it_is_asked_to_holding_off_its_batches(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(past, letter(0), letter(1, field="sold"))
    writing = threading.Lock()

    def serves() -> None:
        table_maintenance.serve_requests(past.config, "score", writing, lambda: False)
        table_maintenance.serve_requests(past.config, "ingest", writing, lambda: False)

    with running(past, monkeypatch, serves):
        done = run("purge", "--field", "sold", "--since", "2024-05-01", "--older-than", "1d", "--yes")
    assert (done.exit_code, done.stderr) == (0, "1 forgotten\n")
    assert [kind["field"] for kind in listed()] == ["price"]
    assert not writing.locked()


def test_what_a_running_stream_cannot_forget_is_reported(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    put(past, letter(0))
    monkeypatch.setattr(purge, "_forget", lambda config, choice: 1 / 0)
    with running(past, monkeypatch, lambda: purge.serve_purge(FleetStore.of(past.config), threading.Lock())):
        done = run("purge", "--older-than", "1d", "--yes")
    assert (done.exit_code, done.stderr) == (
        1,
        "spinney: dead letters: expected the stream to delete them; got division by zero\n",
    )


def test_a_stream_that_does_not_answer_is_not_waited_for_for_ever_nor_asked_any_more(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(past, letter(0))
    with running(past, monkeypatch, lambda: None), pytest.raises(Busy, match="did not answer within 0 s"):
        purge.purge(FleetStore.of(past.config), LetterFilter(reasons=("wrong_type",)), wait_seconds=0.0)
    purge.serve_purge(FleetStore.of(past.config), threading.Lock())
    assert sum(kind["count"] for kind in listed()) == 1


def test_a_purge_that_is_interrupted_is_not_carried_out_later(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    put(past, letter(0))

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with running(past, monkeypatch, lambda: None), monkeypatch.context() as patched:
        patched.setattr(time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            purge.purge(FleetStore.of(past.config), LetterFilter(reasons=("wrong_type",)))
    purge.serve_purge(FleetStore.of(past.config), threading.Lock())
    assert sum(kind["count"] for kind in listed()) == 1


def test_the_request_of_a_purge_that_was_killed_ends_with_its_deadline(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(past, letter(0))
    monkeypatch.setattr(purge, "_withdraw_request", lambda config, request: None)
    with running(past, monkeypatch, lambda: None), pytest.raises(Busy):
        purge.purge(FleetStore.of(past.config), LetterFilter(reasons=("wrong_type",)), wait_seconds=0.0)
    purge.serve_purge(FleetStore.of(past.config), threading.Lock())
    assert sum(kind["count"] for kind in listed()) == 1


def test_what_is_rejected_after_a_purge_was_asked_for_stays(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    put(past, letter(0))

    def serves() -> None:
        put(past, letter(1, ingested_at=datetime.now(UTC) + timedelta(seconds=1)))
        purge.serve_purge(FleetStore.of(past.config), threading.Lock())

    with running(past, monkeypatch, serves):
        assert purge.purge(FleetStore.of(past.config), LetterFilter(reasons=("wrong_type",))) == 1
    assert sum(kind["count"] for kind in listed()) == 1


def test_who_holds_the_lease_forgets_what_was_chosen_though_another_request_took_the_place_of_this_one(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(past, letter(0), letter(1, field="sold"))
    ask = purge._write_request

    def overtaken(*args: Any) -> str:
        mine = ask(*args)
        ask(FleetStore.of(past.config), LetterFilter(fields=("sold",)), datetime.now(UTC) + timedelta(hours=1))
        return mine

    monkeypatch.setattr(purge, "_write_request", overtaken)
    assert purge.purge(FleetStore.of(past.config), LetterFilter(fields=("price",))) == 1
    assert [kind["field"] for kind in listed()] == ["sold"]
