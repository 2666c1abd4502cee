"""Convert values to JSON, for the output of `--json` and HTTP alike, so that a value looks the same in each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from typing import Any


def json_value(value: Any) -> Any:
    """Return a dataclass, a mapping or a sequence as values that JSON can hold.

    Times are ISO 8601 with Z for UTC. NaN, infinities and NaT become None, numpy's numbers Python's. Anything else that
    JSON does not know becomes its text.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return json_value(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): json_value(part) for name, part in value.items()}
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [json_value(part) for part in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else None
    return plain if isinstance(plain, bool | int) else str(plain)
