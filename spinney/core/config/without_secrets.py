"""The configuration as a file that may leave its machine, without anything that could hold a credential."""

from __future__ import annotations

from typing import Any

from spinney.core.config.sections import Config
from spinney.core.config.toml_formatting import to_toml, to_toml_key

EXCLUDED: dict[str, Any] = {"kafka": {"options"}, "storage": {"options"}, "spark": True, "tracking": True}
"""Options of clients and stores, and a URI that may hold a password. Answering from the file needs none of them."""


def without_secrets(config: Config) -> str:
    """Return the configuration as TOML that `parse` accepts, without the keys in EXCLUDED, which may hold credentials.

    It contains the values that were set in the file or by the environment, but no defaults.
    """
    values = config.model_dump(exclude_unset=True, exclude_none=True, exclude=EXCLUDED)
    return "\n".join(_section(name, keys) for name, keys in values.items() if keys)


def _section(name: str, keys: dict[str, Any]) -> str:
    return f"[{name}]\n" + "".join(f"{to_toml_key(key)} = {to_toml(value)}\n" for key, value in keys.items())
