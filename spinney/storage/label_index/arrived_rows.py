"""Rows with the hashes of their ids and the times of their arrival."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spinney.core.records.recent_ids import IdHashes, Mask, Places

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Arrived:
    """Rows that have arrived, all fields of the same length n.

    ids: of their group and event. at_us: when each arrived, microseconds since 1970. rows: their other columns.
    """

    ids: IdHashes
    at_us: Times
    rows: pa.Table

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, at: Places | Mask) -> Arrived:
        """Return the rows at these places, or where a mask is true."""
        places = np.flatnonzero(at) if at.dtype == bool else at
        return Arrived(self.ids.take(places), self.at_us[places], self.rows.take(pa.array(places)))


@dataclass(frozen=True)
class Sought:
    """Rows to look for: with these ids, and with an arrival that differs by at most `within_us`.

    ids, at_us: shape (n,). within_us: microseconds.
    """

    ids: IdHashes
    at_us: Times
    within_us: int

    def take(self, at: Places) -> Sought:
        """Return the sought rows at these positions."""
        return Sought(self.ids.take(at), self.at_us[at], self.within_us)


@dataclass(frozen=True)
class Found:
    """Rows that were found.

    wanted: position of the sought row that each was found for, shape (n,). arrived: the found rows.
    """

    wanted: Places
    arrived: Arrived

    def take(self, mask: Mask) -> Found:
        """Return the found rows where the mask is true."""
        return Found(self.wanted[mask], self.arrived.take(mask))
