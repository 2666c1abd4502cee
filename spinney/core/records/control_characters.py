"""Control characters. Ids and key columns must not contain any, since engines escape them differently in JSON."""

from __future__ import annotations

import re
from typing import Final

FIRST_PRINTABLE: Final = 0x20
"""The first code point above the control characters, also as a byte of UTF-8. DELETE is the one above it."""

DELETE: Final = 0x7F
"""The only control character that JSON allows unescaped in a text."""

PATTERN: Final = rf"[\x00-\x{FIRST_PRINTABLE - 1:02x}\x{DELETE:02x}]"
"""Regular expression that matches one, for Python and Arrow."""

_PATTERN: Final = re.compile(PATTERN)


def has_control_character(text: str) -> bool:
    """Return whether a text contains a control character."""
    return _PATTERN.search(text) is not None
