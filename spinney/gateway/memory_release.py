"""Returns freed memory to the operating system.

Reading the tables of a large fleet takes several times the memory of the figures that are kept. glibc and Arrow's own
allocator would hold the rest until the gateway reads the tables again.
"""

from __future__ import annotations

import ctypes
import os

import pyarrow as pa

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""A function of glibc; None with other C libraries."""

_JEMALLOC_SETTINGS = "_RJEM_MALLOC_CONF"
"""The variable of the environment from which the jemalloc inside deltalake reads its settings when it is loaded."""


def let_deltalake_release_memory() -> None:
    """Let deltalake give memory back as soon as it is freed. Call it before deltalake is imported.

    Settings of the environment come later and so override these.
    """
    given = os.environ.get(_JEMALLOC_SETTINGS)
    os.environ[_JEMALLOC_SETTINGS] = ",".join(filter(None, ("dirty_decay_ms:0,muzzy_decay_ms:0", given)))


def use_system_allocator() -> None:
    """Make Arrow allocate through the C library, so that `release_free_memory` also returns what Arrow has freed."""
    pa.set_memory_pool(pa.system_memory_pool())


def release_free_memory() -> None:
    """Return unused pages to the operating system. Takes 5 to 20 ms of CPU, without the interpreter's lock."""
    pa.default_memory_pool().release_unused()
    if _malloc_trim is not None:
        _malloc_trim(0)
