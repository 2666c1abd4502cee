"""The configuration that a test gives: read already, or as a file."""

from __future__ import annotations

import os

from spinney.core.config import Config
from spinney.storage.config_file import read_config


def config_of(config: Config | str | os.PathLike[str]) -> Config:
    """Return the configuration, read if it is the path of a file. Raises ConfigError."""
    return config if isinstance(config, Config) else read_config(os.fspath(config))
