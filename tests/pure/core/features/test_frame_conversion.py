"""A person's frame, column by column."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from schemas import messages
from spinney.core.config import parse
from spinney.core.errors import ContractError
from spinney.core.features.encoding import NULL_TIME, to_columns
from spinney.core.features.frame_conversion import to_typed_rows
from spinney.core.recipes.recipe import Feature
from spinney.core.records.rules import build_rules
from spinney.core.records.validation import validate

TYPES = {
    "n": "int", "t": "tinyint", "g": "bigint", "f": "float", "d": "double", "m": "decimal(5,2)", "b": "boolean",
    "s": "string", "day": "date", "stamp": "timestamp",
}  # fmt: skip


def text(feature: str = "d", group: str = "s") -> str:
    columns = "\n".join(f'{name} = "{kind}"' for name, kind in TYPES.items())
    return f"""\
[fleet]
name = "x"
group = ["{group}"]
event_id = "id"
event_time = "at"
target = "y"
features = ["{feature}"]
[fleet.columns]
{columns}
y = "double"
[kafka]
events = "e"
[storage]
root = "root"
"""


def config(feature: str = "d", group: str = "s"):
    return parse(text(feature, group), "fleet.toml", {})


def of(feature: str, values: Any) -> pd.Series:
    """The column after it was read; the rows are of one group."""
    group, key = ("n", 1) if feature == "s" else ("s", "k")
    return to_typed_rows(pd.DataFrame({feature: values}).assign(**{group: key}), config(feature, group).record_schema)[
        1
    ][feature]


def numbers(feature: str, values: Any) -> list[float]:
    """As an estimator gets them."""
    return to_columns(of(feature, values).to_frame(), [Feature(feature, TYPES[feature])]).numbers[:, 0].tolist()


def test_decimals_of_all_digits_that_the_type_has_are_kept() -> None:
    wide = [Decimal("9" * 38), Decimal("-" + "9" * 29 + ".4")]
    held = parse(text("m").replace("decimal(5,2)", "decimal(38,0)"), "fleet.toml", {})
    frame = pd.DataFrame({"m": pd.Series(wide, dtype=object), "s": "k"})
    assert to_typed_rows(frame, held.record_schema)[1]["m"].tolist() == [Decimal("9" * 38), Decimal("-" + "9" * 29)]


@pytest.mark.parametrize(
    ("feature", "values", "expected"),
    [
        ("n", [1, 2], [1.0, 2.0]),
        ("n", [1.0, None], [1.0, np.nan]),
        ("n", pd.Series([1, None], dtype="Int64"), [1.0, np.nan]),
        ("n", pd.Series([1, 2], dtype="category"), [1.0, 2.0]),
        ("n", [None, None], [np.nan, np.nan]),
        ("d", [1, 2.5], [1.0, 2.5]),
        ("d", pd.Series([Decimal("1.5"), None], dtype=object), [1.5, np.nan]),
        ("d", [1.0, np.nan], [1.0, np.nan]),
        ("f", [0.1], [0.10000000149011612]),
        ("m", [1.005, -2.345, None], [1.01, -2.35, np.nan]),
        ("m", pd.Series([Decimal("1.239")], dtype=object), [1.24]),
        ("b", [True, False], [1.0, 0.0]),
        ("b", pd.Series([True, None], dtype=object), [1.0, np.nan]),
    ],
)
def test_what_fits_a_type_becomes_the_number_that_the_stream_has(
    feature: str, values: Any, expected: list[float]
) -> None:
    np.testing.assert_array_equal(numbers(feature, values), expected)


def test_texts_and_times_stay_what_they_are() -> None:
    assert of("s", ["a", None]).tolist() == ["a", None]
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert of("stamp", [noon]).tolist() == [noon]
    assert of("day", [date(2024, 5, 1), None]).tolist() == [date(2024, 5, 1), None]
    assert of("day", pd.to_datetime(["2024-05-01"]).to_series(index=[0])).tolist() == [date(2024, 5, 1)]


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
ISO = ["2024-05-01T12:00:00Z", "2024-05-01T14:00+02:00", "2024-05-01 12:00", "20240501T120000Z"]
SECONDS = 1_714_564_800


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Declares the column `stamp` anew."""
    return lambda kind: monkeypatch.setitem(TYPES, "stamp", kind)


