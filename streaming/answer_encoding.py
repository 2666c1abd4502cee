"""The answers of a shard as few values: Arrow batches in a binary column.

Spark converts the rows of a Python worker value by value, and again for the driver. A batch in a binary column is
passed on unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from schemas import tables
from spinney.core.state_codec import encode_batch
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

COLUMN = "answers"
"""The column with the encoded answers in the query's result."""

DDL = f"{COLUMN} binary"
ROWS_PER_VALUE = 10_000
"""Largest number of rows in a value. A value must fit into memory several times, even if answers have many classes."""

Column = pd.Series | npt.NDArray[Any]


def answer_schema(store: FleetStore) -> pa.Schema:
    """Return the columns of an answer: those of `predictions` without the batch's id."""
    whole = arrow_schema(store.contract(tables.PREDICTIONS))
    return pa.schema([field for field in whole if field.name != "batch_id"])


def encode_answers(answers: Mapping[str, Column], same: Mapping[str, Any], schema: pa.Schema) -> Iterator[bytes]:
    """Yield the rows as values of up to ROWS_PER_VALUE rows.

    answers: columns of shape (n_rows,); of a time, microseconds since 1970. same: values that all rows have. The other
    columns are null. schema: from `answer_schema`.
    """
    rows = len(answers["event_id"])
    columns = [
        _to_arrow(np.asarray(answers[field.name]), field.type)
        if field.name in answers
        else pa.repeat(pa.scalar(same.get(field.name), field.type), rows)
        for field in schema
    ]
    whole = pa.RecordBatch.from_arrays(columns, schema=schema)
    for first in range(0, rows, ROWS_PER_VALUE):
        yield encode_batch(whole.slice(first, ROWS_PER_VALUE))


def _to_arrow(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values.astype(np.int64)).cast(kind)
    if pa.types.is_map(kind):
        return pa.array([None if value is None else list(value.items()) for value in values], kind)
    return pa.array(values, kind, from_pandas=True)


def decode_answers(values: Iterable[pa.Buffer], schema: pa.Schema) -> pa.Table:
    """Return the rows of these values, one chunk for each, without a copy."""
    return pa.Table.from_batches([pa.ipc.open_stream(value).read_next_batch() for value in values], schema)
