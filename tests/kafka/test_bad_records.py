"""A hundred kinds of bad record among thousands of good ones, through a real broker and the real queries.

Everything is compared by position in Kafka or by id, never by counts.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import shop
from shop import Sent, Shops

from schemas import tables
from spinney.operations.dead_letters.letters import DeadLetters, LetterFilter
from spinney.operations.dead_letters.replay import ReplayPlan, carry_out_replay
from spinney.storage.layout import FleetStore
from streaming.app import Application
from streaming.pending_work import find_pending_work
from streaming.reporting import JsonReporter

FIELDS = {
    "event_id": '"bad"',
    "at": '"2024-03-01T10:00:00Z"',
    "region": '"north"',
    "shop": "7",
    "x": "1.5",
    "promo": "true",
    "stock": "3",
    "opened": '"2020-02-29"',
    "checked": '"2024-02-29T23:59:59.999999Z"',
    "note": '"fine"',
}
OUTCOME = {
    "event_id": '"bad"',
    "region": '"north"',
    "shop": "7",
    "sales": "12.5",
    "observed_at": '"2024-03-01T11:00:00Z"',
}


def event(**changed: str | None) -> bytes:
    """A good event with some fields' JSON replaced; None leaves a field out."""
    return written({**FIELDS, **changed})


def late(**changed: str | None) -> bytes:
    return written({**OUTCOME, **changed})


def written(fields: dict[str, str | None]) -> bytes:
    return ("{" + ",".join(f'"{name}":{raw}' for name, raw in fields.items() if raw is not None) + "}").encode()


GOOD = event()
LONG = '"' + "i" * 10_240 + '"'

