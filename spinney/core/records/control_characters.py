"""The control characters, which no id and no part of a key may have: engines escape them differently in JSON."""

from __future__ import annotations

import re
from typing import Final

FIRST_OTHER: Final = 0x20
"""The first character behind them; but for DELETE, and in UTF-8 the first such byte."""

DELETE: Final = 0x7F
"""The last of them, the only one that JSON allows unescaped in a text."""

PATTERN: Final = rf"[\x00-\x{FIRST_OTHER - 1:02x}\x{DELETE:02x}]"
"""As a regular expression, for Python and for Arrow."""

_FOUND: Final = re.compile(PATTERN)


def has_control_character(text: str) -> bool:
    return _FOUND.search(text) is not None
