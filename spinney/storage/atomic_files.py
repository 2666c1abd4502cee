"""Writes small files atomically: after a crash a file has its old content or its new one, never a part."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spinney.core.config.value_types import PLAIN_PATH, local_path
from spinney.core.errors import StoreError

ANYONE, OWNER_ONLY = 0o666, 0o600
"""Permissions of a file, before the umask."""


def local_folder(location: str) -> Path:
    """Return the absolute path of a location. Raises StoreError when it is not on a file system of this machine."""
    path = local_path(location)
    if path is None:
        raise StoreError(f"{location}: expected {PLAIN_PATH}; other stores are not supported yet")
    return Path(path).absolute()


def create_file(file: Path, content: bytes, mode: int = ANYONE) -> bool:
    """Write a file unless it exists; return whether it was written. Of two processes at once, exactly one writes."""
    with _temporary_file(file, content, mode) as temporary:
        try:
            file.hardlink_to(temporary)
        except FileExistsError:
            return False
    return True


def replace_file(file: Path, content: bytes, mode: int = ANYONE) -> None:
    """Write a file, replacing what is there."""
    with _temporary_file(file, content, mode) as temporary:
        temporary.replace(file)


@contextmanager
def _temporary_file(file: Path, content: bytes, mode: int) -> Iterator[Path]:
    """The content in a file of another name in the same folder, which is removed afterwards."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