BAD: dict[str, tuple[bytes | None, str]] = {
    # nothing, or too much
    "a tombstone": (None, "null_value"),
    "no bytes": (b"", "not_json"),
    "only blanks": (b"  \n", "not_json"),
    "five megabytes": (event(note='"' + "n" * 5_000_000 + '"'), "too_large"),
    "one byte over a mebibyte": (event(note='"' + "n" * (2**20 + 1 - len(event(note='""'))) + '"'), "too_large"),
    # not UTF-8
    "a byte that is not UTF-8": (GOOD.replace(b"fine", b"f\xffne"), "not_utf8"),
    "a cut character": (GOOD.replace(b"fine", b"fin\xc3"), "not_utf8"),
    "an overlong encoding": (GOOD.replace(b"fine", b"\xc0\xaf"), "not_utf8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "not_utf8"),
    # not JSON
    "words": (b"hello", "not_json"),
    "a cut object": (GOOD[:-9], "not_json"),
    "single quotes": (GOOD.replace(b'"', b"'"), "not_json"),
    "names without quotes": (GOOD.replace(b'"x"', b"x"), "not_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, "not_json"),
    "a NUL byte inside": (GOOD.replace(b"fine", b"f\x00ne"), "not_json"),
    "a line break in a string": (GOOD.replace(b"fine", b"f\nne"), "not_json"),
    "a comma at the end": (GOOD[:-1] + b",}", "not_json"),
    "a comment": (GOOD[:-1] + b"/* x */}", "not_json"),
    "a NaN literal": (event(x="NaN"), "not_json"),
    "an Infinity literal": (event(x="Infinity"), "not_json"),
    "a leading zero": (event(x="01"), "not_json"),
    "a hexadecimal number": (event(x="0x1F"), "not_json"),
    "trailing words": (GOOD + b" and more", "not_json"),
    "two objects": (GOOD + GOOD, "not_json"),
    "two lines": (GOOD + b"\n" + GOOD, "not_json"),
    "two objects with a comma": (GOOD + b"," + GOOD, "not_json"),
    "a comma and null": (GOOD + b",null", "not_json"),
    "a comma and a number": (GOOD + b",0", "not_json"),
    "a closing bracket": (GOOD + b"]", "not_json"),
    "a number, a closing bracket": (GOOD + b",0]", "not_json"),
    "a number, a closing bracket and more": (GOOD + b",0],{}", "not_json"),
    "two thousand brackets": (event(extra="[" * 2000 + "]" * 2000), "not_json"),
    # JSON, but no object
    "null": (b"null", "not_an_object"),
    "true": (b"true", "not_an_object"),
    "a string": (b'"hello"', "not_an_object"),
    "an object as a string": (json.dumps(GOOD.decode()).encode(), "not_an_object"),
    "a number alone": (b"12", "not_an_object"),
    "an array": (b"[1,2]", "not_an_object"),
    "an object in an array": (b"[" + GOOD + b"]", "not_an_object"),
    # fields
    "a field twice": (GOOD[:-1] + b',"x":1.5}', "duplicate_field"),
    "an id twice": (GOOD[:-1] + b',"event_id":"other"}', "duplicate_field"),
    "an empty object": (b"{}", "missing_field"),
    "no id": (event(event_id=None), "missing_field"),
    "a null id": (event(event_id="null"), "missing_field"),
    "no time": (event(at=None), "missing_field"),
    "a null time": (event(at="null"), "missing_field"),
    "no key column": (event(shop=None), "null_key"),
    "a null key column": (event(region="null"), "null_key"),
    "a null integer key": (event(shop="null"), "null_key"),
    # types
    "a boolean as id": (event(event_id="true"), "wrong_type"),
    "words as number": (event(x='"many"'), "wrong_type"),
    "words as integer key": (event(shop='"seven"'), "wrong_type"),
    "a time of day as date": (event(opened='"2024-03-01T10:00:00Z"'), "wrong_type"),
    "a date of the year 0": (event(opened='"0000-01-01"'), "wrong_type"),
    "a time of the year 10000": (event(checked='"9999-12-31T23:59:59-01:00"'), "wrong_type"),
    "half of a surrogate pair in the id": (event(event_id='"a\\ud83d"'), "not_utf8"),
    "the other half": (event(event_id='"a\\ud83e"'), "not_utf8"),
    "the text NaN as number": (event(x='"NaN"'), "not_finite"),
    "a boolean as number": (event(x="true"), "wrong_type"),
    "a boolean as integer": (event(stock="false"), "wrong_type"),
    "a number as boolean": (event(promo="2"), "wrong_type"),
    "an object as text": (event(note='{"a":1}'), "wrong_type"),
    "an array as number": (event(x="[1.5]"), "wrong_type"),
    "brackets in brackets as number": (event(x="[" * 100 + "]" * 100), "wrong_type"),
    "a fraction as integer": (event(stock="3.5"), "wrong_type"),
    "an integer beyond 32 bits": (event(stock="2147483648"), "wrong_type"),
    "an integer beyond 64 bits": (event(stock="9223372036854775808"), "wrong_type"),
    "an integer key beyond 32 bits": (event(shop="2147483648"), "wrong_type"),
    "a date that is no day": (event(opened='"2023-02-29"'), "wrong_type"),
    "a date without zeros": (event(opened='"2024-3-1"'), "wrong_type"),
    "words as time": (event(at='"yesterday"'), "wrong_type"),
    "seconds as time": (event(at="1709287200"), "wrong_type"),
    "a time that is none": (event(at='"2024-03-01T25:00:00Z"'), "wrong_type"),
    # numbers
    "infinity as a number": (event(x="1e999"), "not_finite"),
    "minus infinity as a number": (event(x="-1e999"), "not_finite"),
    "above its range": (event(x="100.001"), "out_of_range"),
    "below its range": (event(x="-1e6"), "out_of_range"),
    "an integer below its range": (event(stock="-1"), "out_of_range"),
    # ids and keys
    "an empty id": (event(event_id='""'), "empty_id"),
    "an empty key column": (event(region='""'), "empty_id"),
    "an id of ten kilobytes": (event(event_id=LONG), "id_too_long"),
    "a key of 513 characters": (event(region='"' + "é" * 513 + '"'), "id_too_long"),
    "a bell in the id": (event(event_id='"b\\u0007d"'), "control_character"),
    "a NUL in the id": (event(event_id='"b\\u0000d"'), "control_character"),
    "a tab in a key column": (event(region='"no\\trth"'), "control_character"),
    "a delete character in a key column": (event(region='"nor\x7fth"'), "control_character"),
    # times
    "the year 2099": (event(at='"2099-01-01T00:00:00Z"'), "time_out_of_range"),
    "the year 1": (event(at='"0001-01-01T00:00:00Z"'), "time_out_of_range"),
    "a second before 1970": (event(at='"1969-12-31T23:59:59Z"'), "time_out_of_range"),
}

CONCERNED = {
    "words": None,
    "no id": "event_id",
    "words as number": "x",
    "an integer below its range": "stock",
    "the year 2099": "at",
}

BAD_OUTCOMES: dict[str, tuple[bytes | None, str]] = {
    "a tombstone": (None, "null_value"),
    "words": (b"hello", "not_json"),
    "an array": (b"[]", "not_an_object"),
    "a label twice": (late()[:-1] + b',"sales":1}', "duplicate_field"),
    "no label": (late(sales=None), "missing_field"),
    "a null label": (late(sales="null"), "missing_field"),
    "words as label": (late(sales='"many"'), "wrong_type"),
    "an infinite label": (late(sales="1e999"), "not_finite"),
    "a null key column": (late(region="null"), "null_key"),
    "an empty id": (late(event_id='""'), "empty_id"),
    "no observed_at": (late(observed_at=None), "missing_field"),
    "observed in 2099": (late(observed_at='"2099-01-01T00:00:00Z"'), "time_out_of_range"),
}

UNUSUAL: dict[str, dict[str, str | None]] = {
    "every feature null": {"x": "null", "promo": "null", "stock": "null", "note": "null"},
    "only what is required": {name: None for name in FIELDS if name not in ("event_id", "at", "region", "shop")},
    "an unknown field": {"extra": '{"deep":[1,{"a":null}]}'},
    "an integer for a double": {"x": "7"},
    "an exponent": {"x": "1.5E1"},
    "the ends of ranges": {"x": "-100", "stock": "2147483647"},
    "many digits": {"x": "0.1234567890123456789012345678901234567890123456789"},
    "a zone": {"at": '"2024-03-01T10:00:00+05:30"', "checked": '"2024-03-01 10:00:00"'},
    "1970": {"at": '"1970-01-01T00:00:00Z"'},
    "an escaped key": {"region": '"nor\\u0074h \\"q\\" \\\\ /"'},
    "another script": {"region": '"北\U0001f30a"', "note": '"\\ud83c\\udf0a"'},
    "a control character in a note": {"note": '"\\u0001"'},
    "texts for numbers": {"x": '"1.5"', "stock": '"3"', "promo": '"true"', "shop": '"7"'},
    "numbers for texts": {"region": "1", "note": "5"},
    "an empty text for a number": {"x": '""', "stock": "3.0"},
    "a date with a time and a time without": {"opened": '"2024-03-01T00:00:00Z"', "checked": '"2024-03-01"'},
    "the last moment of the calendar": {"opened": '"9999-12-31"', "checked": '"9999-12-31T23:59:59.999999Z"'},
    "the first moment of the calendar": {"opened": '"0001-01-01"', "checked": '"0001-01-01T00:00:00Z"'},
    "a key of 512 characters": {"region": '"' + "é" * 512 + '"'},
}
GOOD_EVENTS = 100 * len(BAD)


class Story:
    """All of it sent once; the queries drained in between."""

    def __init__(self, spark: Any, shops: Shops) -> None:
        self.shops = shops
        self.bad: dict[tuple[str, str], Sent] = {}
        self.reported: list[dict[str, Any]] = []
        self.good = [shop.sale(f"g{i}", ("north", "south")[i % 2], i % 5, i % 90, i / 60) for i in range(GOOD_EVENTS)]
        self.outcomes = self.good[::5]
        shops.init()
        for i, (kind, record) in enumerate(BAD.items()):
            shops.events(self.good[100 * i : 100 * i + 100])
            self._reject("event", kind, record)
        for kind, record in BAD_OUTCOMES.items():
            self._reject("outcome", kind, record)
        self.unusual = {kind: event(event_id=json.dumps(kind), **changed) for kind, changed in UNUSUAL.items()}
        for value in self.unusual.values():
            shops.event(value, json.loads(value))
        shops.outcomes(self.outcomes)
        shops.events(self.good[:40])  # in the same batch as their originals
        shops.outcomes(self.outcomes[:40])
        first = Application(spark, shops.config, ("ingest",))
        first.drain()
        first.report(JsonReporter(lambda line: self.reported.append(json.loads(line))))
        self.first_batch = set(shops.table(tables.EVENTS)["batch_id"])
        self.replays = [self._replay_after_a_fix() for _ in range(2)]
        shops.events(self.good[100:140])  # in a later one
        shops.outcomes(self.outcomes[50:90])
        self.last = [shop.sale("later", "north", 1, 1.0, 0.0)]
        shops.events(self.last)
        Application(spark, shops.config, ("ingest",)).drain()
        self.unread = [find_pending_work(shops.config, ("ingest", "score"))]
        Application(spark, shops.config, ("score",)).drain()
        self.unread.append(find_pending_work(shops.config, ("ingest", "score")))
        self.dead = shops.table(tables.DEAD_LETTERS)
        self.by_position = {
            (row.topic, row.kafka_partition, row.kafka_offset): row for row in self.dead.itertuples(index=False)
        }

    def _reject(self, what: str, kind: str, record: tuple[bytes | None, str]) -> None:
        self.shops.bad([record], outcomes=what == "outcome")
        self.bad[what, kind] = self.shops.ledger[-1]

    def _replay_after_a_fix(self) -> ReplayPlan:
        """The range of `x` was too narrow; who sent the records does not send them again."""
        self.shops.edit(-100.0, 200.0)
        letters = DeadLetters.opened(FleetStore.of(self.shops.config), LetterFilter(reasons=("out_of_range",)))
        done = carry_out_replay(FleetStore.of(self.shops.config), self.shops.config.kafka, letters)
        if done.count:
            mended = replace(self.bad["event", "above its range"], event_id="bad", key='["north","7"]')
            self.shops.ledger.append(mended)
        return done

    def found(self, what: str, kind: str) -> Any:
        return self.by_position.get(self.bad[what, kind].position)


@pytest.fixture(scope="module")
def story(spark: Any, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(spark, Shops(tmp_path_factory.mktemp("bad"), broker))


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_event_is_a_dead_letter_with_its_reason_and_its_bytes(story: Story, kind: str) -> None:
    value, reason = BAD[kind]
    letter = story.found("event", kind)
    assert letter is not None
    assert (letter.reason, letter.value) == (reason, value)
    assert 0 < len(letter.detail) <= 500
    assert letter.field == CONCERNED.get(kind, letter.field)


@pytest.mark.parametrize("kind", BAD_OUTCOMES)
def test_a_bad_outcome_is_a_dead_letter_with_its_reason_and_its_bytes(story: Story, kind: str) -> None:
    value, reason = BAD_OUTCOMES[kind]
    letter = story.found("outcome", kind)
    assert letter is not None
    assert (letter.reason, letter.value) == (reason, value)


def test_nothing_else_is_a_dead_letter_and_none_is_there_twice(story: Story) -> None:
    assert len(story.dead) == len(story.by_position)
    assert set(story.by_position) == {sent.position for sent in story.bad.values()}


def test_every_good_event_is_stored_once_duplicates_in_one_batch_and_in_a_later_one_too(story: Story) -> None:
    assert len(story.first_batch) == 1
    assert len(set(story.shops.table(tables.EVENTS)["batch_id"])) == 2
    sent = {each.identity for each in story.shops.ledger if each.topic.endswith(".events") and each.event_id}
    stored = identities(story.shops.table(tables.EVENTS))
    assert len(stored) == len(set(stored))
    assert set(stored) == sent
    assert len(sent) == GOOD_EVENTS + len(UNUSUAL) + 2


def test_a_dead_letter_that_is_sent_again_after_a_fix_is_stored_once_and_not_sent_a_second_time(story: Story) -> None:
    assert [each.count for each in story.replays] == [1, 0]
    rejected = "would be rejected again: out_of_range"
    assert story.replays[0].left == {f"{rejected} (x)": 1, f"{rejected} (stock)": 1}
    mended = story.shops.table(tables.EVENTS).query("event_id == 'bad'")
    assert list(zip(mended["group_key"], mended["x"], strict=True)) == [('["north","7"]', 100.001)]


def test_a_drain_reports_how_many_were_stored_dropped_and_rejected_and_why(story: Story) -> None:
    [ingest] = story.reported
    counts = {name: ingest[name] for name in ("events", "outcomes", "dead", "duplicates")}
    assert counts == {
        "events": GOOD_EVENTS + len(UNUSUAL),
        "outcomes": len(story.outcomes),
        "dead": len(story.bad),
        "duplicates": 40 + 40,
    }
    reasons = {(kind["source"], kind["reason"]) for kind in ingest["dead_letters"]}
    assert reasons == {(sent.topic, sent.bad) for sent in story.bad.values()}


def test_every_good_outcome_is_stored_once_with_its_label(story: Story) -> None:
    rows = story.shops.table(tables.OUTCOMES)
    stored = dict(zip(identities(rows), rows["label"], strict=True))
    assert len(stored) == len(rows)
    assert stored == {(shop.group_key(row), row["event_id"]): row["sales"] for row in story.outcomes}


def test_score_finds_the_same_events_valid_as_ingest_and_answers_each_once(story: Story) -> None:
    answered = identities(story.shops.table(tables.PREDICTIONS))
    assert len(answered) == len(set(answered))
    assert set(answered) == set(identities(story.shops.table(tables.EVENTS)))


def test_once_both_queries_are_drained_nothing_is_left_to_do_and_not_before(story: Story) -> None:
    assert story.unread == ["query score has not begun", None]


def test_unusual_but_legal_values_are_stored_as_they_were_sent(story: Story) -> None:
    rows = story.shops.table(tables.EVENTS).set_index("event_id")
    assert rows.loc["every feature null", ["x", "promo", "stock", "note"]].isna().all()
    assert rows.loc["only what is required", ["x", "promo", "stock", "note", "opened", "checked"]].isna().all()
    assert rows.loc["an integer for a double", "x"] == 7.0
    assert rows.loc["an exponent", "x"] == 15.0
    assert (rows.loc["the ends of ranges", "x"], rows.loc["the ends of ranges", "stock"]) == (-100.0, 2147483647)
    assert rows.loc["many digits", "x"] == 0.12345678901234568
    assert rows.loc["a zone", "event_time"].isoformat() == "2024-03-01T04:30:00+00:00"
    assert rows.loc["a zone", "checked"].isoformat() == "2024-03-01T10:00:00+00:00"
    assert rows.loc["an escaped key", "region"] == 'north "q" \\ /'
    assert (rows.loc["another script", "region"], rows.loc["another script", "note"]) == ("北\U0001f30a", "\U0001f30a")
    assert rows.loc["a control character in a note", "note"] == "\x01"
    coerced = rows.loc["texts for numbers", ["x", "stock", "promo", "shop"]].tolist()
    assert coerced == [1.5, 3, True, 7]
    assert rows.loc["numbers for texts", ["region", "note"]].tolist() == ["1", "5"]
    assert rows.loc["an empty text for a number", ["x"]].isna().all()
    assert str(rows.loc["a date with a time and a time without", "opened"]) == "2024-03-01"
    assert str(rows.loc["the last moment of the calendar", "opened"]) == "9999-12-31"
    assert rows.loc["the last moment of the calendar", "checked"].isoformat() == "9999-12-31T23:59:59.999999+00:00"
    assert rows.loc["the first moment of the calendar", "checked"].isoformat() == "0001-01-01T00:00:00+00:00"


def identities(rows: Any) -> list[tuple[str, str]]:
    return list(zip(rows["group_key"], rows["event_id"], strict=True))
