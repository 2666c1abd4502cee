"""Held-out losses of champions as bytes: float32, little-endian, oldest first. A tuple of floats takes eight times
as much.

NumPy is not imported: `spinney --help` and `spinney why` come this way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

COLUMN = "heldout_losses"
"""Of the tables `models` and `promotions`: a list of floats."""

FLOAT_BYTES = 4


def pack(losses: Iterable[float] | bytes | None) -> bytes | None:
    """Return the losses of one model as bytes; None where it has none. Packed losses are returned as they are."""
    if losses is None or isinstance(losses, bytes):
        return losses
    values = list(losses)
    return struct.pack(f"<{len(values)}f", *values)


def unpack(packed: bytes | None) -> list[float] | None:
    """Return the losses as a list, as the tables have them; None where there are none."""
    return None if packed is None else list(struct.unpack(f"<{len(packed) // FLOAT_BYTES}f", packed))
