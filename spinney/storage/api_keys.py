"""API keys of the gateway, below the fleet's root. The file holds a hash of each secret, never the secret.

A secret has 256 random bits, too many to try, so a single SHA-256 protects it. A slow hash, as for passwords that
people choose, would only make requests slow.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from schemas.vocabulary import MACHINES, Scope
from spinney.core.errors import Corrupt, SetupError, StoreError
from spinney.core.stored_formats import API_KEYS, KEY
from spinney.storage.atomic_files import OWNER_ONLY, replace_file
from spinney.storage.layout import FleetStore

FILE, LOCK = "api_keys.json", "api_keys.lock"
PREFIX = "spinney"
"""Prefix of a key's text, so that scanners for leaked secrets find it."""

MAX_NAME_CHARACTERS = 100


@dataclass(frozen=True)
class ApiKey:
    """A key as stored.

    name: the person or program that has the key; overrides are recorded under this name. hash: SHA-256 of the secret,
    hex. created_at, revoked_at: ISO 8601, UTC; revoked_at is None while the key is valid.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    hash: str
    created_at: str
    revoked_at: str | None = None


def list_keys(store: FleetStore) -> list[ApiKey]:
    """Return all keys, oldest first, revoked ones too. Raises UnknownFormat, Corrupt."""
    file = _file(store)
    if not file.exists():
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        API_KEYS.check_object(content, file)
        return [ApiKey(**{**key, "scopes": tuple(map(Scope, key["scopes"]))}) for key in content["keys"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(
            f"{file}: expected API keys as `spinney keys add` writes them; got {error!r}. Restore the file, or delete "
            "it and make new keys"
        ) from error


def add_key(store: FleetStore, name: str, scopes: Iterable[Scope | str]) -> tuple[ApiKey, str]:
    """Create a key; return it and its text, which is not stored.

    Raises SetupError without a scope, and for a name that is empty, too long, not printable, or that of a machine.
    """
    name, wanted = name.strip(), tuple(sorted({Scope(scope) for scope in scopes}))
    # Printable: a name with a line break would forge lines of tables and reports in which overrides name their author.
    if not name or name in MACHINES or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise SetupError(
            f"key: expected a name of 1 to {MAX_NAME_CHARACTERS} printable characters, not that of a machine; got "
            f"{name!r}. Choose the name of the person or program that will have the key"
        )
    if not wanted:
        raise SetupError(f"key {name}: expected at least one scope of {', '.join(Scope)}; got none")
    secret = secrets.token_urlsafe(32)
    with _changing(store):
        keys = list_keys(store)
        made = ApiKey(secrets.token_hex(4), name, wanted, _hash(secret), _now())
        _write(store, [*keys, made])
    return made, f"{PREFIX}_{made.id}_{secret}"


def revoke_key(store: FleetStore, key_id: str) -> ApiKey:
    """Revoke a key; return it. Running gateways refuse it from the next request on. Raises StoreError: no such key."""
    with _changing(store):
        keys = list_keys(store)
        if key_id not in {key.id for key in keys}:
            known = ", ".join(f"{key.id} ({key.name})" for key in keys) or "none"
            raise StoreError(
                f"key {key_id}: expected the id of a key; got none of {known}. `spinney keys list` has them"
            )
        changed = [
            replace(key, revoked_at=_now()) if key.id == key_id and key.revoked_at is None else key for key in keys
        ]
        _write(store, changed)
    return next(key for key in changed if key.id == key_id)


class KeyRing:
    """Finds the key of a request. The file is read again when it has changed."""

    def __init__(self, store: FleetStore) -> None:
        self._store = store
        self._seen: tuple[int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def find(self, text: str) -> ApiKey | None:
        """Return the valid key with this text, else None. Takes the same time whichever part of it is wrong."""
        self._reload()
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._keys.get(key_id)
        is_right = hmac.compare_digest(_hash(secret), key.hash if key else _hash(""))
        return key if key and is_right and prefix == PREFIX and key.revoked_at is None else None

    @property
    def has_valid_key(self) -> bool:
        """Whether any key is valid."""
        self._reload()
        return any(key.revoked_at is None for key in self._keys.values())

    def _reload(self) -> None:
        try:
            status = _file(self._store).stat()
        except FileNotFoundError:
            self._seen, self._keys = None, {}
            return
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._keys = {key.id: key for key in list_keys(self._store)}
            self._seen = seen


@contextmanager
def _changing(store: FleetStore) -> Iterator[None]:
    """Lock the file, so that only one process changes it at a time."""
    store.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(store.folder / LOCK).acquire(timeout=30):
        yield


def _write(store: FleetStore, keys: Iterable[ApiKey]) -> None:
    content = {KEY: API_KEYS.version, "keys": [asdict(key) for key in keys]}
    replace_file(_file(store), json.dumps(content, indent=1).encode(), OWNER_ONLY)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _file(store: FleetStore) -> Path:
    return store.folder / FILE
