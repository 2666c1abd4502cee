"""Find a field by its name. A name with dots also reaches into nested objects, whose own names may have dots too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

ABSENT: Final = object()
"""Stands for a field that does not exist, which differs from one that is null."""


def find_field(message: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field in an object, ABSENT if there is none.

    At each level a field with the whole name takes precedence. Otherwise the name is split at one of its dots, the
    first dot first: ``a.b.c`` is ``c`` in ``b`` in ``a``, or ``b.c`` in ``a``, or ``c`` in ``a.b``.
    """
    if name in message:
        return message[name]
    for outer, inner in split_name(name):
        value = message.get(outer)
        if isinstance(value, dict) and (found := find_field(value, inner)) is not ABSENT:
            return found
    return ABSENT


def split_name(name: str) -> Iterator[tuple[str, str]]:
    """Yield the parts before and after each dot of a name, those of the first dot first."""
    at = name.find(".")
    while at >= 0:
        yield name[:at], name[at + 1 :]
        at = name.find(".", at + 1)


def possible_roots(name: str) -> tuple[str, ...]:
    """Return the fields at the top level that may be or contain the field of this name."""
    return (name, *(outer for outer, _ in split_name(name)))
