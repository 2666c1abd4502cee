"""The time since which a directory has all decisions about champions. `spinney tidy` deletes older ones.

A read `as_of` an earlier time is refused: the decisions of that time are left for some groups and deleted for others.
There is a file per directory, since each is tidied by the process that writes it.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from spinney.core.stored_formats import KEPT_SINCE, KEY
from spinney.storage.atomic_files import replace_file
from spinney.storage.layout import Directory, FleetStore

FOLDER = "kept_since"


def write_kept_since(store: FleetStore, directory: Directory, since: datetime) -> None:
    """Store that decisions before this time are deleted from a directory. Call it before they are deleted.

    The caller must hold the directory's lease. since: wall clock. An earlier time than the stored one changes nothing.
    """
    known = _read(_file_of(store, directory))
    if known is None or known < since:
        content = {KEY: KEPT_SINCE.version, "since": since.isoformat()}
        replace_file(_file_of(store, directory), json.dumps(content).encode())


def read_kept_since(store: FleetStore) -> datetime | None:
    """Return the time since which no decision was deleted from any directory; None if none ever was.

    Raises UnknownFormat.
    """
    folder = store.folder / FOLDER
    times = [_read(file) for file in sorted(folder.glob("*.json"))] if folder.is_dir() else []
    return max((at for at in times if at is not None), default=None)


def _read(file: Path) -> datetime | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    KEPT_SINCE.check_object(content, file)
    return datetime.fromisoformat(content["since"])


def _file_of(store: FleetStore, directory: Directory) -> Path:
    return store.folder / FOLDER / f"{directory.name.replace('/', '-')}.json"