@pytest.mark.parametrize("kind", ["timestamp", "timestamp(s)", "timestamp(us)", "timestamp(year)"])
@pytest.mark.parametrize("value", [*ISO, pd.Timestamp(NOON), NOON])
def test_a_time_may_be_iso_text_whatever_the_column_declares(declared, kind: str, value: Any) -> None:
    declared(kind)
    read = of("stamp", [value, None])
    assert (read[0], pd.isna(read[1])) == (NOON, True)
    assert of("stamp", pd.Series([value, "2024-05-01T12:00Z"], dtype=object)).tolist() == [NOON, NOON]


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_numbers_are_read_in_the_unit_that_the_column_declares(declared, unit: str, per_second: int) -> None:
    declared(f"timestamp({unit})")
    number = SECONDS * per_second
    for values in ([number, number], [number, None], [float(number), ""], [str(number), f"{number}.0"]):
        read = of("stamp", values)
        assert [at for at in read if not pd.isna(at)] == [NOON] * sum(value not in (None, "") for value in values)
    mixed = pd.Series([number, "2024-05-01T12:00Z", Decimal(number), np.int64(number), NOON], dtype=object)
    assert of("stamp", mixed).tolist() == [NOON] * 5
    # A small number of a fine unit, and a large one of a coarse unit, are no other unit's.
    assert of("stamp", [12 * per_second]).tolist() == [datetime(1970, 1, 1, 0, 0, 12, tzinfo=UTC)]
    assert of("stamp", [200_000_000_000 * per_second]).tolist() == [datetime(8307, 10, 1, 19, 33, 20, tzinfo=UTC)]


def test_years_are_read_where_the_column_declares_them(declared) -> None:
    declared("timestamp(year)")
    beginning = datetime(2013, 1, 1, tzinfo=UTC)
    assert of("stamp", [2013, 2013.0, "2013", np.int16(2013)]).tolist() == [beginning] * 4
    with pytest.raises(
        ContractError, match=r"expected timestamp\(year\); got .*: a time is a year, in years 1 to 9999"
    ):
        of("stamp", [2013.5])


def test_digits_alone_are_a_number_where_a_unit_is_declared_and_a_date_where_none_is(declared) -> None:
    """As in records: 20240501 is a date in the basic form of ISO 8601."""
    assert of("stamp", ["20240501"]).tolist() == [datetime(2024, 5, 1, tzinfo=UTC)]
    declared("timestamp(s)")
    assert of("stamp", ["20240501"]).tolist() == [datetime(1970, 8, 23, 6, 21, 41, tzinfo=UTC)]


@pytest.mark.parametrize("values", [[SECONDS], [float(SECONDS)], [SECONDS * 1000, None], [Decimal(SECONDS)]])
def test_a_number_without_a_declared_unit_is_refused_for_the_reason_that_a_record_would_be(values: Any) -> None:
    recorded = validate(
        json.dumps({"id": "e", "at": "2024-05-01", "s": "k", "stamp": SECONDS}).encode(),
        NOON,
        build_rules(config("stamp").record_schema, messages.EVENT),
    )
    assert recorded.detail is not None
    why = recorded.detail.partition(f"the number {SECONDS}: ")[2]
    assert why.startswith("for numbers since 1970 declare the column as")
    with pytest.raises(ContractError) as refused:
        of("stamp", values)
    assert "frame: column stamp: expected timestamp; got" in str(refused.value)
    assert f"in row 0: {why}. " in str(refused.value)


LAST, FIRST = datetime(9999, 12, 31, 23, 59, tzinfo=UTC), datetime(1, 1, 1, 0, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        ("stamp", [LAST, FIRST, None]),
        ("stamp", ["9999-12-31T23:59:00Z", "0001-01-01T00:07:00Z", None]),
        ("stamp", np.array(["9999-12-31T23:59", "0001-01-01T00:07", "NaT"], dtype="datetime64[us]")),
        ("day", [LAST.date(), FIRST.date(), None]),
        ("day", ["9999-12-31", "0001-01-01", None]),
        ("day", np.array(["9999-12-31", "0001-01-01", "NaT"], dtype="datetime64[s]")),
    ],
)
def test_times_of_any_century_are_the_numbers_that_the_stream_has(feature: str, values: Any) -> None:
    """The oracle is how the stream hands them over: microseconds since 1970."""
    kind = TYPES[feature]
    micros = [253_402_300_740_000_000, -62_135_596_380_000_000, NULL_TIME]
    if kind == "date":
        micros = [253_402_214_400_000_000, -62_135_596_800_000_000, NULL_TIME]
    streamed = pd.DataFrame({feature: np.array(micros).view("datetime64[us]")})
    expected = to_columns(streamed, [Feature(feature, kind)]).numbers
    found = to_columns(of(feature, values).to_frame(), [Feature(feature, kind)]).numbers
    np.testing.assert_array_equal(found, expected)


def test_dates_may_be_iso_texts_and_an_empty_text_is_no_time() -> None:
    assert of("day", ["2024-05-01", None]).tolist() == [date(2024, 5, 1), None]
    assert of("stamp", ["", "2024-05-01T12:00Z"]).tolist() == [None, NOON]


