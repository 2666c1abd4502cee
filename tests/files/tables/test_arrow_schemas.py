from __future__ import annotations

import pyarrow as pa
import pytest

from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.core.features.encoding import DAY_US, NULL_TIME, to_microseconds
from spinney.tables.arrow_schemas import arrow_schema, to_pandas


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
