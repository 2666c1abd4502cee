"""The key that models are signed with: from the environment, else from a file below the fleet's root."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from spinney.core.errors import SetupError
from spinney.core.models.signing import Signer
from spinney.storage.atomic_files import OWNER_ONLY, create_file
from spinney.storage.layout import FleetStore

KEY = "SPINNEY_SIGNING_KEY"
OLD_KEYS = "SPINNEY_SIGNING_KEYS_OLD"
FILE = "signing.key"


def load_signer(store: FleetStore, environment: Mapping[str, str] | None = None) -> Signer:
    """Return the signer of a fleet. The keys in SPINNEY_SIGNING_KEYS_OLD, separated by commas, still verify.

    environment: os.environ if None. Raises SetupError when there is no key.
    """
    environment = os.environ if environment is None else environment
    old = tuple(key.strip().encode() for key in environment.get(OLD_KEYS, "").split(",") if key.strip())
    if named := _key_of_environment(environment):
        return Signer(named, old)
    file = _key_file(store)
    if not file.is_file():
        raise SetupError(
            f"signing key: none in {KEY} and no file {file}; "
            "run `spinney init`, which creates the file, or set the variable to at least 16 secret characters"
        )
    return Signer(file.read_bytes().strip(), old)


def ensure_key(store: FleetStore, environment: Mapping[str, str] | None = None) -> bool:
    """Create the key's file unless it exists or the variable is set; return whether it was created."""
    if _key_of_environment(os.environ if environment is None else environment):
        return False
    return create_file(_key_file(store), secrets.token_hex(32).encode(), OWNER_ONLY)


def _key_of_environment(environment: Mapping[str, str]) -> bytes:
    """The key in the variable; empty if it is not set."""
    # A secret often ends with the newline of the file it was kept in.
    return environment.get(KEY, "").strip().encode()


def _key_file(store: FleetStore) -> Path:
    return store.folder / FILE
