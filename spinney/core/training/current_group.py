"""Whose turn it is: said before code of others runs, so that a process that hangs or dies names one group.

Nobody listens unless `heard_by` says who; what is fitted does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str | None, str], None]

FIT = "while it was fitted"
COMPARE = "while its candidates were compared"
ASK = "while its new model was asked"
READ_CHAMPION = "while its champion was read"
ASK_CHAMPION = "while its champion was asked"
STORE = "while its model was stored"
SHADOW = "while its shadow was compared"
REFIT = "while its champion's recipe was fitted again"


def _nobody(group_key: str | None, doing: str) -> None:
    """Listens to nothing."""


_listener: ContextVar[Listener] = ContextVar("listener", default=_nobody)


def begin(group_key: str | None, doing: str) -> None:
    """Say that this group's turn begins, and what is done. None: work on many at once, nobody's own."""
    _listener.get()(group_key, doing)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """While it lasts, `listener` is told."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def said_as(doing: str) -> Iterator[None]:
    """While it lasts, this is what is done in every turn."""
    outer = _listener.get()
    with heard_by(lambda group_key, _: outer(group_key, doing)):
        yield
