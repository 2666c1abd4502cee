"""Which NumPy types a payload of the codec `sklearn-arrays` may hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spinney.core.models.arrays.packed_trees import InexpressibleError

PLAIN = (bool, int, float, str)
"""Types of values that are written into the description unchanged."""

DTYPE_KINDS = "biufSU"
"""Kinds of NumPy types that an array may have: no objects, no structures, no times."""

TYPES = {name: getattr(np, name) for name in ("float64", "float32", "int64", "int32", "uint8", "bool_", "object_")}
"""NumPy types that may themselves be stored as values, such as the `dtype` of an encoder."""


def require_supported(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type if an array may have it. Raises InexpressibleError otherwise."""
    if dtype.kind not in DTYPE_KINDS or not dtype.isnative or dtype.names or dtype.subdtype or not dtype.itemsize:
        raise InexpressibleError(f"the type {dtype}")
    return dtype


def n_values(shape: Sequence[int]) -> int:
    """Return the number of values of an array of this shape, as a Python integer, which cannot overflow."""
    values = 1
    for size in shape:
        values *= size
    return values
