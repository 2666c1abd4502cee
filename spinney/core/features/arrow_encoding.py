"""Encode the features of an Arrow table, as `to_columns` does those of a frame, without making one.

For a single row a frame costs more time than everything else that answers it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from spinney.core.features.encoding import (
    DAY_US,
    NULL_TIME,
    Columns,
    Floats,
    Integers,
    encode_times,
    encoding_kind,
    require_features,
    string_features,
)
from spinney.core.recipes.recipe import Feature


def table_to_columns(rows: pa.Table, features: tuple[Feature, ...]) -> Columns:
    """Convert a table's features to Columns, the same bits as `to_columns` of its frame.

    rows: columns of the features' types, and others. Raises ContractError if a feature is missing.
    """
    require_features(rows.column_names, features)
    numbers: list[Floats] = []
    for feature in features:
        kind = "string" if feature.type == "string" else encoding_kind(feature)
        if kind == "number":
            numbers.append(_numbers(rows.column(feature.name)))
        elif kind != "string":
            numbers += encode_times(_microseconds(rows.column(feature.name)), with_minutes=kind == "timestamp")
    texts = [_codes(rows.column(feature.name)) for feature in string_features(features)]
    return Columns(
        features,
        np.column_stack(numbers) if numbers else np.empty((len(rows), 0)),
        np.column_stack([codes for codes, _ in texts]) if texts else np.empty((len(rows), 0), dtype=np.int64),
        tuple(words for _, words in texts),
    )


def _numbers(column: pa.ChunkedArray) -> Floats:
    """float64: null, NaN and infinity become NaN, minus zero becomes zero."""
    if pa.types.is_decimal(column.type):  # Arrow's cast rounds otherwise than Python
        values = np.array([np.nan if value is None else float(value) for value in column.to_pylist()])
    else:
        values = (column.cast(pa.float64()) if pa.types.is_boolean(column.type) else column).to_numpy()
    found: Floats = values.astype(np.float64) + 0.0
    found[~np.isfinite(found)] = np.nan
    return found


def _microseconds(column: pa.ChunkedArray) -> Integers:
    """Microseconds since 1970, NULL_TIME where null."""
    if pa.types.is_date(column.type):
        days = column.cast(pa.int32()).cast(pa.int64())
        return np.where(days.is_null().to_numpy(), NULL_TIME, days.fill_null(0).to_numpy() * DAY_US)
    micros: Integers = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).fill_null(NULL_TIME).to_numpy()
    return micros


def _codes(column: pa.ChunkedArray) -> tuple[Integers, tuple[str, ...]]:
    coded = column.combine_chunks().dictionary_encode()
    codes = coded.indices.cast(pa.int64()).fill_null(-1).to_numpy()
    return codes, tuple(coded.dictionary.to_pylist())
