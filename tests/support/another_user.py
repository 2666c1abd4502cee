"""Runs a function as a user who may write only where the others of a group may."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOBODY = 65_534


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into; pytest's are for their owner alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def shared_group() -> int:
    """The group of the other user: of nobody, where this process may become it, else this user's own."""
    return NOBODY if os.geteuid() == 0 else os.getegid()


def _become() -> None:
    os.umask(0o027)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def run_as_another_user(function: Callable[..., Any], *words: Any) -> Any:
    """Return what a function returns in a process of the other user; without root's rights, of this one."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_run, (function, words))


def _run(function: Callable[..., Any], words: tuple[Any, ...]) -> Any:
    _become()  # not as the pool's initializer: a pool starts a process whose initializer fails again and again
    return function(*words)
