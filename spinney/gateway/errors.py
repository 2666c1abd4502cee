"""Errors of a request, as they are answered."""

from __future__ import annotations

from spinney.core.errors import SpinneyError


class RequestError(SpinneyError):
    """A request that is not answered.

    status: of HTTP. code: for programs. retry_after_s: after which the same request may be answered; None for never.
    """

    def __init__(self, status: int, code: str, message: str, retry_after_s: int | None = None) -> None:
        self.status, self.code, self.retry_after_s = status, code, retry_after_s
        super().__init__(message)


class TooMuchError(RequestError):
    """A request with more of something than one may have."""

    def __init__(self, what: str, most: int, got: int, key: str) -> None:
        advice = f"Send several requests, or raise {key}"
        super().__init__(422, "too_much", f"request: expected at most {most} {what}; got {got}. {advice}")
