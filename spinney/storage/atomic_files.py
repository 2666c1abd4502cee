"""Small files below a fleet's root: each is there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spinney.core.config.value_types import PLAIN_PATH, local_path
from spinney.core.errors import StoreError

FOR_ALL, FOR_ME = 0o666, 0o600
"""Who may read a file, before the umask."""


def folder(location: str) -> Path:
    """The absolute path of a location. Raises StoreError when it is not on a file system of this machine."""
    path = local_path(location)
    if path is None:
        raise StoreError(f"{location}: expected {PLAIN_PATH}; other stores are not in effect yet")
    return Path(path).absolute()


def create(file: Path, content: bytes, mode: int = FOR_ALL) -> bool:
    """Write a file unless it is there already; whether it was written. Of two that try at once, one does."""
    with _beside(file, content, mode) as written:
        try:
            file.hardlink_to(written)
        except FileExistsError:
            return False
    return True


def replace(file: Path, content: bytes) -> None:
    with _beside(file, content, FOR_ALL) as written:
        written.replace(file)


@contextmanager
def _beside(file: Path, content: bytes, mode: int) -> Iterator[Path]:
    """The content in a file of another name in the same folder, which is gone afterwards."""
    file.parent.mkdir(parents=True, exist_ok=True)
    other = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with open(os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        yield other
    finally:
        other.unlink(missing_ok=True)
