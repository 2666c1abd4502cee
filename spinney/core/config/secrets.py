"""Values as people may see them: what looks like a credential is masked."""

from __future__ import annotations

import re
from typing import Any

from spinney.core.config.toml_text import toml

MASK = "********"
_SECRET = re.compile(r"password|passwd|secret|jaas|token|credential|private|key$", re.IGNORECASE)
_SECRET_IN_STORE = re.compile(r"key|sas|signature", re.IGNORECASE)
_OPTIONS = ("kafka.options.", "storage.options.", "spark.")
_WHOLE_OPTIONS = ("kafka.options", "storage.options", "spark")


def is_secret(key: str) -> bool:
    """Whether the value of this dotted key must not be shown: what looks like a credential among the options."""
    if not key.startswith(_OPTIONS):
        return False
    return bool(_SECRET.search(key) or (key.startswith("storage.") and _SECRET_IN_STORE.search(key)))


def masked(text: str) -> str:
    """A text without the passwords of the addresses in it."""
    return re.sub(r"(://[^/@:\s]*):[^/@\s]+@", rf"\1:{MASK}@", text)


def shown(key: str, value: Any) -> str:
    """Return `value` as TOML, bounded, and masked if `key` is a secret."""
    text = MASK if is_secret(key) or (key in _WHOLE_OPTIONS and value) else toml(value)
    text = masked(text)
    return text if len(text) <= 120 else text[:117] + "..."
