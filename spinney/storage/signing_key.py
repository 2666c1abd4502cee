"""The key that models are signed with: from the environment, or from a file below the fleet's root."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from spinney.core.errors import SetupError
from spinney.core.models.signing import Signer
from spinney.storage.atomic_files import FOR_ME, create
from spinney.storage.layout import FleetStore

KEY = "SPINNEY_SIGNING_KEY"
OLD_KEYS = "SPINNEY_SIGNING_KEYS_OLD"
FILE = "signing.key"


def signer(store: FleetStore, environment: Mapping[str, str] | None = None) -> Signer:
    """The signer of a fleet. Older keys, separated by commas, still verify.

    Raises SetupError when there is no key.
    """
    environment = os.environ if environment is None else environment
    old = tuple(key.strip().encode() for key in environment.get(OLD_KEYS, "").split(",") if key.strip())
    if named := _named(environment):
        return Signer(named, old)
    file = _file(store)
    if not file.is_file():
        raise SetupError(
            f"signing key: none in {KEY} and no file {file}; "
            "`spinney init` makes the file, or set the variable to at least 16 secret characters"
        )
    return Signer(file.read_bytes().strip(), old)


def ensure_key(store: FleetStore, environment: Mapping[str, str] | None = None) -> bool:
    """Make the file when neither it nor the variable is there; whether it was made."""
    if _named(os.environ if environment is None else environment):
        return False
    return create(_file(store), secrets.token_hex(32).encode(), FOR_ME)


def _named(environment: Mapping[str, str]) -> bytes:
    # A secret often comes with the newline of the file that it was kept in.
    return environment.get(KEY, "").strip().encode()


def _file(store: FleetStore) -> Path:
    return store.folder / FILE
