"""Errors of this package inside Spark's errors.

Spark passes on an exception of a Python worker as the text of its traceback. Only this module reads that text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import PySparkException

from spinney.core.errors import SpinneyError, StoreError

_CLASS_PREFIX = f"{SpinneyError.__module__}."
"""Beginning of the last line of a traceback if the exception is of a class of this package."""


@contextmanager
def unwrap_task_errors() -> Iterator[None]:
    """Raise StoreError with the message of the package's error if a task raised one; pass on other errors unchanged."""
    try:
        yield
    except PySparkException as error:
        message = message_in_traceback(str(error))
        if message is None:
            raise
        raise StoreError(message) from error


def error_summary(error: Exception) -> str:
    """Return an error's message for people: that of this package's exception, else the first line of Spark's."""
    if isinstance(error, SpinneyError):
        return str(error)
    text = str(error)
    return message_in_traceback(text) or (text.splitlines()[0] if text else type(error).__name__)


def message_in_traceback(text: str) -> str | None:
    """Return the message of the first error of this package in the text of a traceback; None if it has none."""
    for line in text.splitlines():
        if _CLASS_PREFIX in line:
            return line.partition(_CLASS_PREFIX)[2].partition(": ")[2]
    return None
