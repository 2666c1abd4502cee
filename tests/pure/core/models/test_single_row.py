"""Single rows in plain Python. The oracle puts the row into an Arrow table and predicts it by arrays."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.arrow_types import arrow_type
from spinney.core.errors import ContractError
from spinney.core.features.arrow_encoding import table_to_columns
from spinney.core.features.encoding import Encoder, static_column_names
from spinney.core.models.batch_scoring import predict_by_index
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.single_row import predict_row
from spinney.core.recipes.recipe import Feature

WORDS = ("", "a", "b", "ß", "x y")
DOUBLES = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324])
MICROSECONDS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)  # years 1 to 9999
INSTANTS = MICROSECONDS.map(lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us))
VALUES = {
    "double": DOUBLES,
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "bigint": st.integers(-(1 << 63), (1 << 63) - 1),
    "tinyint": st.integers(-128, 127),
    "boolean": st.booleans(),
    "decimal(38,3)": st.decimals(-(10**34), 10**34, places=3),
    "decimal(8,2)": st.decimals(-(10**6) + 1, 10**6 - 1, places=2),
    "string": st.sampled_from(WORDS),
    "timestamp": INSTANTS,
    "date": st.dates(date(1, 1, 1), date(9999, 12, 31)),
}
LINKS = {Link.IDENTITY: 1, Link.LOGISTIC: 1, Link.SOFTMAX: 3, Link.CONSTANT: 3}


@st.composite
def models(draw: st.DrawFn) -> Model:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=5))
    features = tuple(Feature(f"f{n}", kind) for n, kind in enumerate(kinds))
    words = st.lists(st.sampled_from(WORDS), max_size=4, unique=True).map(tuple)
    encoder = Encoder(features, tuple(draw(words) for kind in kinds if kind == "string"))
    link = draw(st.sampled_from(list(LINKS)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([1e-12, 1.0, 1e3, 1e300]))
    arrays = [random.normal(size=LINKS[link]), random.normal(size=(LINKS[link], encoder.width)) * scale]
    classes = None if link is Link.IDENTITY else ("no", "yes", "maybe")[: 2 if link is Link.LOGISTIC else 3]
    limits = None
    if draw(st.booleans()):
        middle, reach = random.normal(size=encoder.width), np.abs(random.standard_cauchy(size=encoder.width))
        limits = np.stack([middle - reach, middle + reach])
    return Model(encoder, Linear(link, *arrays, random.normal(size=encoder.width), limits=limits), classes)


@st.composite
def models_and_rows(draw: st.DrawFn) -> tuple[Model, dict[str, Any]]:
    model = draw(models())
    row = {feature.name: draw(st.none() | VALUES[feature.type]) for feature in model.encoder.features}
    return model, row | {"other": "never read"}


def bits(number: float | None) -> bytes | None:
    return None if number is None or np.isnan(number) else struct.pack("<d", number)


@given(models_and_rows())
@examples(400)
def test_a_single_row_has_the_bits_that_it_has_in_a_table(drawn: tuple[Model, dict[str, Any]]) -> None:
    model, row = drawn
    types = {feature.name: arrow_type(feature.type) for feature in model.encoder.features}
    table = pa.table({name: pa.array([row[name]], kind) for name, kind in types.items()})
    expected = predict_by_index(table, np.zeros(1, np.int64), ["m"], {"m": model})
    prediction, probabilities = predict_row(model, row)
    if model.classes is None:
        assert bits(prediction) == bits(expected.prediction[0])
        return
    assert prediction == expected.prediction[0]
    listed = [None if found is None else {name: bits(p) for name, p in found.items()} for found in
              (probabilities, expected.probabilities[0])]  # fmt: skip
    assert listed[0] == listed[1]


def test_a_missing_number_is_filled_and_a_word_adds_its_weight() -> None:
    features = (Feature("x", "double"), Feature("s", "string"), Feature("z", "bigint"))
    linear = Linear(Link.IDENTITY, np.array([1.0]), np.array([[2.0, 3.0, 10.0, 20.0]]), np.array([5.0, 0.0, 0.0, 0.0]))
    model = Model(Encoder(features, (("a", "b"),)), linear)
    assert predict_row(model, {"x": None, "s": "b", "z": 4}) == (1 + 2 * 5 + 3 * 4 + 20, None)
    assert predict_row(model, {"x": 1.0, "s": "c", "z": None}) == (1 + 2 * 1, None)
    assert predict_row(model, {"x": 1.0, "s": None, "z": Decimal(1)}) == (1 + 2 * 1 + 3, None)


def test_times_are_encoded_in_the_order_of_the_columns() -> None:
    features = (Feature("at", "timestamp"), Feature("day", "date"))
    width = len(static_column_names(features))
    row = {"at": datetime(2024, 5, 6, 6, 0, tzinfo=UTC), "day": date(2024, 5, 7)}  # Monday, Tuesday
    for column, expected in ((0, 1.0), (2, 0.0), (6, np.sin(2 * np.pi / 7))):  # a quarter of the day; weekdays 0, 1
        weights = np.zeros((1, width))
        weights[0, column] = 1.0
        model = Model(Encoder(features), Linear(Link.IDENTITY, np.zeros(1), weights, np.zeros(width)))
        prediction, _ = predict_row(model, row)
        assert prediction == pytest.approx(expected)


def test_a_number_beyond_a_limit_counts_as_the_limit_in_one_row_and_in_a_table() -> None:
    features, limits = (Feature("x", "double"), Feature("z", "double")), np.array([[-1.0, 0.0], [2.0, np.inf]])
    linear = Linear(Link.IDENTITY, np.zeros(1), np.array([[1.0, 10.0]]), np.array([9.0, 0.0]), limits=limits)
    model = Model(Encoder(features), linear)
    rows = [(-5.0, 3.0, 29.0), (1.5, -4.0, 1.5), (7.0, 1e6, 1e7 + 2), (None, 0.0, 2.0)]
    assert [predict_row(model, {"x": x, "z": z})[0] for x, z, _ in rows] == [expected for *_, expected in rows]
    frame = pd.DataFrame({"x": [x for x, _, _ in rows], "z": [z for _, z, _ in rows]}, dtype="float64")
    assert model.predict(frame).tolist() == [expected for *_, expected in rows]


@pytest.mark.parametrize(
    ("kind", "value"),
    [("double", "1"), ("string", 1.0), ("date", datetime(2024, 5, 1, tzinfo=UTC)), ("timestamp", date(2024, 5, 1)),
     ("double", timedelta(1))],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused(kind: str, value: Any) -> None:
    encoder = Encoder((Feature("x", kind),), (("a",),) if kind == "string" else ())
    linear = Linear(Link.IDENTITY, np.zeros(1), np.zeros((1, encoder.width)), np.zeros(encoder.width))
    with pytest.raises(TypeError, match="expected"):
        predict_row(Model(encoder, linear), {"x": value})


def test_a_missing_feature_is_refused_with_the_words_of_a_table() -> None:
    encoder = Encoder((Feature("x", "double"),))
    model = Model(encoder, Linear(Link.IDENTITY, np.zeros(1), np.zeros((1, 1)), np.zeros(1)))
    with pytest.raises(ContractError) as of_table:
        table_to_columns(pa.table({"y": [1.0]}), encoder.features)
    with pytest.raises(ContractError) as of_row:
        predict_row(model, {"y": 1.0})
    assert str(of_row.value) == str(of_table.value)
