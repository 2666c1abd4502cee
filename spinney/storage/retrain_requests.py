"""Requests of people to retrain single groups, which the running stream carries out: one small file per group.

A file is named after its group, so that a group has one request at a time however many processes write. To
request a retrain, a process creates the file. The query `retrain` names the requests that a round takes in the stored
plan of the round, and deletes their files once the round is recorded. It is the only process that deletes them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from spinney.core import keys
from spinney.core.config import Fleet
from spinney.core.errors import Busy, ContractError, Corrupt, StoreError, UnknownFormat
from spinney.core.stored_formats import KEY, REQUEST
from spinney.storage import atomic_files
from spinney.storage.layout import FleetStore

LOG = logging.getLogger(__name__)

FOLDER = "retrain_requests"
MAX_WAITING = 1_000
"""Largest number of waiting requests. Each round reads all of them, and stores those that it takes in its plan."""


@dataclass(frozen=True)
class RetrainRequest:
    """A request to retrain a group or parent. The field names are those of its file and of the page's JSON.

    by, reason: who asked for it, and why. requested_at: wall clock.
    """

    id: str
    group_key: str
    by: str
    reason: str
    requested_at: datetime

    @classmethod
    def new(cls, group_key: str, by: str, reason: str, now: datetime) -> RetrainRequest:
        """Return a request with an id of its own."""
        return cls(uuid.uuid4().hex[:16], group_key, by, reason, now)


def add_request(store: FleetStore, request: RetrainRequest) -> RetrainRequest:
    """Write a request unless its group has one, and return the group's request.

    Raises Busy if MAX_WAITING requests wait, StoreError if the file cannot be written, Corrupt and UnknownFormat.
    """
    file = _file_of(store, request.group_key)
    if not file.exists() and (waiting := len(_file_names(store))) >= MAX_WAITING:
        raise Busy(
            f"retrain requests in {file.parent}: expected fewer than {MAX_WAITING}; got {waiting}. Wait for the "
            "stream to take some, or run `spinney retrain` yourself"
        )
    content = {KEY: REQUEST.version, **asdict(request), "requested_at": request.requested_at.isoformat()}
    while not _create(file, json.dumps(content, ensure_ascii=False).encode()):
        if (known := find_request(store, request.group_key)) is not None:
            return known
    return request


def find_request(store: FleetStore, group_key: str) -> RetrainRequest | None:
    """Return the request of a group that waits or is being carried out. Raises Corrupt, UnknownFormat."""
    return _read(_file_of(store, group_key), store.fleet)


def read_requests(store: FleetStore) -> tuple[RetrainRequest, ...]:
    """Return the requests that wait or are being carried out, oldest first.

    A file that holds no valid request is logged once per process and left out, so that the other requests are read.
    Raises UnknownFormat.
    """
    found = []
    for name in _file_names(store):
        try:
            request = _read(store.folder / FOLDER / name, store.fleet)
        except UnknownFormat:
            raise
        except Corrupt as error:
            _warn_once(str(error))
            continue
        if request is not None:
            found.append(request)
    return tuple(sorted(found, key=lambda request: (request.requested_at, request.id)))


def last_change(store: FleetStore) -> int:
    """Return when a request was written or deleted last, nanoseconds; 0 before the first."""
    try:
        return (store.folder / FOLDER).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def remove_requests(store: FleetStore, ids: Collection[str]) -> None:
    """Delete the requests with these ids; safe to repeat. Another request of the same group stays."""
    if not ids:
        return
    for request in read_requests(store):
        if request.id in ids:
            _file_of(store, request.group_key).unlink(missing_ok=True)


def _create(file: Path, content: bytes) -> bool:
    """Write a file unless it exists; return whether it was written. Raises StoreError if this process may not."""
    try:
        return atomic_files.create_file(file, content)
    except OSError as error:
        raise StoreError(
            f"{file}: expected a folder that this process may write to; got {type(error).__name__}: {error}. Give it "
            "the permission, or ask as the user who runs the stream"
        ) from error


@lru_cache(MAX_WAITING)
def _warn_once(message: str) -> None:
    """Log a warning unless this process has: the stream reads the folder every few seconds."""
    LOG.warning("%s", message)


def _file_of(store: FleetStore, group_key: str) -> Path:
    return store.folder / FOLDER / _file_name(group_key)


def _file_name(group_key: str) -> str:
    return f"{hashlib.sha256(group_key.encode()).hexdigest()[:32]}.json"


def _file_names(store: FleetStore) -> list[str]:
    folder = store.folder / FOLDER
    names = os.listdir(folder) if folder.is_dir() else []
    return [name for name in names if name.endswith(".json") and not name.startswith(".")]


def is_key_of(fleet: Fleet, group_key: str) -> bool:
    """Whether a text is the key of a group or parent of this fleet, written as the tables have it."""
    try:
        if keys.parse_key_arguments(group_key) != group_key:
            return False
        if keys.is_parent(group_key):
            return list(keys.parent_values(group_key)) in [list(columns) for columns in fleet.parents]
        return len(keys.decode(group_key)) == len(fleet.group)
    except ContractError:
        return False


def _read(file: Path, fleet: Fleet) -> RetrainRequest | None:
    """Return the request in a file; None without the file. Raises Corrupt, UnknownFormat."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        REQUEST.check_object(content, file)
        content.pop(KEY, None)
        request = RetrainRequest(**{**content, "requested_at": datetime.fromisoformat(content["requested_at"])})
        _check(request, file.name, fleet)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, PermissionError, IsADirectoryError) as error:
        raise Corrupt(
            f"{file}: expected a request to retrain a group of this fleet; got {type(error).__name__}: {error}. Delete "
            "the file, and ask again"
        ) from error
    return request


def _check(request: RetrainRequest, file_name: str, fleet: Fleet) -> None:
    """Raise ValueError for a request that this fleet has not written under this file name.

    Otherwise a copy of a request's file would plan its group twice, and would never be deleted.
    """
    for name in ("id", "group_key", "by", "reason"):
        if not isinstance(value := getattr(request, name), str):
            raise ValueError(f"{name} {value!r}, not a text")
        value.encode()  # half a surrogate pair fits into no table
    if request.requested_at.utcoffset() is None:
        raise ValueError(f"requested_at {request.requested_at.isoformat()} without an offset from UTC")
    if not is_key_of(fleet, request.group_key):
        raise ValueError(f"group_key {request.group_key!r}")
    if file_name != (own := _file_name(request.group_key)):
        raise ValueError(f"the request of group {request.group_key}, whose file is {own}")
