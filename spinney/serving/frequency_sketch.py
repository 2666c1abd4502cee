"""Approximate recent request counts in a fixed amount of memory: a count-min sketch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

ROWS, WIDTH = 4, 1 << 17
"""Size of the sketch: 512 kB. After 50,000 names were counted once each, one in a hundred has a count above 1."""

MOST = 15
PERIOD = 4 * WIDTH
"""Counts are halved after this many, so that old requests lose weight."""

_HALF = bytes(count // 2 for count in range(256))
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)


class Frequencies:
    """Approximate counts of names. Up to MOST, and within a PERIOD, a count is never less than the true one."""

    def __init__(self) -> None:
        self._counts = bytearray(ROWS * WIDTH)
        self._made = 0

    def __getitem__(self, name: Hashable) -> int:
        return min(self._counts[place] for place in _places(name))

    def count(self, name: Hashable) -> None:
        """Add 1 to the count of a name."""
        self._made += 1
        if self._made >= PERIOD:
            self._counts, self._made = self._counts.translate(_HALF), 0
        for place in _places(name):
            self._counts[place] = min(MOST, self._counts[place] + 1)


def _places(name: Hashable) -> Iterator[int]:
    whole = hash(name)
    return (row * WIDTH + (whole * factor >> 32) % WIDTH for row, factor in enumerate(_FACTORS))
