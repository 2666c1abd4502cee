"""Reads a configuration file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from spinney.core.config import Config, parse
from spinney.core.errors import ConfigError, Finding
from spinney.storage.absolute_paths import with_absolute_paths


def read_config(path: str | Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration; its paths become absolute. environment: os.environ if None.

    Raises ConfigError if the file does not exist or is not UTF-8, and for every error that `parse` finds.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        remedy = "Name it with --config, or make one: spinney init --from data.csv > fleet.toml"
        raise unreadable_file(path, "a configuration file", "no such file", remedy) from error
    except UnicodeDecodeError as error:
        got = f"byte {error.start} that is none"
        raise unreadable_file(path, "UTF-8 text", got, "Save the file as UTF-8.") from error
    except OSError as error:
        raise unreadable_file(path, "a file that can be read", error.strerror or str(error), "") from error
    config = parse(text, str(path), os.environ if environment is None else environment)
    return with_absolute_paths(config, path)


def unreadable_file(path: Path, expected: str, got: str, remedy: str) -> ConfigError:
    """Return the error about a configuration file that cannot be read."""
    return ConfigError([Finding(str(path), None, "", expected, got, remedy)])
