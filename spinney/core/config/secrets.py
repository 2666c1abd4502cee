"""Values as they may be shown to people: what looks like a credential is masked."""

from __future__ import annotations

import re
from typing import Any

from spinney.core.config.toml_formatting import to_toml

MASK = "********"
_SECRET = re.compile(r"password|passwd|secret|jaas|token|credential|private|key$", re.IGNORECASE)
_SECRET_IN_STORE = re.compile(r"key|sas|signature", re.IGNORECASE)
_OPTION_PREFIXES = ("kafka.options.", "storage.options.", "spark.")
_OPTION_TABLES = ("kafka.options", "storage.options", "spark")


def is_secret(key: str) -> bool:
    """Return whether the value of this dotted key must not be shown: options that look like credentials."""
    if not key.startswith(_OPTION_PREFIXES):
        return False
    return bool(_SECRET.search(key) or (key.startswith("storage.") and _SECRET_IN_STORE.search(key)))


def mask_passwords(text: str) -> str:
    """Return a text with the passwords in its URLs masked."""
    return re.sub(r"(://[^/@:\s]*):[^/@\s]+@", rf"\1:{MASK}@", text)


def display_value(key: str, value: Any) -> str:
    """Return `value` as TOML, shortened, and masked if `key` is a secret."""
    text = MASK if is_secret(key) or (key in _OPTION_TABLES and value) else to_toml(value)
    text = mask_passwords(text)
    return text if len(text) <= 120 else text[:117] + "..."
