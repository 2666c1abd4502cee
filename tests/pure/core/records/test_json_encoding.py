"""Rows as JSON objects; the oracle is Python's own parser."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.records.json_encoding import encode_json_objects

TYPES = {
    "text": pa.string(),
    "number": pa.float64(),
    "at": pa.timestamp("us", "UTC"),
    "odds": pa.map_(pa.string(), pa.float64()),
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
TIMES = st.datetimes(min_value=datetime(1, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - of the given zone
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | TEXTS,
            "number": st.none() | st.floats(),
            "at": st.none() | TIMES,
            "odds": st.none() | st.dictionaries(TEXTS, st.floats(0, 1)).map(lambda odds: list(odds.items())),
        }
    )
)


def batch(rows: list[dict]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=pa.schema(TYPES))


def expected(row: dict) -> dict:
    number, at, odds = row["number"], row["at"], row["odds"]
    return {
        "text": row["text"],
        "number": number if number is not None and math.isfinite(number) else None,
        "at": None if at is None else at.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0"),
        "odds": None if odds is None else dict(odds),
    }


@given(ROWS)
def test_every_row_is_read_as_it_was(rows: list[dict]) -> None:
    report = [json.loads(text) for text in encode_json_objects(batch(rows)).to_pylist()]
    assert report == [expected(row) for row in rows]
    assert [list(each) for each in report] == [list(TYPES)] * len(rows)


@given(ROWS, st.integers(0, 3))
def test_a_slice_is_written_as_its_rows_are(rows: list[dict], first: int) -> None:
    whole = encode_json_objects(batch(rows)).to_pylist()
    assert encode_json_objects(batch(rows).slice(first)).to_pylist() == whole[first:]


def test_the_text_is_compact_and_whole_numbers_keep_their_point() -> None:
    row = {"text": 'a "b" \\ é\n', "number": -3.0, "at": datetime(2024, 5, 1, 7, 0, 0, 5, UTC), "odds": [("x", 0.25)]}
    (text,) = encode_json_objects(batch([row])).to_pylist()
    assert text == ('{"text":"a \\"b\\" \\\\ é\\n","number":-3.0,"at":"2024-05-01T07:00:00.000005Z","odds":{"x":0.25}}')


def test_a_column_of_another_type_is_refused_by_name() -> None:
    rows = pa.RecordBatch.from_pydict({"shard": pa.array([1], pa.int32())})
    with pytest.raises(ValueError, match="column shard: expected text, a double, a time or a map; got int32"):
        encode_json_objects(rows)
