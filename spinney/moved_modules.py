"""Modules that have moved, under the names by which stored things refer to them.

A registered version of a fleet contains a copy of `registered_fleet.py`, which imports modules by name, and a model
stored by skops names the classes of its objects. Both must load after a module has moved.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "spinney.core.filled": "spinney.core.models.filled",
    "spinney.core.imported": "spinney.core.models.imported",
    "spinney.stores.manifest": "spinney.serving.manifest",
}
"""Earlier name of a module -> its current name. Entries are never removed, since stored models are read for years."""

_PACKAGES = frozenset(name.rpartition(".")[0] for name in MOVED)


class _Alias(Loader):
    """A module whose attributes are those of the module under its current name."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None, so that Python creates an empty module."""
        del spec

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ not in MOVED:
            return
        present = import_module(MOVED[module.__name__])

        def attribute(name: str) -> Any:
            return getattr(present, name)

        module.__dict__["__getattr__"] = attribute


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname in MOVED or fullname in _PACKAGES:
            return ModuleSpec(fullname, _Alias(), is_package=fullname in _PACKAGES)
        return None


def install() -> None:
    """Let `import` find modules by their earlier names. Existing modules come first, so none of them is hidden."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
