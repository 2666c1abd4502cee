"""The key that models are signed with: from the environment, or from a file below the fleet's root."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from pyarrow import fs

from spinney.core.config import Config
from spinney.core.errors import SetupError
from spinney.core.signing import Signer
from spinney.stores.layout import root
from spinney.stores.storage import filesystem

KEY = "SPINNEY_SIGNING_KEY"
OLD_KEYS = "SPINNEY_SIGNING_KEYS_OLD"
FILE = "signing.key"


def signer(config: Config, environment: Mapping[str, str] | None = None) -> Signer:
    """The signer of a fleet. Older keys, separated by commas, still verify.

    Raises SetupError when there is no key.
    """
    environment = os.environ if environment is None else environment
    old = tuple(key.strip().encode() for key in environment.get(OLD_KEYS, "").split(",") if key.strip())
    if named := environment.get(KEY):
        return Signer(named.encode(), old)
    store, path = filesystem(f"{root(config)}/{FILE}")
    if store.get_file_info(path).type != fs.FileType.File:
        raise SetupError(
            f"signing key: none in {KEY} and no file {root(config)}/{FILE}; "
            "`spinney init` makes the file, or set the variable to at least 16 secret characters"
        )
    with store.open_input_stream(path) as stream:
        return Signer(stream.read().strip(), old)


def ensure_key(config: Config, environment: Mapping[str, str] | None = None) -> bool:
    """Make the file when neither it nor the variable is there; whether it was made."""
    environment = os.environ if environment is None else environment
    store, path = filesystem(f"{root(config)}/{FILE}")
    if environment.get(KEY) or store.get_file_info(path).type == fs.FileType.File:
        return False
    store.create_dir(path.rpartition("/")[0], recursive=True)
    with store.open_output_stream(path) as stream:
        stream.write(secrets.token_hex(32).encode())
    if isinstance(store, fs.LocalFileSystem):
        Path(path).chmod(0o600)
    return True