ISO_WHY = "a time is ISO 8601,? like 2024-05-31T10:00:00Z"


@pytest.mark.parametrize(
    ("kind", "values", "got"),
    [
        ("timestamp", ["2024-05-01T12:00Z", "soon"], f"timestamp; got str 'soon' in row 1: {ISO_WHY}, years 0001"),
        ("timestamp", [True], f"timestamp; got bool '?True'? in row 0: {ISO_WHY}"),
        ("timestamp", [["2024-05-01"]], f"timestamp; got list .* in row 0: {ISO_WHY}"),
        ("timestamp(ms)", ["soon"], r"timestamp\(ms\); got str 'soon' in row 0: a time is a number of ms since 1970,"),
        ("timestamp(ms)", [1, 1e300], r"got float64 '1e\+300' in row 1: a time is a number of ms since 1970, in years"),
        ("timestamp(s)", [np.inf], "got float64 'inf' in row 0: a time is a number of s since 1970"),
        ("timestamp(s)", [True], "got bool '?True'? in row 0: a time is a number of s since 1970"),
    ],
)
def test_what_stands_for_no_time_is_refused_and_the_forms_are_named(declared, kind: str, values: Any, got: str) -> None:
    declared(kind)
    with pytest.raises(ContractError, match=got):
        of("stamp", values)


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (["01/05/2024"], "str '01/05/2024' in row 0: a date is written like 2024-05-31"),
        ([1714557600], "int64 '1714557600' in row 0: a date is written like 2024-05-31"),
        ([None, ["2024-05-01"]], "list .* in row 1: a date is written like 2024-05-31"),
    ],
)
def test_what_stands_for_no_date_is_refused_and_the_form_is_named(values: Any, got: str) -> None:
    with pytest.raises(ContractError, match=f"column day: expected date; got {got}"):
        of("day", values)


@pytest.mark.parametrize(
    ("feature", "values", "expected"),
    [
        ("d", ["1.5", " 12 ", ".5", ""], [1.5, 12.0, 0.5, None]),
        ("d", [1.5, "2", None], [1.5, 2.0, None]),
        ("n", ["3", "3.0", "1e2", 4], [3, 3, 100, 4]),
        ("m", ["1.25", "-2"], [Decimal("1.25"), Decimal("-2.00")]),
        ("b", ["true", "False", True, None], [True, False, True, None]),
    ],
)
def test_a_text_is_the_number_or_truth_that_a_record_would_have(feature: str, values: Any, expected: list[Any]) -> None:
    read = of(feature, pd.Series(values, dtype=object))
    assert [None if pd.isna(value) else value for value in read] == expected


@pytest.mark.parametrize(
    ("feature", "values", "got"),
    [
        ("n", ["3", "3.5"], "str '3.5' in row 1"),
        ("t", ["128"], "str '128' in row 0: tinyint holds -128 to 127"),
        ("d", ["1.5", "NaN"], "str 'NaN' in row 1: the number must be finite"),
        ("m", ["1.255"], "str '1.255' in row 0: at most 2 digits after the point"),
        ("b", ["on"], "str 'on' in row 0"),
    ],
)
def test_a_text_that_a_record_could_not_have_is_refused(feature: str, values: Any, got: str) -> None:
    with pytest.raises(ContractError, match=rf"column {feature}: expected .*; got {got}"):
        of(feature, values)


def test_texts_stand_for_nothing_else_where_a_fleet_does_not_coerce() -> None:
    strict = parse(text().replace('features = ["d"]', 'features = ["d"]\ncoerce = false'), "fleet.toml", {})
    with pytest.raises(ContractError, match=r"column d: expected double; got str '1.5' in row 0"):
        to_typed_rows(pd.DataFrame({"d": ["1.5"], "s": "k"}), strict.record_schema)


def test_a_key_with_leading_zeros_is_not_merged_with_another() -> None:
    with pytest.raises(ContractError, match="str '007' in row 1: its leading zeros would be lost"):
        to_typed_rows(pd.DataFrame({"n": ["7", "007"], "d": 1.0}), config(group="n").record_schema)


