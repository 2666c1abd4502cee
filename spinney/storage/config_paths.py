"""Where the relative paths of a configuration lead.

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

    file: that it was read from. Raises ConfigError: ``~`` without a home folder; a folder whose path cannot be used.
    """
    root, uri = config.storage.root, config.tracking.uri
    storage = config.storage.model_copy(update={"root": _root(root, _base(config, ROOT, file), config)})
    tracking = config.tracking.model_copy(update={"uri": _uri(uri, _base(config, URI, file))})
    return config.model_copy(update={"storage": storage, "tracking": tracking})


def _base(config: Config, key: str, file: Path) -> Path:
    """The folder that a relative path of this key starts at."""
    from_environment = config.origins.get(key, "").startswith("environment")
    # A pipe (`--config /dev/stdin`) lies in no folder of the user's.
    return Path.cwd() if from_environment or not file.is_file() else file.parent.absolute()


def absolute(path: str, base: Path) -> str:
    """Return a path as an absolute one. ``~user`` of an unknown user is left as it is."""
    expanded = os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser raises where there is no home
    if expanded.startswith("~"):
        return expanded
    joined = base / expanded
    # Each reader of a path with ".." in it may resolve it in its own way, by links or by name: not left to them.
    return os.path.realpath(joined) if ".." in joined.parts else str(joined)


def _root(root: str, base: Path, config: Config) -> str:
    if local_path(root) != root:
        return root  # file:///…: absolute
    found = absolute(root, base)
    if found.startswith("~"):
        raise _refused(config, "a home folder", f"none for {root}", "Write the folder's whole path.")
    if local_path(found) is None:
        remedy = "Name an absolute path elsewhere, or rename the folder."
        raise _refused(config, PLAIN_PATH, found, remedy)
    return found


def _uri(uri: str, base: Path) -> str:
    """The URI with the absolute path of its database, where that is a file; any other as it is."""
    database, mark, options = uri.removeprefix(_SQLITE).partition("?")
    if not uri.startswith(_SQLITE) or not database or database.startswith((":", "/", "file:")):
        return uri
    return f"{_SQLITE}{absolute(database, base)}{mark}{options}"


def _refused(config: Config, expected: str, got: str, remedy: str) -> ConfigError:
    place, _, line = config.origins.get(ROOT, "").rpartition(":")
    return ConfigError([Finding(place or ROOT, int(line) if line.isdigit() else None, ROOT, expected, got, remedy)])
