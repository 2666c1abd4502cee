"""The errors that this package raises on purpose.

SpinneyError
 ├─ ConfigError       the configuration is wrong: nothing was started (exit 2)
 ├─ ContractError     data breaks its contract: stop
 ├─ GroupError        an error of one group: becomes a row, the other groups continue
 │   ├─ TooFewRows      fewer rows than the recipe requires
 │   └─ FitFailed       the estimator's own error
 │       └─ TimedOut      not finished within the recipe's time limit
 ├─ StoreError        a table, topic or tracking server
 │   ├─ Busy            transient: try again
 │   ├─ UnknownGroup    nothing was ever stored of the group
 │   └─ Corrupt         terminal: a person has to look
 │       └─ UnknownFormat  a later version of Spinney wrote it
 └─ SetupError        the machine: Java, jars, ports, disk, network

A message says what went wrong; which group, topic, table or key; what was expected; what was found; what to do. All
errors can be pickled, since those of a worker must reach the driver unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_ERROR_CHARACTERS = 500
"""Length of a foreign error's text in a row or message."""


def _storable(text: str) -> str:
    """Return a foreign error's text in a form that every table accepts."""
    return text.encode("utf-8", "backslashreplace").decode()


def _rebuild(error_class: type[SpinneyError], args: tuple[Any, ...], state: dict[str, Any]) -> SpinneyError:
    """Recreate the exception without calling its constructor, whose parameters differ from class to class."""
    error = error_class.__new__(error_class)
    error.args = args
    error.__dict__.update(state)
    return error


class SpinneyError(Exception):
    """Base class of all errors here. The command line prints its text and exits with 1."""

    def __reduce__(self) -> tuple[Callable[..., SpinneyError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def exit_code(error: SpinneyError) -> int:
    """Return a command's exit code: 2 for a wrong configuration, when nothing was started; 1 for any other failure."""
    return 2 if isinstance(error, ConfigError) else 1


@dataclass(frozen=True)
class Finding:
    """One error in a configuration, and what to do about it.

    file: the file's path, or ``environment``. line: from 1; None if there is no line to show. key: the dotted key
    (``fleet.columns.carrier``); empty for the file as a whole.
    """

    file: str
    line: int | None
    key: str
    expected: str
    got: str
    remedy: str

    @property
    def where(self) -> str:
        """File and line."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        key = f" {self.key}:" if self.key else ""
        text = f"{self.where}:{key} expected {self.expected}; got {self.got}"
        return f"{text}. {self.remedy}" if self.remedy else text


class ConfigError(SpinneyError):
    """The configuration is wrong; nothing was started. Carries all findings, not only the first."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class ContractError(SpinneyError):
    """Data breaks its contract: continuing would give wrong results."""


class GroupError(SpinneyError):
    """An error of one group. It becomes that group's row; the other groups continue."""

    def __init__(self, group_key: str, text: str) -> None:
        self.group_key = group_key
        super().__init__(f"group {group_key}: {text}")


class TooFewRows(GroupError):
    """The group has fewer rows than the recipe requires."""

    def __init__(self, group_key: str, rows: int, needed: int) -> None:
        self.rows = rows
        self.needed = needed
        super().__init__(group_key, f"{needed} rows needed (recipe.min_rows), {rows} there")


class FitFailed(GroupError):
    """The estimator raised an error, or returned something that cannot predict.

    error_class, error: class name and shortened text of the original, as plain strings, so that this error can be
    unpickled where the estimator's package is not installed.
    """

    def __init__(self, group_key: str, error_class: str, error: str) -> None:
        self.error_class = _storable(error_class)
        self.error = _storable(error)[:MAX_ERROR_CHARACTERS]
        super().__init__(group_key, f"{self.error_class}: {self.error}")

    @classmethod
    def of(cls, group_key: str, cause: BaseException) -> FitFailed:
        """Return the error of a group for the exception that its fit raised."""
        if isinstance(cause, MemoryError):
            text = f"{str(cause)[:300] or 'no more memory'}. Fit fewer rows, or raise recipe.memory_limit_mib"
            return cls(group_key, MemoryError.__name__, text)
        return cls(group_key, type(cause).__name__, str(cause))

    @property
    def cause(self) -> str:
        """Class and text of the original in one line."""
        return f"{self.error_class}: {self.error}"


def fit_error_text(group_key: str, error: Exception | None) -> str:
    """Return the text that a comparison records about a failed fit or prediction.

    error: None if the kernel returned no model.
    """
    try:
        return FitFailed.of(group_key, error or RuntimeError("the kernel gave no model")).cause
    except Exception:  # str(error) itself raises
        return type(error).__name__


class TimedOut(FitFailed):
    """A fit or a prediction that did not finish within `recipe.time_limit`."""

    def __init__(self, group_key: str, error: str) -> None:
        super().__init__(group_key, TimedOut.__name__, error)


class StoreError(SpinneyError):
    """A table, topic or tracking server failed."""


class Busy(StoreError):
    """Transient: another process holds it, or it is overloaded. Try again."""


class UnknownGroup(StoreError):
    """Nothing was ever stored of the group that was named."""


class Corrupt(StoreError):
    """Permanent: stored data is not what was written, or its signature does not verify. Never retried."""


class UnknownFormat(Corrupt):
    """A file or row has a format that this version of Spinney does not read. It is never overwritten."""


class SetupError(SpinneyError):
    """The machine is not ready: Java, jars, a port, the disk, the network. The text says what to do."""
