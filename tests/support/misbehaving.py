"""An estimator that does to its process what a feature named `trouble` says; without trouble it is Ridge."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from enum import IntEnum, auto
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge

HELD: list[Any] = []
"""What groups leave behind in their process."""


class Trouble(IntEnum):
    NONE = 0
    RAISES = auto()
    NOT_A_NUMBER = auto()
    WARNS = auto()
    PRINTS = auto()
    SYS_EXIT = auto()
    OS_EXIT = auto()
    OS_EXIT_0 = auto()
    INTERRUPTS = auto()
    ALLOCATES = auto()
    LEAKS = auto()
    FAULTS = auto()
    ABORTS = auto()
    KILLED = auto()
    TERMINATED = auto()
    FORKS = auto()
    SLEEPS = auto()
    HANGS_IN_C = auto()
    HANGS_IN_ANSWERS = auto()
    DIES_IN_ANSWERS = auto()
    RAISES_IN_WORDS = auto()
    CLOSES_ALL = auto()


class Wordless(Exception):  # noqa: N818 - said as what is so
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def raises() -> None:
    raise ZeroDivisionError("one by nothing \udc80")


def raises_in_words() -> None:
    raise Wordless


def interrupts() -> None:
    raise KeyboardInterrupt


def warns() -> None:
    for n in range(1000):
        warnings.warn(f"warning {n}", UserWarning, stacklevel=1)


def prints() -> None:
    line = "x" * (1 << 20)
    for _ in range(64):
        sys.stdout.write(line)
        os.write(2, line.encode())


def leaks() -> None:
    """Takes what it can get and gives nothing back."""
    while True:
        HELD.append(np.empty(1 << 22))


def forks() -> None:
    """Its twin goes on like it; another one stays behind."""
    if os.fork() == 0:
        return
    if os.fork() == 0:
        time.sleep(3600)


def hangs_in_c() -> None:
    """Holds the interpreter, with every signal shut out that can be."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(3600)


DOES: dict[Trouble, Callable[[], Any]] = {
    Trouble.RAISES: raises,
    Trouble.WARNS: warns,
    Trouble.PRINTS: prints,
    Trouble.SYS_EXIT: lambda: sys.exit("enough"),
    Trouble.OS_EXIT: lambda: os._exit(3),
    Trouble.OS_EXIT_0: lambda: os._exit(0),
    Trouble.INTERRUPTS: interrupts,
    Trouble.ALLOCATES: lambda: np.empty(1 << 37),
    Trouble.LEAKS: leaks,
    Trouble.FAULTS: lambda: ctypes.string_at(0),
    Trouble.ABORTS: os.abort,
    Trouble.KILLED: lambda: os.kill(os.getpid(), signal.SIGKILL),
    Trouble.TERMINATED: lambda: os.kill(os.getpid(), signal.SIGTERM),
    Trouble.FORKS: forks,
    Trouble.SLEEPS: lambda: time.sleep(3600),
    Trouble.HANGS_IN_C: hangs_in_c,
    Trouble.RAISES_IN_WORDS: raises_in_words,
    Trouble.CLOSES_ALL: lambda: os.closerange(0, 65_536),
}
ANSWERS = {Trouble.HANGS_IN_ANSWERS: Trouble.HANGS_IN_C, Trouble.DIES_IN_ANSWERS: Trouble.KILLED}


class Moody(Ridge):
    """Plain Ridge, by class too, once it is fitted without trouble."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Moody:
        self.trouble_ = Trouble(int(X[0, -1]))
        DOES.get(self.trouble_, lambda: None)()
        super().fit(X, y, sample_weight)
        if self.trouble_ is Trouble.NOT_A_NUMBER:
            self.coef_ = self.coef_ * np.nan
        if self.trouble_ not in ANSWERS:
            del self.trouble_
            self.__class__ = Ridge
        return self

    def predict(self, X: Any) -> Any:
        DOES[ANSWERS[self.trouble_]]()


def moody() -> Moody:
    return Moody()


def nothing_at_all() -> Moody:
    """Ends the process before there is an estimator."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return Moody()
