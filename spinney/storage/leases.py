"""Who writes: one process a query, so one a directory.

Delta's local log store does not keep two processes from overwriting each other's commit, so a second one is refused
before it writes. A lease is a lock held by the operating system on a file below the root: whoever writes there finds
it, and it ends with its process, however that ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from schemas.vocabulary import STREAMING, QueryName
from spinney.core.champions.promotion import PEOPLE
from spinney.core.errors import Busy
from spinney.storage.layout import FleetStore

REGISTRY, REPLAY, TRACKING = "registry", "replay", "tracking"
"""Of those who write elsewhere: MLflow's registered model, dead letters sent again, MLflow's runs."""

EVERY = (*(each.value for each in (*STREAMING, QueryName.WEEKLY)), PEOPLE, REGISTRY, REPLAY, TRACKING)
"""All that there are: who holds them is alone."""


@contextmanager
def held(store: FleetStore, names: Iterable[str]) -> Iterator[None]:
    """Hold the leases of these queries. Raises Busy when another process holds one, ValueError for one not in EVERY."""
    names = list(names)
    if unknown := [name for name in names if name not in EVERY]:
        raise ValueError(f"leases {', '.join(unknown)}: expected names of EVERY")
    place = store.folder / "leases"
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name in names:
            file = place / f"{name}.lock"
            try:
                stack.enter_context(FileLock(file).acquire(timeout=0))
            except Timeout as error:
                raise Busy(
                    f"query {name} of fleet {store.fleet.name}: another process runs it ({_holder(place, name)}, "
                    f"lease {file}); stop that one first"
                ) from error
            (place / f"{name}.holder").write_text(f"pid {os.getpid()}")
        yield


def _holder(place: Path, name: str) -> str:
    try:
        return (place / f"{name}.holder").read_text()
    except OSError:
        return "unknown"
