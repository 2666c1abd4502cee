"""The values in effect and their origins, for `spinney check --show`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from spinney.core.config.secrets import display_value


class Setting(NamedTuple):
    """One key in effect.

    key: dotted. value: as TOML, secrets masked. origin: ``fleet.toml:12``, ``environment SPINNEY_…`` or ``default``.
    """

    key: str
    value: str
    origin: str


def effective(config: BaseModel, origins: Mapping[str, str]) -> list[Setting]:
    """Return every key with its value and origin, in the order of the models. origins: dotted key -> origin."""
    return [Setting(key, display_value(key, value), origins.get(key, "default")) for key, value in leaves(config)]


def leaves(value: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of every key, including each key of a table; an empty table is yielded itself.

    before: prefix of the keys, with its final dot.
    """
    if isinstance(value, BaseModel):
        inside = {name: getattr(value, name) for name in type(value).model_fields}
    elif isinstance(value, Mapping) and value:
        inside = dict(value)
    else:
        yield before.removesuffix("."), value
        return
    for name, part in inside.items():
        yield from leaves(part, f"{before}{name}.")
