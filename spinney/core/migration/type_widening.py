"""Which type can replace another without changing any stored value."""

from __future__ import annotations

import re

from spinney.core.config.value_types import INTEGERS

_DECIMAL = re.compile(r"decimal\((\d+), ?(\d+)\)")


def is_widening(before: str, now: str) -> bool:
    """Return whether each value of `before` is a value of `now`: Spark SQL types.

    `bigint` to `double` counts, although integers beyond 2**53 have no exact double: the conversion has to check them.
    """
    if before in INTEGERS:
        return now == "double" or now in INTEGERS[INTEGERS.index(before) + 1 :]
    if before == "float":
        return now == "double"
    old, new = _DECIMAL.fullmatch(before), _DECIMAL.fullmatch(now)
    if old is None or new is None or before == now:
        return False
    (precision, scale), (wider, finer) = (tuple(map(int, match.groups())) for match in (old, new))
    return finer >= scale and wider - finer >= precision - scale
