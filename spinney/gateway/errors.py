"""Errors of a request, with the HTTP status of the answer."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from spinney.core.errors import SpinneyError

T = TypeVar("T")


class RequestError(SpinneyError):
    """A request that is not answered.

    status: the HTTP status. code: a name for programs. retry_after_s: seconds after which the same request may be
    answered; None if it never will.
    """

    def __init__(self, status: int, code: str, message: str, retry_after_s: int | None = None) -> None:
        self.status, self.code, self.retry_after_s = status, code, retry_after_s
        super().__init__(message)


class TooMuchError(RequestError):
    """A request with too many rows, groups or bytes. got: the number found; None if it was not counted to the end."""

    def __init__(self, what: str, most: int, got: int | None, key: str) -> None:
        count, advice = "more" if got is None else got, f"Send several requests, or raise {key}"
        super().__init__(422, "too_much", f"request: expected at most {most} {what}; got {count}. {advice}")


def take_records(records: Iterable[T], max_rows: int) -> list[T]:
    """Return the records as a list. Raises TooMuchError at the first record beyond `max_rows`, without reading further.

    So a reader that makes records from something smaller, such as a CSV line, makes no more of them than are allowed.
    """
    found = list(islice(records, max_rows + 1))
    if len(found) > max_rows:
        raise TooMuchError("records", max_rows, None, "gateway.max_rows")
    return found
