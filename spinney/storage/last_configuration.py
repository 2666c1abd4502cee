"""The configuration that a fleet ran with last, beside its tables: what an edit is compared with."""

from __future__ import annotations

from pathlib import Path

from spinney.core.config import Config, parse
from spinney.core.config.without_secrets import without_secrets
from spinney.core.errors import ConfigError
from spinney.storage import atomic_files
from spinney.storage.layout import root

FILE = "last.toml"


def remember(config: Config) -> None:
    """Write it down, without what may hold a credential. For who puts a configuration into effect."""
    content = without_secrets(config).encode()
    if not _file(config).exists() or _file(config).read_bytes() != content:
        atomic_files.replace(_file(config), content)


def last(config: Config) -> Config | None:
    """The configuration that the fleet at this root ran with last; None where that is not known."""
    if not _file(config).exists():
        return None
    try:
        return parse(_file(config).read_text(encoding="utf-8"), str(_file(config)), {})
    except ConfigError:  # of another version of this program
        return None


def _file(config: Config) -> Path:
    return atomic_files.folder(root(config)) / FILE
