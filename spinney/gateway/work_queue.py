"""Runs requests in a bounded number of threads; a bounded number of further requests may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from spinney.gateway.errors import RequestError

T = TypeVar("T")

RETRY_AFTER_S = 1


class WorkQueue:
    """Threads for requests.

    concurrency: number of requests that run at the same time. waiting: number of further requests that may wait, or
    send their body. time_limit_s: seconds for one request, including the time to send its body and to wait.
    """

    def __init__(self, concurrency: int, waiting: int, time_limit_s: float) -> None:
        self._most, self._time_limit_s = concurrency + waiting, time_limit_s
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="request")
        self._lock, self._there = Lock(), 0

    @property
    def there(self) -> int:
        """Number of requests that send their body, wait or run."""
        return self._there

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what the function returns.

        Raises RequestError with status 429 if too many requests are waiting, and 503 at the time limit. A function that
        has begun is not ended at the limit: it holds its thread until it returns.
        """
        self._enter()
        return await self._call(self._deadline(), function, *arguments)

    async def run_on_body(
        self,
        function: Callable[[bytes], T],
        body: Callable[[], Awaitable[bytes]],
        at_once: Callable[[bytes], T | None] = lambda _: None,
    ) -> T:
        """Run a request whose body is read first; otherwise like `run`.

        body: reads the body; called only if the request has a place. at_once: tried first, in the event loop; it
        returns None if the answer may take more than a millisecond. Raises RequestError also with status 408 if the
        body is not complete at the time limit, and the errors of `body`.
        """
        self._enter()
        deadline = self._deadline()
        try:
            raw = await self._read(body, deadline)
            result = at_once(raw)
        except BaseException:
            self._leave()
            raise
        if result is not None:
            self._leave()
            return result
        return await self._call(deadline, function, raw)

    async def read_in_time(self, body: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the body of a request that takes no place here. body: reads it.

        Raises RequestError: 408 at the time limit, and those of `body`.
        """
        return await self._read(body, self._deadline())

    async def _read(self, body: Callable[[], Awaitable[bytes]], deadline: float) -> bytes:
        try:
            async with asyncio.timeout_at(deadline):
                return await body()
        except TimeoutError as error:
            message = f"body: expected it within {self._time_limit_s:g} s; got a part of it"
            raise RequestError(408, "body_late", message) from error

    def close(self) -> None:
        """Let running requests end; refuse others."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _call(self, deadline: float, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in a thread.

        The request keeps its place until the function returns, or is given up before it begins.
        """
        running = self._pool.submit(function, *arguments)
        running.add_done_callback(self._leave)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.wrap_future(running)
        except TimeoutError as error:
            message = f"server: expected an answer within {self._time_limit_s:g} s; got none. Send fewer rows, or later"
            raise RequestError(503, "time_limit", message, RETRY_AFTER_S) from error

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._time_limit_s

    def _enter(self) -> None:
        with self._lock:
            if self._there >= self._most:
                message = f"server: expected at most {self._most} requests at once; got one more. Send it again later"
                raise RequestError(429, "too_many_requests", message, RETRY_AFTER_S)
            self._there += 1

    def _leave(self, _: Future[Any] | None = None) -> None:
        with self._lock:
            self._there -= 1
