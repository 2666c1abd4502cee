"""Keys as SQL, and which records are valid and why not. Every test is one Spark job over many records."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import functions as F
from unvalidated_records import unvalidated

from schemas.vocabulary import DeadLetterReason as Reason
from spinney.core import keys
from spinney.core.config import parse
from spinney.core.records.rules import ValidationSettings
from spinney.storage.charter import Edition
from streaming.ingest import stored_rows
from streaming.validated_records import (
    DETAIL,
    FIELD,
    REASON,
    group_key_sql,
    shard_sql,
    validate_events,
)

RECORD_TIME = datetime(2024, 5, 1, 12, tzinfo=UTC)
SCHEMA = "key binary, value binary, topic string, kafka_partition int, kafka_offset bigint, record_time timestamp"
OF_ALL_TYPES = """\
[fleet]
group = ["text", "whole", "flag", "day"]
event_id = "id"
event_time = "at"
target = "y"
features = ["x"]
shards = 7
[fleet.columns]
text = "string"
whole = "bigint"
flag = "boolean"
day = "date"
x = "double"
y = "double"
[kafka]
events = "e"
[storage]
root = "r"
"""
AWKWARD = ['"', "\\", "/", "'", "ü€𝄞", "\u2028", "</x>", "a,b", "[]", " ", "null", "{}", "\u00a0", "\ufeff", "`"]


def drawn() -> list[tuple[Any, ...]]:
    """Keys from hypothesis, collected so that Spark sees all of them at once. No control characters: dead letters."""
    cases: list[tuple[Any, ...]] = [(text, -(2**63), True, date(1, 1, 1)) for text in AWKWARD]
    cases += [("", 2**63 - 1, False, date(9999, 12, 31)), (None, None, None, None)]
    texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
    wholes = st.integers(-(2**63), 2**63 - 1)

    @examples(300)
    @given(st.tuples(st.none() | texts, st.none() | wholes, st.none() | st.booleans(), st.none() | st.dates()))
    def collect(case: tuple[Any, ...]) -> None:
        cases.append(case)

    collect()
    return cases


def test_keys_and_shards_in_sql_are_those_of_the_core(spark) -> None:
    config, cases = parse(OF_ALL_TYPES, "fleet.toml", {}), drawn()
    rows = spark.createDataFrame(
        [(n, *case) for n, case in enumerate(cases)], "n int, text string, whole bigint, flag boolean, day date"
    )
    found = rows.selectExpr("n", f"{group_key_sql(config.fleet.group)} AS group_key").selectExpr(
        "*", f"{shard_sql(config.fleet.shards)} AS shard"
    )
    by_number = {row.n: (row.group_key, row.shard) for row in found.collect()}
    for n, case in enumerate(cases):
        key = keys.encode(case)
        assert by_number[n] == (key, keys.shard_of(key, 7)), case


GOOD = {"shop": "a", "dept": 1, "sale": "s", "at": "2024-05-01T10:00:00Z", "price": 1.5, "stock": 2, "sold": 3}


def event(**changes: Any) -> bytes:
    changed = {**GOOD, **changes}
    return json.dumps({name: value for name, value in changed.items() if value is not ...}).encode()


def raw(before: str, after: str) -> bytes:
    """What json.dumps would not write."""
    text = event().decode()
    assert before in text
    return text.replace(before, after).encode()


# Each record and the only reason that it may be given; None: it is valid.
RECORDS: list[tuple[str, bytes | None, Reason | None]] = [
    ("as it should be", event(), None),
    ("a null feature", event(price=None), None),
    ("an absent feature", event(price=...), None),
    ("an event needs no late label", event(sold=...), None),
    ("a whole number for a double", event(price=7), None),
    ("an hour ahead of its record", event(at="2024-05-01T13:00:00Z"), None),
    ("another zone", event(at="2024-05-01T14:59:59.123456+02:00"), None),
    ("a time without a zone", event(at="2024-05-01 10:00"), None),
    ("512 characters", event(sale="x" * 512), None),
    ("quotes in the key", event(shop='"\\'), None),
    ("a tombstone", None, Reason.NULL_VALUE),
    ("a megabyte and a byte", event(sale="x" * (1 << 20)), Reason.TOO_LARGE),
    ("not UTF-8", event()[:-1] + b'\xff"}', Reason.NOT_UTF8),
    ("nothing", b"", Reason.NOT_JSON),
    ("blanks", b"  ", Reason.NOT_JSON),
    ("no JSON", b"sale;12", Reason.NOT_JSON),
    ("cut off", event()[:-1], Reason.NOT_JSON),
    ("trailing text", event() + b" x", Reason.NOT_JSON),
    ("two objects", event() + event(), Reason.NOT_JSON),
    ("two objects with a comma", event() + b"," + event(), Reason.NOT_JSON),
    ("NaN", raw("1.5", "NaN"), Reason.NOT_JSON),
    ("Infinity", raw("1.5", "Infinity"), Reason.NOT_JSON),
    ("a field twice", raw('"stock"', '"price": 2, "stock"'), Reason.DUPLICATE_FIELD),
    ("a name twice, deep", event(extra={"a": {"b": 1}})[:-3] + b', "b": 2}}}', Reason.DUPLICATE_FIELD),
    ("an array", b"[" + event() + b"]", Reason.NOT_AN_OBJECT),
    ("a number", b"12", Reason.NOT_AN_OBJECT),
    ("a text", b'"12"', Reason.NOT_AN_OBJECT),
    ("null", b"null", Reason.NOT_AN_OBJECT),
    ("no id", event(sale=...), Reason.MISSING_FIELD),
    ("a null time", event(at=None), Reason.MISSING_FIELD),
    ("a null key", event(shop=None), Reason.NULL_KEY),
    ("no key", event(dept=...), Reason.NULL_KEY),
    ("a number as text", event(price="1.5"), None),
    ("a text as number", event(sale=12), None),
    ("words for a number", event(price="many"), Reason.WRONG_TYPE),
    ("a truth for a text", event(sale=True), Reason.WRONG_TYPE),
    ("half of a surrogate pair", raw('"s"', '"a\\ud83d"'), Reason.NOT_UTF8),
    ("a byte order mark", b"\xef\xbb\xbf" + event(), Reason.NOT_JSON),
    ("nested a thousand times", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, Reason.NOT_JSON),
    ("a number of a million digits", raw("1.5", "1" * 1_000_000), Reason.NOT_FINITE),
    ("a fraction for a whole number", event(stock=1.5), Reason.WRONG_TYPE),
    ("too large for an int", event(stock=2**31), Reason.WRONG_TYPE),
    ("a truth for a number", event(price=True), Reason.WRONG_TYPE),
    ("an array for a number", event(price=[1]), Reason.WRONG_TYPE),
    ("a number of seconds for a time", event(at=1714557600), Reason.WRONG_TYPE),
    ("a day that is none", event(at="2024-02-30T10:00:00Z"), Reason.WRONG_TYPE),
    ("a time in words", event(at="now"), Reason.WRONG_TYPE),
    ("a number beyond a double", raw("1.5", "1e999"), Reason.NOT_FINITE),
    ("an empty id", event(sale=""), Reason.EMPTY_ID),
    ("an empty key", event(shop=""), Reason.EMPTY_ID),
    ("513 characters", event(sale="x" * 513), Reason.ID_TOO_LONG),
    ("a control character", event(sale="a\u0001"), Reason.CONTROL_CHARACTER),
    ("a line break in the key", event(shop="a\nb"), Reason.CONTROL_CHARACTER),
    ("above its range", event(stock=101), Reason.OUT_OF_RANGE),
    ("below its range", event(stock=-1), Reason.OUT_OF_RANGE),
    ("more than an hour ahead", event(at="2024-05-01T13:00:01Z"), Reason.TIME_OUT_OF_RANGE),
    ("in 2099", event(at="2099-01-01T00:00:00Z"), Reason.TIME_OUT_OF_RANGE),
    ("in the year 1", event(at="0001-01-01T00:00:00Z"), Reason.TIME_OUT_OF_RANGE),
]
RANGED = ("[recipe]", "[fleet.ranges]\nstock = [0, 100]\n[recipe]")


def records(spark, values: list[bytes | None], positions: list[tuple[str, int, int]] | None = None):
    at = positions or [("sales", 0, n) for n in range(len(values))]
    rows = [(None, bytearray(v) if v is not None else None, *at[n], RECORD_TIME) for n, v in enumerate(values)]
    return spark.createDataFrame(rows, SCHEMA)


def test_each_kind_of_bad_record_has_its_one_reason_and_good_ones_none(spark, configured) -> None:
    values = [value for _, value, _ in RECORDS]
    found = validate_events(records(spark, values), configured(RANGED).record_schema)
    named = {"reason": F.col(REASON), "detail": F.col(DETAIL), "field": F.col(FIELD)}
    by_offset = {row.kafka_offset: row for row in found.withColumns(named).collect()}
    got = {name: by_offset[n].reason for n, (name, _, _) in enumerate(RECORDS)}
    assert got == {name: reason for name, _, reason in RECORDS}
    assert {reason for _, _, reason in RECORDS} - {None} == set(Reason), "a reason that no record has"
    concerned = {name: by_offset[n].field for n, (name, _, _) in enumerate(RECORDS)}
    assert concerned["words for a number"] == "price"
    assert concerned["below its range"] == "stock"
    assert concerned["in 2099"] == "at"
    assert concerned["no JSON"] is None
    for row in by_offset.values():
        assert (row.detail is None) == (row.reason is None)
        assert len(row.detail or "") <= 500


def test_a_filter_on_the_reason_judges_no_record_again(spark, configured, capsys) -> None:
    """Pushed below the projections, it would bring every step of the checks with it: twenty times the work, unseen."""
    validated = validate_events(records(spark, [event()]), configured().record_schema)
    validated.filter(f"{REASON} IS NULL").explain("extended")
    optimised = capsys.readouterr().out.partition("== Optimized Logical Plan ==")[2].partition("==")[0]
    assert optimised.count("validate_batches(") == 1


def test_the_rows_that_are_stored_are_those_that_are_scored_and_the_others_have_the_same_reasons(
    spark, configured
) -> None:
    """`ingest` computes in Python what `score` computes in SQL: types, keys, shards, reasons."""
    schema = configured(RANGED).record_schema
    values = [value for _, value, _ in RECORDS] + [event(shop=text) for text in AWKWARD]
    scored = validate_events(records(spark, values), schema).toArrow().to_pylist()
    stored = stored_rows(schema, ()).of([unvalidated(values, "sales", RECORD_TIME)])
    by_offset = {row["kafka_offset"]: (kind, row) for kind, rows in stored for row in rows.to_pylist()}
    assert len(by_offset) == len(values)
    for row in scored:
        kind, found = by_offset[row["kafka_offset"]]
        assert kind == ("dead" if row[REASON] else "event")
        said = {"reason": row.pop(REASON), "detail": row.pop(DETAIL), "field": row.pop(FIELD)}
        expected = said if kind == "dead" else row
        assert {name: found[name] for name in expected} == expected


def test_an_edited_range_holds_from_its_offset_on_in_each_topic_and_partition(spark, configured) -> None:
    editions = (
        Edition(ValidationSettings({"stock": (0, 10)})),
        Edition(ValidationSettings({"stock": (0, 20)}), {"sales": {"0": 5, "1": 100}}),
        Edition(ValidationSettings(), {"sales": {"0": 8, "1": 100}}),
    )
    expected = {
        ("sales", 0, 4, 15): "out_of_range", ("sales", 0, 5, 15): None, ("sales", 0, 7, 21): "out_of_range",
        ("sales", 0, 8, 21): None, ("sales", 1, 99, 15): "out_of_range", ("sales", 1, 100, 99): None,
        # A partition or topic that no edition names is validated by the last one from its start.
        ("sales", 2, 0, 99): None, ("other", 0, 0, 99): None,
    }  # fmt: skip
    values = [event(stock=stock) for *_, stock in expected]
    positions = [(topic, partition, offset) for topic, partition, offset, _ in expected]
    validated = validate_events(
        records(spark, values, positions), configured().record_schema, editions=editions
    ).collect()
    got = {(row.topic, row.kafka_partition, row.kafka_offset): row[REASON] for row in validated}
    assert got == {position[:3]: reason for position, reason in expected.items()}


NESTED = {"price": "cost", "stock": "after.stock"}


def test_what_judging_depends_on_holds_by_offset_and_records_are_read_under_the_names_of_their_fields(
    spark, configured
) -> None:
    fields = "\n".join(f'{name} = "{source}"' for name, source in NESTED.items())
    edited = (
        ('price = "double"', 'price = "double"\nseen = "timestamp"'),
        ("[recipe]", f"[fleet.fields]\n{fields}\n[recipe]"),
    )
    editions = (
        Edition(ValidationSettings({"stock": (0, 10)}, coerce=False)),
        Edition(ValidationSettings({}, {"price": "cost"}, {"seen": "ms"}), {"sales": {"0": 1}}),
        Edition(ValidationSettings({}, NESTED, {"seen": "s"}, missing=("n/a",)), {"sales": {"0": 3}}),
    )
    values = [
        event(price="1.5"),
        event(price=..., cost="1.5", seen=1_714_557_600_000),
        event(price=..., cost=2, seen=1_714_557_600_000),
        event(price=..., cost="n/a", after={"stock": 7}, seen=1_714_557_600),
    ]
    found = validate_events(records(spark, values), configured(*edited).record_schema, editions=editions)
    rows = found.orderBy("kafka_offset").toArrow().to_pylist()
    assert [(row[REASON], row[FIELD]) for row in rows] == [("wrong_type", "price"), *[(None, None)] * 3]
    assert [(row["price"], row["stock"]) for row in rows[1:]] == [(1.5, 2), (2.0, 2), (None, 7)]
    assert {row["seen"] for row in rows[1:]} == {datetime(2024, 5, 1, 10, tzinfo=UTC)}


def test_the_id_may_have_any_name(spark, configured) -> None:
    name = "it's the `id` \\ of.it"
    config = configured(('event_id = "sale"', f"event_id = {json.dumps(name)}"))
    value = {**{field: each for field, each in GOOD.items() if field != "sale"}, name: "s"}
    (row,) = validate_events(records(spark, [json.dumps(value).encode()]), config.record_schema).collect()
    assert (row[REASON], row.event_id) == (None, "s")
