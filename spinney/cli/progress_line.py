"""Progress of a command on standard error."""

from __future__ import annotations

import math
import sys
import time

import click


class ProgressLine:
    """One line on standard error.

    On a terminal each text overwrites the one before. Elsewhere a text is printed `seconds_between` after the one
    before at the earliest; with math.inf only the last.
    """

    def __init__(self, seconds_between: float = 0.0) -> None:
        self._seconds_between = seconds_between
        self._on_terminal = sys.stderr.isatty()
        self._printed_at = time.monotonic() if seconds_between else -math.inf

    def show(self, text: str, *, is_last: bool) -> None:
        """Show the text. is_last: the work has ended, and the line with it."""
        if self._on_terminal:
            click.echo(f"\r\x1b[K{text}", err=True, nl=is_last)
            return
        now = time.monotonic()
        if is_last or now - self._printed_at >= self._seconds_between:
            self._printed_at = now
            click.echo(text, err=True)
