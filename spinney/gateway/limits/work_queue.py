"""Runs requests in a bounded number of threads; a bounded number of further requests may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from spinney.gateway.errors import RequestError

T = TypeVar("T")

RETRY_AFTER_S = 1

SMALL_BYTES = 4_096
"""Bodies up to this size are answered in the event loop if that is possible without waiting: handing a request to a
thread and back costs as much as answering one record, and the thread may wait for the interpreter's lock.
"""


class WorkQueue:
    """Threads for requests.

    concurrency: number of requests that run at the same time. waiting: number of further requests that may wait, or
    send their body. time_limit_s: seconds for one request, including the time to send its body and to wait. max_bytes:
    of the bodies of all these requests together; a single one may be larger.
    """

    def __init__(self, concurrency: int, waiting: int, time_limit_s: float, max_bytes: int = 1 << 30) -> None:
        self._most, self._time_limit_s, self._max_bytes = concurrency + waiting, time_limit_s, max_bytes
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="request")
        self._lock, self._there, self._bytes = Lock(), 0, 0
        self._turn = asyncio.Lock()

    @property
    def there(self) -> int:
        """Number of requests that send their body, wait or run."""
        return self._there

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what the function returns.

        Raises RequestError with status 429 if too many requests are waiting, and 503 at the time limit. A function that
        has begun is not ended at the limit: it holds its thread until it returns.
        """
        self._enter(0)
        return await self._call(0, self._deadline(), function, *arguments)

    async def run_on_body(
        self,
        function: Callable[[bytes], T],
        body: Callable[[], Awaitable[bytes]],
        at_once: Callable[[bytes], T | None] | None = None,
        body_bytes: int = 0,
    ) -> T:
        """Run a request whose body is read first; otherwise like `run`.

        body: reads the body; called only if the request has a place. at_once: tried first with a body of up to
        SMALL_BYTES, in the event loop; it returns None if the answer may take more than a millisecond. body_bytes: the
        most that the body can have; they are counted until the function returns. Raises RequestError also with status
        408 if the body is not complete at the time limit, and the errors of `body`.
        """
        self._enter(body_bytes)
        deadline = self._deadline()
        try:
            raw = await self._read(body, deadline)
            result = await self._answer_in_turn(at_once, raw) if at_once and len(raw) <= SMALL_BYTES else None
        except BaseException:
            self._leave(body_bytes)
            raise
        if result is not None:
            self._leave(body_bytes)
            return result
        return await self._call(body_bytes, deadline, function, raw)

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

    async def _answer_in_turn(self, at_once: Callable[[bytes], T | None], raw: bytes) -> T | None:
        """Call a function in the event loop, which looks for other requests before each such call.

        Requests that came together would otherwise be answered one after the other before the loop looks again. Those
        that come meanwhile from the first callers would always precede that of the last one, which then waits twice as
        long as the others: epoll lists connections in the order in which it listed them before.
        """
        is_waiting = self._turn.locked()
        async with self._turn:
            if not is_waiting:
                await asyncio.sleep(0)
            return at_once(raw)

    async def _call(self, body_bytes: int, deadline: float, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in a thread.

        The request keeps its place until the function returns, or is given up before it begins.
        """
        running = self._pool.submit(function, *arguments)
        running.add_done_callback(lambda _: self._leave(body_bytes))
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.wrap_future(running)
        except TimeoutError as error:
            message = f"server: expected an answer within {self._time_limit_s:g} s; got none. Send fewer rows, or later"
            raise RequestError(503, "time_limit", message, RETRY_AFTER_S) from error

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._time_limit_s

    def _enter(self, body_bytes: int) -> None:
        with self._lock:
            if self._there >= self._most:
                message = f"server: expected at most {self._most} requests at once; got one more. Send it again later"
                raise RequestError(429, "too_many_requests", message, RETRY_AFTER_S)
            if self._bytes and self._bytes + body_bytes > self._max_bytes:
                message = (
                    f"server: expected bodies of at most {self._max_bytes} bytes together; got one of {body_bytes} "
                    f"beside {self._bytes}. Send it again later"
                )
                raise RequestError(429, "too_many_bytes", message, RETRY_AFTER_S)
            self._there += 1
            self._bytes += body_bytes

    def _leave(self, body_bytes: int) -> None:
        with self._lock:
            self._there -= 1
            self._bytes -= body_bytes
