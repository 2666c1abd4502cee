"""Choose which values of a long sequence to keep, so that the kept ones are evenly spaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def is_evenly_spaced(place: npt.NDArray[Any], length: npt.NDArray[Any] | int, most: int) -> npt.NDArray[np.bool_]:
    """Return, for each value, whether it is kept: `most` of each sequence, its first and last value included.

    place: position of the value in its sequence, from 0, shape (n,). length: number of values of its sequence, shape
    (n,) or one number for all. Sequences of at most `most` values are kept whole. most: at least 2.
    """
    gaps, steps = np.maximum(length - 1, 1), most - 1
    nearest = -(-place * steps // gaps)  # rounded up: the only kept number whose place can be this one
    is_kept: npt.NDArray[np.bool_] = (length <= most) | (nearest * gaps // steps == place)
    return is_kept
