"""Spinney keeps a fleet of small models fresh: one scikit-learn model per group, refitted when it goes stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spinney import moved_modules

if TYPE_CHECKING:
    from spinney.fleet import Fleet

__all__ = ["Fleet"]

moved_modules.install()


def __getattr__(name: str) -> Any:
    if name == "Fleet":  # what it needs takes a second to import, and most of who imports this package needs none of it
        from spinney.fleet import Fleet

        return Fleet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
