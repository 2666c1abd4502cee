"""Makes the relative paths of a configuration absolute.

A path in the file is relative to the file's folder, so that a command finds the same fleet from any folder. A path from
the environment is relative to the current folder, as in a shell. ``~`` is the home folder in both.
"""

from __future__ import annotations

import os
from pathlib import Path

from spinney.core.config import Config
from spinney.core.config.value_types import PLAIN_PATH, local_path
from spinney.core.errors import ConfigError, Finding

_SQLITE = "sqlite:///"
ROOT, URI = "storage.root", "tracking.uri"


def with_absolute_paths(config: Config, file: Path) -> Config:
    """Return the configuration with an absolute ``storage.root`` and SQLite file of ``tracking.uri``.

    file: the one it was read from. Raises ConfigError: ``~`` without a home folder; a path that cannot be used.
    """
    root, uri = config.storage.root, config.tracking.uri
    storage = config.storage.model_copy(update={"root": _absolute_root(root, _base_folder(config, ROOT, file), config)})
    tracking = config.tracking.model_copy(update={"uri": _absolute_uri(uri, _base_folder(config, URI, file))})
    return config.model_copy(update={"storage": storage, "tracking": tracking})


def _base_folder(config: Config, key: str, file: Path) -> Path:
    """Return the base folder of a relative path of this key."""
    from_environment = config.origins.get(key, "").startswith("environment")
    # A pipe (`--config /dev/stdin`) is in no folder of the user's.
    return Path.cwd() if from_environment or not file.is_file() else file.parent.absolute()


def absolute_path(path: str, base: Path) -> str:
    """Return a path as an absolute one, relative to `base`. A ``~user`` of an unknown user stays unchanged."""
    expanded = os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser raises where there is no home
    if expanded.startswith("~"):
        return expanded
    joined = base / expanded
    # Programs resolve ".." differently, by links or by name, so it is resolved here.
    return os.path.realpath(joined) if ".." in joined.parts else str(joined)


def _absolute_root(root: str, base: Path, config: Config) -> str:
    if local_path(root) != root:
        return root  # file:///…: absolute
    path = absolute_path(root, base)
    if path.startswith("~"):
        raise _refusal(config, "a home folder", f"none for {root}", "Write the folder's whole path.")
    if local_path(path) is None:
        remedy = "Name an absolute path elsewhere, or rename the folder."
        raise _refusal(config, PLAIN_PATH, path, remedy)
    return path


def _absolute_uri(uri: str, base: Path) -> str:
    """Return the URI with the absolute path of its SQLite file; any other URI as it is."""
    database, mark, options = uri.removeprefix(_SQLITE).partition("?")
    if not uri.startswith(_SQLITE) or not database or database.startswith((":", "/", "file:")):
        return uri
    return f"{_SQLITE}{absolute_path(database, base)}{mark}{options}"


def _refusal(config: Config, expected: str, got: str, remedy: str) -> ConfigError:
    place, _, line = config.origins.get(ROOT, "").rpartition(":")
    return ConfigError([Finding(place or ROOT, int(line) if line.isdigit() else None, ROOT, expected, got, remedy)])
