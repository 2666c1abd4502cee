"""An empty fleet whose tables are in memory, for as long as a test needs it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from spinney.core.config import Config
from spinney.testing.new_fleet import new_fleet

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of an unguessable name is made below it
"""The file system in memory that Linux has."""

FREE_BYTES = 256 * 1024**2
"""Less free memory than this, in bytes, and the fleet is on the disk. Docker gives a container 64 MiB there."""


@contextmanager
def fleet_in_memory(config: Config | str | os.PathLike[str]) -> Iterator[Config]:
    """Create a fleet as `new_fleet` does, in memory, and remove it at the end of the context.

    config: the configuration, or its file. Its tables are files below /dev/shm. Where that does not exist, cannot be
    written, or has less than FREE_BYTES left, they are in the temporary folder of the system. Raises ConfigError,
    StoreError.
    """
    with TemporaryDirectory(prefix="spinney-", dir=_folder(), ignore_cleanup_errors=True) as folder:
        yield new_fleet(config, folder)


def _folder() -> Path | None:
    """The folder in memory; None if there is none that can be used."""
    is_usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK)
    return MEMORY if is_usable and shutil.disk_usage(MEMORY).free >= FREE_BYTES else None
