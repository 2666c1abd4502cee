"""Format values as TOML, for messages, docs and proposed files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from spinney.core import durations
from spinney.core.config.value_types import ColumnType


def to_toml(value: Any) -> str:
    """Return `value` as TOML on one line; None, which TOML cannot express, as ``(none)``."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, ColumnType):
        return to_toml(value.declared)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, timedelta):
        return f'"{durations.render(value)}"'
    if isinstance(value, BaseModel):
        return to_toml({name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{to_toml_key(str(name))} = {to_toml(part)}" for name, part in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(to_toml(part) for part in value)}]"
    return str(value)


def to_toml_key(name: str) -> str:
    """Return one part of a key, quoted if necessary."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else to_toml(name)
