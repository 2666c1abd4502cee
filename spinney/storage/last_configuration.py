"""The configuration that a fleet ran with last, beside its tables: what an edit is compared with."""

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


def remember(config: Config) -> None:
    """Write it down, without what may hold a credential. For who puts a configuration into effect."""
    content = _FIRST_LINE.format(LAST_CONFIGURATION.version) + without_secrets(config)
    store = FleetStore.of(config)
    if not _file(store).exists() or _text(store) != content:
        atomic_files.replace(_file(store), content.encode())


def last(store: FleetStore) -> Config | None:
    """The configuration that the fleet at this root ran with last; None where that is not known."""
    file = _file(store)
    if not file.exists():
        return None
    try:
        return parse(_text(store), str(file), {})
    except ConfigError:  # of another version of this program
        return None


def _text(store: FleetStore) -> str:
    """The stored text. Raises UnknownFormat."""
    text = _file(store).read_text(encoding="utf-8")
    found = re.match(_FIRST_LINE.format(r"(.*)"), text)
    LAST_CONFIGURATION.check(None if found is None else found[1], _file(store))
    return text


def _file(store: FleetStore) -> Path:
    return store.folder / FILE
