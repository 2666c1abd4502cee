"""Spark SQL types as Arrow types."""

from __future__ import annotations

import re

import pyarrow as pa

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
    """Return the Arrow type of a Spark SQL type. Raises ValueError for a type that no contract uses."""
    if spark_type in _SCALARS:
        return _SCALARS[spark_type]
    if match := re.fullmatch(r"decimal\((\d+), ?(\d+)\)", spark_type):
        return pa.decimal128(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"array<(.+)>", spark_type):
        return pa.list_(arrow_type(match[1]))
    if match := re.fullmatch(r"map<(\w+), ?(.+)>", spark_type):
        return pa.map_(arrow_type(match[1]), arrow_type(match[2]))
    msg = f"no Arrow type known for Spark SQL type {spark_type!r}"
    raise ValueError(msg)
