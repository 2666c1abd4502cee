"""Held-out losses of many champions at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spinney.core.champions.held_out_loss_codec import LISTS, LOSS_NAME, name_byte

_FLOAT = np.dtype("<f4")
_MULTIPLE = 8


def pack_column(column: pa.ChunkedArray | pa.Array, loss_names: pa.ChunkedArray | None = None) -> list[bytes | None]:
    """Return the packed losses of each row of a column of lists; None where the list is null.

    loss_names: of the same rows; None, or null, where they are not known.
    """
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(lists) or pa.types.is_null(lists.type):
        return [None] * len(lists)
    values = np.asarray(lists.values.cast(pa.float32()), dtype=_FLOAT)
    ends = np.asarray(lists.offsets).tolist()
    are_valid = np.asarray(lists.is_valid()).tolist()
    names = [None] * len(lists) if loss_names is None else loss_names.to_pylist()
    return [
        values[ends[at] : ends[at + 1]].tobytes() + name_byte(names[at]) if is_valid else None
        for at, is_valid in enumerate(are_valid)
    ]


def pack_rows(rows: pa.Table) -> list[bytes | None]:
    """Return the packed losses of rows of `promotions`: the prequential ones, else the held-out ones, else None.

    rows: with some of `held_out_loss_codec.COLUMNS`.
    """
    names = rows.column(LOSS_NAME) if LOSS_NAME in rows.column_names else None
    packed: list[bytes | None] = [None] * rows.num_rows
    for column in reversed(LISTS):
        if column in rows.column_names:
            found = pack_column(rows.column(column), names)
            packed = [before if now is None else now for before, now in zip(packed, found, strict=True)]
    return packed


def to_matrix(packed: Sequence[bytes | None]) -> npt.NDArray[np.float64]:
    """Return the losses of several models, shape (n_models, n_losses), NaN after the last finite one of each.

    Losses that are not finite are left out. The number of columns is a multiple of eight, so that NumPy adds the values
    of a row in the same order whatever other rows there are.
    """
    sizes = np.array([len(losses or b"") // _FLOAT.itemsize for losses in packed], dtype=np.int64)
    plain = (losses[: size * _FLOAT.itemsize] for losses, size in zip(packed, sizes.tolist(), strict=True) if losses)
    values = np.frombuffer(b"".join(plain), dtype=_FLOAT).astype(np.float64)
    model = np.repeat(np.arange(len(packed)), sizes)
    is_finite = np.isfinite(values)
    model, values = model[is_finite], values[is_finite]
    sizes = np.bincount(model, minlength=len(packed))
    width = -(-int(sizes.max(initial=1)) // _MULTIPLE) * _MULTIPLE
    matrix = np.full((len(packed), width), np.nan)
    matrix[model, np.arange(len(values)) - np.repeat(np.cumsum(sizes) - sizes, sizes)] = values
    return matrix
