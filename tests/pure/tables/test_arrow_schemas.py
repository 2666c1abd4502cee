from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.core.features.encoding import DAY_US, NULL_TIME, to_columns, to_microseconds
from spinney.core.recipes.recipe import Feature
from spinney.tables.arrow_schemas import arrow_schema, to_feature_frame, to_pandas


@pytest.mark.parametrize(
    ("spark", "arrow"),
    [
        ("string", pa.string()),
        ("tinyint", pa.int8()),
        ("bigint", pa.int64()),
        ("float", pa.float32()),
        ("date", pa.date32()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("decimal(10,2)", pa.decimal128(10, 2)),
        ("decimal(38, 18)", pa.decimal128(38, 18)),
        ("array<array<int>>", pa.list_(pa.list_(pa.int32()))),
        ("map<string,double>", pa.map_(pa.string(), pa.float64())),
        ("map<string, array<date>>", pa.map_(pa.string(), pa.list_(pa.date32()))),
    ],
)
def test_a_spark_type_has_its_arrow_type(spark: str, arrow: pa.DataType) -> None:
    assert arrow_type(spark) == arrow


def test_a_type_that_no_contract_uses_is_named() -> None:
    with pytest.raises(ValueError, match="'interval day'"):
        arrow_type("interval day")


@pytest.mark.parametrize("contract", tables.ALL, ids=lambda contract: contract.name)
def test_every_contract_has_a_schema_with_its_columns_in_order(contract) -> None:
    assert tuple(arrow_schema(contract).names) == contract.names


def test_times_and_dates_of_any_century_become_a_frame() -> None:
    ends = [253_402_300_799_999_999, -62_135_596_800_000_000, None]  # the last microsecond of 9999, the first of 1
    days = [2_932_897, -719_893, None]  # the first day of 10000, the last of the year before the year 0
    rows = pa.table({"at": pa.array(ends, pa.timestamp("us", "UTC")), "day": pa.array(days, pa.int32()).cast("date32")})
    frame = to_pandas(rows)
    assert to_microseconds(frame["at"]).tolist() == [*ends[:2], NULL_TIME]
    assert to_microseconds(frame["day"]).tolist() == [2_932_897 * DAY_US, -719_893 * DAY_US, NULL_TIME]


def test_a_frame_for_models_has_the_same_features_as_any_other() -> None:
    values = {
        "double": [1.5, None, -0.0], "float": [0.1, None, 2.0], "bigint": [1 << 40, None, 3], "int": [1, 2, 3],
        "boolean": [True, None, False], "string": ["b", None, "a"], "decimal(8,2)": [Decimal("1.25"), None, Decimal(3)],
        "date": [date(2024, 5, 31), None, date(9999, 12, 31)],
        "timestamp": [datetime(2024, 5, 31, 10, 30, tzinfo=UTC), None, datetime(1969, 1, 1, tzinfo=UTC)],
    }  # fmt: skip
    rows = pa.table({kind: pa.array(mine, arrow_type(kind)) for kind, mine in values.items()})
    features = tuple(Feature(kind, kind) for kind in values)
    for some in (rows, rows.slice(0, 1), rows.slice(1, 1), rows.slice(0, 0)):
        found, expected = (to_columns(convert(some), features) for convert in (to_feature_frame, to_pandas))
        np.testing.assert_array_equal(found.numbers, expected.numbers)
        assert (found.codes.tolist(), found.words) == (expected.codes.tolist(), expected.words)
