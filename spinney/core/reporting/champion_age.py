"""Ages of a fleet's champions at several times, in one vectorised pass per time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spinney.core.champions.fleet_champion_selection import integer_values, locate_champions

_Ints = npt.NDArray[np.int64]


def champion_ages(promotions: pa.Table, moments: _Ints, clocks: _Ints) -> Sequence[npt.NDArray[np.float64]]:
    """Return for each moment the ages of the champions at that moment, in seconds; groups without one are left out.

    The age is the time, by the fleet's clock, since the newest training row of the champion: how much of the recent
    past the model has not seen. It is at least 0.

    promotions: rows with CHAMPION_COLUMNS. moments: of the wall clock, shape (n,). clocks: the fleet's clock at those
    moments, shape (n,). Both in microseconds since 1970.
    """
    decided_at = integer_values(promotions, "decided_at")
    rows_known = np.searchsorted(np.sort(decided_at), moments, side="right").tolist()
    through: dict[int, _Ints] = {}  # number of rows known at a moment -> trained_through of the champions then
    for moment, count in zip(moments.tolist(), rows_known, strict=True):
        if count not in through:
            known = promotions.filter(pa.array(decided_at <= moment))
            row = locate_champions(known).champion_row
            found = integer_values(known, "trained_through")[row[row >= 0]]
            through[count] = found[found > 0]
    clocks_and_counts = zip(clocks.tolist(), rows_known, strict=True)
    return [np.maximum(clock - through[count], 0) / 1e6 for clock, count in clocks_and_counts]


def clock_at(moments: _Ints, seen_at: _Ints, clock: _Ints) -> _Ints:
    """Return the fleet's clock at moments of the wall clock: the greatest that had been seen by then.

    Arguments in microseconds since 1970. moments: shape (n,). seen_at, clock: pairs of the wall clock and the fleet's,
    in any order, at least one, shape (m,). A moment before the first pair has the clock of that pair.
    """
    order = np.argsort(seen_at, kind="stable")
    greatest = np.maximum.accumulate(clock[order])
    place = np.searchsorted(seen_at[order], moments, side="right") - 1
    return np.asarray(greatest[np.maximum(place, 0)], dtype=np.int64)
