"""The configuration that a fleet ran with last, beside its tables: what an edit is compared with."""

from __future__ import annotations

from pathlib import Path

from spinney.core.config import Config, parse
from spinney.core.config.without_secrets import without_secrets
from spinney.core.errors import ConfigError
from spinney.storage import atomic_files
from spinney.storage.layout import FleetStore

FILE = "last.toml"


def remember(config: Config) -> None:
    """Write it down, without what may hold a credential. For who puts a configuration into effect."""
    file = _file(FleetStore.of(config))
    content = without_secrets(config).encode()
    if not file.exists() or file.read_bytes() != content:
        atomic_files.replace(file, content)


def last(store: FleetStore) -> Config | None:
    """The configuration that the fleet at this root ran with last; None where that is not known."""
    file = _file(store)
    if not file.exists():
        return None
    try:
        return parse(file.read_text(encoding="utf-8"), str(file), {})
    except ConfigError:  # of another version of this program
        return None


def _file(store: FleetStore) -> Path:
    return store.folder / FILE
