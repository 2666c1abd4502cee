"""Write a trial's chart and page to a folder."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from spinney.core import keys
from spinney.core.errors import SetupError
from spinney.local.trial.fit import Trial
from spinney.local.trial.page import page
from spinney.local.trial.plots import png


def write_files(trial: Trial, folder: Path) -> dict[str, str]:
    """Write GROUP.png and GROUP.html into a folder, which is created if needed. Returns kind -> path.

    Raises SetupError: the folder cannot be written.
    """
    paths = {kind: folder / f"{file_stem(trial.group_key)}.{kind}" for kind in ("png", "html")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths["png"].write_bytes(png(trial))
        paths["html"].write_text(page(trial), encoding="utf-8")
    except OSError as error:
        got = error.strerror or str(error)
        raise SetupError(f"{folder}: expected a folder to write to; got {got}. Name another with --out") from error
    return {kind: str(path) for kind, path in paths.items()}


def file_stem(group_key: str) -> str:
    """Return a file name for a group: the parts of its key, and a digest of it if a part had to be changed."""
    parts = keys.decode(group_key)
    safe = ["null" if part is None else re.sub(r"[^A-Za-z0-9._]", "_", part).lstrip(".")[:40] for part in parts]
    if safe != list(parts) or not all(safe):
        safe = [part or "empty" for part in safe]
        safe.append(hashlib.sha256(group_key.encode()).hexdigest()[:8])
    return "-".join(safe)