@pytest.mark.parametrize(
    ("feature", "values", "got"),
    [
        ("d", [1.0, "x"], "str 'x' in row 1"),
        ("d", [True], "bool '?True'? in row 0"),
        ("n", [1.0, 2.5], "float64 '2.5' in row 1"),
        ("t", [127, 128], "int64 '128' in row 1"),
        ("n", [np.inf], "float64 'inf' in row 0"),
        ("b", [1, 0], "int64 '1' in row 0"),
        ("s", ["a", 1], "int '1' in row 1"),
        ("s", ["a", ["b"]], "list .* in row 1"),
        ("d", [1.0, {"value": 2}], "dict .* in row 1"),
        ("day", [pd.Timestamp("2024-05-01T12:00")], "Timestamp '2024-05-01 12:00:00' in row 0"),
        ("m", [1.0, 12345678901234567890123456789.0], r"float64 '1.234\S*' in row 1: the number has too many digits"),
        ("m", [np.inf], "float64 'inf' in row 0: the number has too many digits, or is infinite"),
        ("d", [1.0, np.inf], "float64 'inf' in row 1: the number must be finite"),
        ("d", [Decimal("-Infinity")], "Decimal '-Infinity' in row 0: the number must be finite"),
        ("d", pd.Series([None, np.inf], dtype="Float64"), "float64 'inf' in row 1: the number must be finite"),
        ("f", [1.0, -np.inf], "float64 '-inf' in row 1: the number must be finite"),
        ("f", [1.0, 1e300], r"float64 '1e\+300' in row 1: the number must be finite"),
        ("g", [2.0**63], r"float64 '9.223372036854776e\+18' in row 0"),
        ("g", pd.Series([2**63], dtype="uint64"), "uint64 '9223372036854775808' in row 0"),
        ("g", pd.Series([1, 2**63], dtype=object), "int '9223372036854775808' in row 1"),
        ("g", pd.Series([1, np.inf], dtype=object), "float 'inf' in row 1"),
        ("n", pd.Series([None, 2**31], dtype="Int64"), "int(64)? '2147483648' in row 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_column_type_and_row(feature: str, values: Any, got: str) -> None:
    reported = rf"frame: column {feature}: expected {TYPES[feature]}; got ".replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ContractError, match=reported + got):
        of(feature, values)


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([-(2**63), 2**63 - 1], dtype="int64"),
        pd.Series([-(2**63), 2**63 - 1], dtype="Int64"),
        pd.Series([-(2**63), 2**63 - 1], dtype=object),
        pd.Series([str(-(2**63)), str(2**63 - 1)], dtype=object),
        pd.Series([Decimal(-(2**63)), Decimal(2**63 - 1)], dtype=object),
    ],
)
def test_the_least_and_the_greatest_bigint_are_read_as_they_are(values: pd.Series[Any]) -> None:
    assert of("g", values).tolist() == [-(2**63), 2**63 - 1]
    missing = pd.concat([values, pd.Series([None], dtype=values.dtype if values.dtype == "Int64" else object)])
    assert of("g", missing.reset_index(drop=True)).tolist()[:2] == [-(2**63), 2**63 - 1]


def test_a_bigint_beside_a_fraction_without_places_keeps_its_digits() -> None:
    assert of("g", pd.Series([2**63 - 1, 1.0], dtype=object)).tolist() == [2**63 - 1, 1]


def test_a_column_that_is_missing_or_there_twice_is_named() -> None:
    with pytest.raises(ContractError, match=r"column s: expected it once, a key of type string; got columns \['d'\]"):
        to_typed_rows(pd.DataFrame({"d": [1.0]}), config().record_schema)
    twice = pd.DataFrame([[1.0, 2.0, "a"]], columns=["d", "d", "s"])
    with pytest.raises(ContractError, match=r"column d: expected it once, a feature of type double; got columns"):
        to_typed_rows(twice, config().record_schema)


@pytest.mark.parametrize(
    ("group", "values", "expected"),
    [
        ("s", ["a", "ü"], ['["a"]', '["ü"]']),
        ("n", [1.0, 2.0], ['["1"]', '["2"]']),
        ("g", [2**53 + 1, 2**63 - 1], ['["9007199254740993"]', '["9223372036854775807"]']),
        ("b", [True, False], ['["true"]', '["false"]']),
        ("day", [date(2024, 5, 1), date(2024, 5, 2)], ['["2024-05-01"]', '["2024-05-02"]']),
    ],
)
def test_a_key_is_the_streams_whatever_pandas_made_of_its_column(group: str, values: Any, expected: list[str]) -> None:
    frame = pd.DataFrame({group: values, "d": 1.0})
    assert to_typed_rows(frame, config(group=group).record_schema)[0] == expected


def test_a_row_without_a_group_is_refused() -> None:
    frame = pd.DataFrame({"s": ["a", None], "d": 1.0}, index=[7, 7])
    with pytest.raises(
        ContractError, match=r"frame: column s: expected string; got null in row 1, and every row has a"
    ):
        to_typed_rows(frame, config().record_schema)


def test_the_target_is_left_out_and_what_is_not_declared_too() -> None:
    frame = pd.DataFrame({"s": ["a"], "d": 1.0, "y": ["anything"], "remark": [object()], "n": [3]}, index=[9])
    rows = to_typed_rows(frame, config().record_schema)[1]
    assert set(rows.columns) == {"s", "d", "n"}
    assert rows.index.tolist() == [9]
