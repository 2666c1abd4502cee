"""Report which group is being worked on, so that a crash or hang can be attributed to it.

Call `report` before code runs that may end the process: an estimator, a champion, a codec. Reports go to the listener
that `reported_to` sets; without it they are ignored. They do not influence results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str | None, str], None]

FIT = "while it was fitted"
COMPARE = "while its candidates were compared"
PREDICT = "while its new model was asked"
READ_CHAMPION = "while its champion was read"
PREDICT_CHAMPION = "while its champion was asked"
READ_PARENT = "while its parent's model was read"
PREDICT_PARENT = "while its parent's model was asked"
PREDECESSOR = "while its champion's predecessor was compared"
RULE = "while the rule of the gate was asked"
STORE = "while its model was stored"
SHADOW = "while its shadow was compared"
REFIT = "while its champion's recipe was fitted again"


def _ignore(group_key: str | None, doing: str) -> None:
    """The default listener."""


_listener: ContextVar[Listener] = ContextVar("listener", default=_ignore)


def report(group_key: str | None, activity: str) -> None:
    """Report that work on a group begins.

    group_key: None for work on many groups at once. activity: a few words, which become part of a stored error.
    """
    _listener.get()(group_key, activity)


@contextmanager
def reported_to(listener: Listener) -> Iterator[None]:
    """Send reports to `listener` while the context is open."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def reported_as(activity: str) -> Iterator[None]:
    """Add this activity to every report while the context is open."""
    outer = _listener.get()
    with reported_to(lambda group_key, _: outer(group_key, activity)):
        yield
