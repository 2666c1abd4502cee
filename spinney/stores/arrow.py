"""Spark SQL types as Arrow types, so that tables are made and read without a JVM."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa

from schemas.contract import Contract

if TYPE_CHECKING:
    import pandas as pd

_SCALARS = {
    "string": pa.string(),
    "binary": pa.binary(),
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}


def arrow_type(spark_type: str) -> pa.DataType:
    """Raises ValueError for a type that no contract uses."""
    if spark_type in _SCALARS:
        return _SCALARS[spark_type]
    if found := re.fullmatch(r"decimal\((\d+), ?(\d+)\)", spark_type):
        return pa.decimal128(int(found[1]), int(found[2]))
    if found := re.fullmatch(r"array<(.+)>", spark_type):
        return pa.list_(arrow_type(found[1]))
    if found := re.fullmatch(r"map<(\w+), ?(.+)>", spark_type):
        return pa.map_(arrow_type(found[1]), arrow_type(found[2]))
    msg = f"no Arrow type known for Spark SQL type {spark_type!r}"
    raise ValueError(msg)


def arrow_schema(contract: Contract) -> pa.Schema:
    return pa.schema([pa.field(column.name, arrow_type(column.type)) for column in contract.columns])


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """The rows for pandas, by one thread: a forked process has no others.

    Dates become times at midnight, since Python's end in the year 9999; times keep their unit, since nanoseconds end
    in 2262.
    """
    dates = {at: each for at, each in enumerate(table.schema) if pa.types.is_date(each.type)}
    for at, each in dates.items():
        table = table.set_column(at, each.name, table.column(at).cast(pa.timestamp("s")))
    frame: pd.DataFrame = table.to_pandas(use_threads=False)
    return frame
