"""Request files, by which a command asks a running stream for work, and their answers: JSON with a format version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from spinney.core.stored_formats import KEY, REQUEST
from spinney.storage import atomic_files


def write_request_file(file: Path, content: Mapping[str, Any]) -> None:
    """Write a request or an answer, replacing an earlier one.

    content: values for JSON; times are written as ISO 8601.
    """
    versioned = {KEY: REQUEST.version, **content}
    atomic_files.replace_file(file, json.dumps(versioned, default=datetime.isoformat).encode())


def read_request_file(file: Path) -> dict[str, Any] | None:
    """Return the request or answer; None if the file does not exist. Raises UnknownFormat."""
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    REQUEST.check_object(content, file)
    return content
