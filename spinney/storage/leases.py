"""Leases: each query is run by one process at a time, so each directory of a table has one writer.

Delta's local log store does not keep two processes from overwriting each other's commit, so a second writer is refused
before it writes. A lease is an operating-system lock on a file below the root. It ends with its process, even if the
process is killed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from schemas.vocabulary import STREAMING, QueryName
from spinney.core.champions.promotion import PEOPLE
from spinney.core.errors import Busy, StoreError
from spinney.storage.layout import FleetStore

REGISTRY, REPLAY, TRACKING = "registry", "replay", "tracking"
"""Leases for writes outside the tables: MLflow's registered model, replayed dead letters, MLflow's runs."""

ALL_LEASES = (*(query.value for query in (*STREAMING, QueryName.WEEKLY)), PEOPLE, REGISTRY, REPLAY, TRACKING)
"""All leases. While a process holds all of them, no other process of the fleet runs."""


TIMEOUT_S = 0.1
"""Longest wait for a lease, in seconds: `is_held` holds it for a moment. It must exceed filelock's interval of 0.05 s.
"""


@contextmanager
def held(store: FleetStore, names: Iterable[str]) -> Iterator[None]:
    """Hold these leases inside the context.

    Raises Busy if another process holds one, ValueError for one not in ALL_LEASES.
    """
    names = list(names)
    if unknown := [name for name in names if name not in ALL_LEASES]:
        raise ValueError(f"leases {', '.join(unknown)}: expected names of ALL_LEASES")
    place = store.folder / "leases"
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name in names:
            file = place / f"{name}.lock"
            try:
                stack.enter_context(FileLock(file).acquire(timeout=TIMEOUT_S))
            except Timeout as error:
                raise Busy(
                    f"query {name} of fleet {store.fleet.name}: another process runs it ({_read_holder(place, name)}, "
                    f"lease {file}); stop that one first"
                ) from error
            (place / f"{name}.holder").write_text(f"pid {os.getpid()}")
        yield


def is_held(store: FleetStore, name: str) -> bool:
    """Whether a process holds this lease now. Raises StoreError if this process may not read the lease's file.

    A shared lock needs no permission to write, so a gateway may run as another user than the stream.
    """
    file = store.folder / "leases" / f"{name}.lock"
    try:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)  # releases the lock too
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise StoreError(
            f"lease {file}: expected a file that this process may read; got {type(error).__name__}: {error}. "
            "Give it the permission, or run the command as the user who runs the stream"
        ) from error
    return False


def _read_holder(place: Path, name: str) -> str:
    try:
        return (place / f"{name}.holder").read_text()
    except OSError:
        return "unknown"
