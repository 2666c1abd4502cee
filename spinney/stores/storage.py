"""Small files below a fleet's root, on whatever file system the root is."""

from __future__ import annotations

from pathlib import Path

from pyarrow import ArrowInvalid, fs

from spinney.core.errors import StoreError


def filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """The file system of a location and the location's path on it.

    Raises StoreError when no file system is known for the URI.
    """
    if "://" not in location:
        return fs.LocalFileSystem(), str(Path(location).resolve())
    try:
        store, path = fs.FileSystem.from_uri(location)
    except (ArrowInvalid, OSError) as error:
        msg = f"storage.root: no file system for {location} ({error}); give a path, or a URI that pyarrow knows"
        raise StoreError(msg) from error
    return store, path
