"""Runs requests in a bounded number of threads, with a bounded number that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from spinney.gateway.errors import RequestError

T = TypeVar("T")

RETRY_AFTER_S = 1


class WorkQueue:
    """Threads for requests.

    concurrency: requests that run at the same time. waiting: further ones that may wait. time_limit_s: of one, its wait
    included.
    """

    def __init__(self, concurrency: int, waiting: int, time_limit_s: float) -> None:
        self._most, self._time_limit_s = concurrency + waiting, time_limit_s
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="request")
        self._lock, self._there = Lock(), 0

    @property
    def there(self) -> int:
        """Requests that run or wait."""
        return self._there

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what the function returns.

        Raises RequestError: 429 if too many requests are there; 503 at the time limit. A function that has begun is not
        ended then, and holds its thread until it returns.
        """
        with self._lock:
            if self._there >= self._most:
                message = f"server: expected at most {self._most} requests at once; got one more. Send it again later"
                raise RequestError(429, "too_many_requests", message, RETRY_AFTER_S)
            self._there += 1
        found = self._pool.submit(function, *arguments)
        found.add_done_callback(self._left)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(found), self._time_limit_s)
        except TimeoutError as error:
            message = f"server: expected an answer within {self._time_limit_s:g} s; got none. Send fewer rows, or later"
            raise RequestError(503, "time_limit", message, RETRY_AFTER_S) from error

    def close(self) -> None:
        """Let running requests end; refuse others."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _left(self, _: Future[Any]) -> None:
        with self._lock:
            self._there -= 1
