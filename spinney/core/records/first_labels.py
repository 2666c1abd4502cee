"""Which of several labels of an event counts: the first, within some time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spinney.core.records.recent_ids import IdHashes, Ints, Mask


def are_first(ids: IdHashes, at_us: npt.NDArray[np.int64], positions: tuple[Ints, Ints], within_us: int) -> Mask:
    """Return whether no other of these labels of the same event came before each within some time, shape (n,).

    at_us: arrivals, microseconds. positions: partitions and offsets in Kafka, which order labels that came at once.
    """
    partitions, offsets = positions
    order = np.lexsort((offsets, partitions, at_us, ids.checks, ids.keys))
    in_order, times = ids.take(order), at_us[order]
    is_first = np.ones(len(ids), dtype=bool)
    is_same = (np.diff(in_order.keys) == 0) & (np.diff(in_order.checks) == 0)
    is_first[order[1:][is_same & (np.diff(times) <= within_us)]] = False
    return is_first
