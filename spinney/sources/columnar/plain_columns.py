"""Convert columns to plain Arrow types.

Views, run-length encodings and extensions hold the same values in other layouts.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

_DECIMAL_DIGITS = 38
"""Largest number of digits that a decimal of 128 bits holds."""

_UUID_BYTES, _UUID_TEXT = 16, "S36"
_DASHES = (8, 12, 16, 20)
"""Positions of a UUID's hexadecimal digits before which a dash is written."""


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that `plain_column` gives a column of this type.

    Views of texts and bytes become plain texts and bytes; run-length encoded values are written out; decimals of other
    widths get 128 bits if they fit; a UUID becomes its text; other extension types become their storage type. Of a
    struct's fields, those that share a name are dropped. All other types stay.
    """
    if isinstance(kind, pa.BaseExtensionType):
        special = {pa.UuidType: pa.string(), pa.Bool8Type: pa.bool_()}
        return special.get(type(kind)) or plain_type(kind.storage_type)
    if types.is_dictionary(kind):
        return kind if plain_type(kind.value_type) == kind.value_type else plain_type(kind.value_type)
    if types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if types.is_string_view(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    if types.is_decimal(kind) and kind.precision <= _DECIMAL_DIGITS:
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_struct(kind) and kind.num_fields:
        once = single_names(kind)
        return pa.struct([field.with_type(plain_type(field.type)) for field in kind if field.name in once])
    return kind


def plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with plain columns."""
    columns = [plain_column(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names) if columns else batch


def plain_column(column: pa.Array) -> pa.Array:
    """Return the column with the same values in the type that `plain_type` names. Raises ArrowException."""
    kind, wanted = column.type, plain_type(column.type)
    if wanted == kind:
        return column
    if isinstance(kind, pa.UuidType):
        return _texts_of_uuids(column.storage)
    if isinstance(kind, pa.Bool8Type):
        return column.cast(pa.bool_())
    if isinstance(kind, pa.BaseExtensionType):
        return plain_column(column.storage)
    if types.is_dictionary(kind):
        return plain_column(column.dictionary).take(column.indices)
    if types.is_run_end_encoded(kind):
        return plain_column(pc.run_end_decode(column))
    if types.is_struct(kind):
        return _plain_struct(column, wanted)
    return column.cast(wanted)


def single_names(kind: pa.StructType) -> frozenset[str]:
    """Return the names that occur only once in a struct.

    If several fields share a name, no path can tell them apart.
    """
    return frozenset(name for name, times in Counter(field.name for field in kind).items() if times == 1)


def _plain_struct(column: pa.StructArray, wanted: pa.StructType) -> pa.Array:
    parts = zip(column.type, column.flatten(), strict=True)
    once = single_names(column.type)
    kept = [plain_column(part) for field, part in parts if field.name in once]
    if not kept:
        return pa.nulls(len(column), pa.struct([]))
    return pa.StructArray.from_arrays(kept, fields=list(wanted), mask=column.is_null())


def _texts_of_uuids(column: pa.FixedSizeBinaryArray) -> pa.StringArray:
    """Return UUIDs as their canonical texts. column: their 16 bytes each."""
    whole = column.fill_null(bytes(_UUID_BYTES)).cast(pa.binary()).to_numpy(zero_copy_only=False)
    digits = np.frombuffer(b"".join(whole).hex().encode(), np.uint8).reshape(-1, 2 * _UUID_BYTES)
    texts = np.insert(digits, _DASHES, ord("-"), axis=1).view(_UUID_TEXT).ravel()
    return pa.array(texts, mask=np.asarray(column.is_null())).cast(pa.string())
