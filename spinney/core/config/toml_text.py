"""Values written as TOML, for messages, docs and proposed files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from spinney.core import durations
from spinney.core.config.values import ColumnType


def toml(value: Any) -> str:
    """Return `value` as TOML on one line. What TOML cannot say (None) is put in words."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, ColumnType):
        return toml(value.declared)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, timedelta):
        return f'"{durations.render(value)}"'
    if isinstance(value, BaseModel):
        return toml({name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{toml_key(str(name))} = {toml(part)}" for name, part in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(toml(part) for part in value)}]"
    return str(value)


def toml_key(name: str) -> str:
    """Return one part of a key, quoted where it must be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml(name)
