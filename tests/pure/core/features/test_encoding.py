from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.errors import ContractError
from spinney.core.features.encoding import (
    MAX_WORDS,
    NULL_TIME,
    Encoder,
    as_slice,
    static_column_names,
    to_columns,
    to_microseconds,
)
from spinney.core.recipes.recipe import Feature


def encoded(values: list[object], type_: str, dtype: object = object) -> list[list[float]]:
    frame = pd.DataFrame({"x": pd.Series(values, dtype=dtype)})
    columns = to_columns(frame, (Feature("x", type_),))
    return Encoder.learn(columns).matrix(columns).tolist()


def same(got: list[list[float]], expected: list[list[float]]) -> None:
    np.testing.assert_allclose(np.array(got, dtype=float), np.array(expected, dtype=float), atol=1e-15)


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        ([1.5, None, math.nan], "double", [[1.5], [math.nan], [math.nan]]),
        ([math.inf, -math.inf, -0.0], "double", [[math.nan], [math.nan], [0.0]]),
        ([7, None], "bigint", [[7.0], [math.nan]]),
        ([True, False, None], "boolean", [[1.0], [0.0], [math.nan]]),
        ([Decimal("2.50"), None], "decimal(10,2)", [[2.5], [math.nan]]),
    ],
)
def test_numbers_become_one_column(values: list[object], type_: str, expected: list[list[float]]) -> None:
    same(encoded(values, type_), expected)


@pytest.mark.parametrize("dtype", ["float32", "Float64", "Int16", "int8", "bool", "boolean"])
def test_any_pandas_type_of_a_number_is_read(dtype: str) -> None:
    same(encoded([1, 0], "double", dtype), [[1.0], [0.0]])


def test_minus_zero_is_zero() -> None:
    assert math.copysign(1, encoded([-0.0], "double")[0][0]) == 1


def test_a_timestamp_is_three_places_on_circles() -> None:
    # Monday, 1 January 2024, 06:00 UTC: a quarter of the day; first day of the week and of the year.
    quarter = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]
    moment = datetime(2024, 1, 1, 6, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=-5)))
    same(encoded([moment, elsewhere, None], "timestamp"), [quarter, quarter, [math.nan] * 6])


@pytest.mark.parametrize("dtype", ["datetime64[us, UTC]", "datetime64[ns, UTC]", "datetime64[ms]"])
def test_every_pandas_timestamp_gives_the_same(dtype: str) -> None:
    naive = [datetime(2024, 12, 31, 18, 0), datetime(1969, 12, 31, 23, 59)]  # noqa: DTZ001 - naive is read as UTC
    expected = [
        [-1.0, 0.0, *circle(1, 7), *circle(365, 366)],  # a Tuesday, the 366th day
        [*circle(1439, 1440), *circle(2, 7), *circle(364, 366)],  # a Wednesday, the 365th day
    ]
    values = pd.Series(naive).astype("datetime64[us]")
    values = (values.dt.tz_localize("UTC") if "UTC" in dtype else values).astype(dtype)
    same(encoded(list(values), "timestamp"), expected)
    columns = to_columns(pd.DataFrame({"x": values}), (Feature("x", "timestamp"),))
    same(columns.numbers.tolist(), expected)


@pytest.mark.parametrize("type_", [pa.timestamp("us", "UTC"), pa.timestamp("ms"), pa.date32()])
def test_arrows_own_times_are_read_too(type_: pa.DataType) -> None:
    values = pd.Series([pd.Timestamp("2024-01-01"), None]).astype(pd.ArrowDtype(type_))
    assert to_microseconds(values).tolist() == [1_704_067_200_000_000, NULL_TIME]


def circle(step: int, steps: int) -> list[float]:
    return [math.sin(2 * math.pi * step / steps), math.cos(2 * math.pi * step / steps)]


def test_a_date_has_no_time_of_day() -> None:
    same(encoded([date(2024, 1, 2), None], "date"), [[*circle(1, 7), *circle(1, 366)], [math.nan] * 4])


def test_a_string_becomes_a_column_for_each_value_the_most_frequent_first() -> None:
    # b comes twice; a and c once each, in the order of their names.
    same(
        encoded(["c", "b", "a", None, "b"], "string"),
        [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]],
    )


