"""Which of several labels of an event counts: the first, within some time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spinney.core.records.recent_ids import IdHashes, Ints, Mask


def are_first(ids: IdHashes, at_us: npt.NDArray[np.int64], positions: tuple[Ints, Ints], within_us: int) -> Mask:
    """Return for each label whether it is the first of its event, or more than `within_us` after the one before, shape
    (n,).

    at_us: arrivals, microseconds. positions: partitions and offsets in Kafka, which order labels that arrived together.
    within_us: microseconds.
    """
    partitions, offsets = positions
    order = np.lexsort((offsets, partitions, at_us, ids.checks, ids.keys))
    in_order, times = ids.take(order), at_us[order]
    is_first = np.ones(len(ids), dtype=bool)
    is_same = (np.diff(in_order.keys) == 0) & (np.diff(in_order.checks) == 0)
    is_first[order[1:][is_same & (np.diff(times) <= within_us)]] = False
    return is_first
