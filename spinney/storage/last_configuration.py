"""Stores the configuration that a fleet last ran with, so that edits can be compared with it."""

from __future__ import annotations

import re
from pathlib import Path

from spinney.core.config import Config, parse
from spinney.core.config.without_secrets import without_secrets
from spinney.core.errors import ConfigError
from spinney.core.stored_formats import LAST_CONFIGURATION
from spinney.storage import atomic_files
from spinney.storage.layout import FleetStore

FILE = "last.toml"
_FIRST_LINE = "# Spinney stores this file. Format: {}\n"


def write_last_configuration(config: Config) -> None:
    """Store the configuration without anything that may hold a credential.

    Call it when a configuration takes effect.
    """
    content = _FIRST_LINE.format(LAST_CONFIGURATION.version) + without_secrets(config)
    store = FleetStore.of(config)
    if not _last_file(store).exists() or _read_text(store) != content:
        atomic_files.replace_file(_last_file(store), content.encode())


def read_last_configuration(store: FleetStore) -> Config | None:
    """Return the configuration that the fleet last ran with; None if it is unknown or cannot be parsed any more.

    Raises UnknownFormat: the file has a format that this version does not read.
    """
    file = _last_file(store)
    if not file.exists():
        return None
    try:
        return parse(_read_text(store), str(file), {})
    except ConfigError:  # of another version of this program
        return None


def _read_text(store: FleetStore) -> str:
    """The stored text. Raises UnknownFormat."""
    text = _last_file(store).read_text(encoding="utf-8")
    found = re.match(_FIRST_LINE.format(r"(.*)"), text)
    LAST_CONFIGURATION.check(None if found is None else found[1], _last_file(store))
    return text


def _last_file(store: FleetStore) -> Path:
    return store.folder / FILE