def test_a_value_not_seen_in_fitting_is_zero_everywhere() -> None:
    feature = (Feature("x", "string"),)
    encoder = Encoder.learn(to_columns(pd.DataFrame({"x": ["a", "b"]}), feature))
    assert encoder.vocabularies == (("a", "b"),)
    same(
        encoder.matrix(to_columns(pd.DataFrame({"x": ["b", "new", None]}), feature)).tolist(), [[0, 1], [0, 0], [0, 0]]
    )


def test_only_the_most_frequent_values_get_a_column() -> None:
    many = [f"v{i:02}" for i in range(MAX_WORDS + 5)]
    frame = pd.DataFrame({"x": [*many, *many[5:]]})
    encoder = Encoder.learn(to_columns(frame, (Feature("x", "string"),)))
    assert encoder.vocabularies == (tuple(many[5:]),)


def test_strings_come_after_all_others() -> None:
    features = (Feature("s", "string"), Feature("n", "double"), Feature("t", "date"))
    frame = pd.DataFrame({"s": ["a"], "n": [7.0], "t": [date(2024, 1, 1)]})
    columns = to_columns(frame, features)
    week, year = ("t.day_of_week.sin", "t.day_of_week.cos"), ("t.day_of_year.sin", "t.day_of_year.cos")
    assert static_column_names(features) == ("n", *week, *year)
    same(Encoder.learn(columns).matrix(columns).tolist(), [[7.0, 0.0, 1.0, 0.0, 1.0, 1.0]])  # a Monday, the first day


WORDS = st.lists(st.none() | st.sampled_from(["a", "b", "ü", ""]), min_size=1, max_size=12)


@given(WORDS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_encoder(words: list[str | None], random: object) -> None:
    shuffled = list(words)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    feature = (Feature("x", "string"),)
    one, other = (Encoder.learn(to_columns(pd.DataFrame({"x": w}, dtype=object), feature)) for w in (words, shuffled))
    assert one == other


@given(WORDS)
def test_an_encoder_survives_json(words: list[str | None]) -> None:
    features = (Feature("n", "double"), Feature("x", "string"))
    frame = pd.DataFrame({"n": 1.0, "x": pd.Series(words, dtype=object)})
    encoder = Encoder.learn(to_columns(frame, features))
    assert Encoder.from_data(json.loads(json.dumps(encoder.as_data()))) == encoder
    assert encoder.width == encoder.matrix(to_columns(frame, features)).shape[1]


def test_the_frame_is_left_unchanged() -> None:
    frame = pd.DataFrame({"x": [1.0, math.inf, -0.0], "s": ["a", None, "b"]}, index=[5, 5, 1])
    before = frame.copy(deep=True)
    columns = to_columns(frame, (Feature("x", "double"), Feature("s", "string")))
    Encoder.learn(columns).matrix(columns)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("values", "type_", "words"),
    [
        (["much"], "double", "feature x: expected double"),
        ([1.0], "array<double>", "timestamp; got array<double>"),
        (["2024-01-01"], "timestamp", "expected a timestamp or date; got str"),
    ],
)
def test_what_a_type_does_not_allow_is_refused(values: list[object], type_: str, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        encoded(values, type_)


def test_a_missing_feature_is_named() -> None:
    with pytest.raises(ContractError, match=r"\['y'\]"):
        to_columns(pd.DataFrame({"x": [1.0]}), (Feature("x", "double"), Feature("y", "double")))


def test_no_rows_are_no_rows() -> None:
    columns = to_columns(pd.DataFrame({"x": [], "s": []}), (Feature("x", "double"), Feature("s", "string")))
    assert Encoder.learn(columns).matrix(columns).shape == (0, 1)


@given(st.lists(st.integers(-5, 9), max_size=6), st.integers(0, 9), st.integers(0, 9))
def test_rows_by_position_or_by_slice_are_the_same_rows(chosen: list[int], first: int, last: int) -> None:
    numbers = np.arange(20.0).reshape(10, 2)
    for rows in (np.array(chosen, dtype=np.int64), np.arange(first, last + 1), np.array([False, True] * 5)):
        np.testing.assert_array_equal(numbers[as_slice(rows)], numbers[rows])


def test_consecutive_rows_are_not_copied() -> None:
    columns = to_columns(pd.DataFrame({"x": [1.0, 2.0, 3.0]}), [Feature("x", "double")])
    assert np.shares_memory(columns.take(np.array([1, 2])).numbers, columns.numbers)
    assert not np.shares_memory(columns.take(np.array([2, 1])).numbers, columns.numbers)
