"""Who writes: one process a query, so one a directory.

Delta's local log store does not keep two processes from overwriting each other's commit, so a second one is refused
before it writes. A lease is a lock held by the operating system: it ends with its process, however that ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from spinney.core.config import Config
from spinney.core.errors import Busy
from spinney.stores.layout import root

FOLDER = "SPINNEY_LEASES"
"""Where leases lie when the root is not a local path; shared by every machine that may run the fleet's queries."""


@contextmanager
def held(config: Config, names: Iterable[str]) -> Iterator[None]:
    """Hold the leases of these queries. Raises Busy when another process holds one."""
    folder = _folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name in names:
            file = folder / f"{name}.lock"
            try:
                stack.enter_context(FileLock(file).acquire(timeout=0))
            except Timeout as error:
                raise Busy(
                    f"query {name} of fleet {config.fleet.name}: another process runs it ({_holder(folder, name)}, "
                    f"lease {file}); stop that one first"
                ) from error
            (folder / f"{name}.holder").write_text(f"pid {os.getpid()}")
        yield


def _holder(folder: Path, name: str) -> str:
    try:
        return (folder / f"{name}.holder").read_text()
    except OSError:
        return "unknown"


def _folder(config: Config) -> Path:
    if named := os.environ.get(FOLDER):
        return Path(named) / config.fleet.name
    if "://" in root(config):
        raise Busy(
            f"storage.root {root(config)}: leases need a folder that locks; set {FOLDER} to one that every machine "
            "which may run this fleet shares"
        )
    return Path(root(config)) / "leases"
