"""Held-out losses of champions as bytes: float32, little-endian, oldest first, then a byte for the name of their loss.
A tuple of floats takes eight times as much. The last byte is missing where the name is not stored.

NumPy is not imported: `spinney --help` and `spinney why` come this way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

COLUMN = "heldout_losses"
"""Column of the tables `models` and `promotions`: a list of floats."""

PREQUENTIAL = "prequential_losses"
"""Column of the same tables: losses of a group's champions on rows that they had not seen, from which intervals follow.
Null in rows of earlier versions, whose held-out losses take their place.
"""

FLOAT_BYTES = 4


LOSS_NAME = "loss_name"
"""Column of the same tables: the name of the loss by which the held-out losses are measured."""

LISTS = (PREQUENTIAL, COLUMN)
"""The columns with losses. The first that is not null counts."""

COLUMNS = (*LISTS, LOSS_NAME)
"""The columns from which a promotion's losses are read."""

_CODES = {"absolute": 1, "squared": 2, "log": 3}
_NAMES = {code: name for name, code in _CODES.items()}


def name_byte(loss_name: str | None) -> bytes:
    """Return the bytes after the losses: one for the name of the loss, or none if the name is not known."""
    return b"" if loss_name is None else bytes([_CODES[loss_name]])


def pack(losses: Iterable[float] | bytes | None, loss_name: str | None = None) -> bytes | None:
    """Return the losses of one model as bytes; None where it has none. Packed losses are returned as they are."""
    if losses is None or isinstance(losses, bytes):
        return losses
    values = list(losses)
    return struct.pack(f"<{len(values)}f", *values) + name_byte(loss_name)


def unpack(packed: bytes | None) -> list[float] | None:
    """Return the losses as a list, as the tables have them; None where there are none."""
    if packed is None:
        return None
    count = len(packed) // FLOAT_BYTES
    return list(struct.unpack_from(f"<{count}f", packed))


def loss_of(packed: bytes | None) -> str | None:
    """Return the name of the loss that packed losses are measured by; None if it is not stored with them."""
    return _NAMES[packed[-1]] if packed and len(packed) % FLOAT_BYTES else None
