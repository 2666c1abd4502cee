"""Which values of a long sequence are kept so that those kept are evenly spaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def is_evenly_spaced(place: npt.NDArray[Any], length: npt.NDArray[Any] | int, most: int) -> npt.NDArray[np.bool_]:
    """Return whether the value at each place of its sequence is kept: `most` of them, the first and the last included.

    place: from 0, shape (n,). length: of each one's sequence, shape (n,) or one for all; all are kept up to `most`.
    most: at least 2.
    """
    gaps, steps = np.maximum(length - 1, 1), most - 1
    nearest = -(-place * steps // gaps)  # rounded up: the only kept number whose place can be this one
    is_kept: npt.NDArray[np.bool_] = (length <= most) | (nearest * gaps // steps == place)
    return is_kept
