"""A configuration as a file that may leave its machine: nothing that can hold a credential goes with it."""

from __future__ import annotations

from typing import Any

from spinney.core.config.models import Config
from spinney.core.config.toml_text import toml, toml_key

LEFT_OUT: dict[str, Any] = {"kafka": {"options"}, "storage": {"options"}, "spark": True, "tracking": True}
"""Options of clients and stores, and a URI that may hold a password: who answers by the file needs none of them."""


def without_secrets(config: Config) -> str:
    """Return the values in effect that are not defaults, wherever they were set, as TOML that `parse` reads."""
    said = config.model_dump(exclude_unset=True, exclude_none=True, exclude=LEFT_OUT)
    return "\n".join(_section(name, keys) for name, keys in said.items() if keys)


def _section(name: str, keys: dict[str, Any]) -> str:
    return f"[{name}]\n" + "".join(f"{toml_key(key)} = {toml(value)}\n" for key, value in keys.items())
