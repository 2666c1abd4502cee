"""Time limits of a connection that uvicorn does not have: clients that send or take nothing would stay for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""Seconds for the head of a request, from the opening of its connection or from its first byte."""

TAKE_S = 30.0
"""Seconds in which a client takes some part of an answer that waits for it."""


class TimeoutProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose next request does not begin in time, or whose client takes no answer.

    The time between an answer and the first byte of the next request is `timeout_keep_alive`, as in uvicorn. What is
    still sent of a body after its answer, such as 401, counts as the next request.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._limit_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        self._limit_head()

    def pause_writing(self) -> None:
        """Begin to look whether the client takes its answer."""
        super().pause_writing()
        self._limit_answer()

    def resume_writing(self) -> None:
        """End that: all but a little was taken."""
        super().resume_writing()
        _cancel(self._answer_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        _cancel(self._head_timer)
        _cancel(self._answer_timer)

    def _limit_head(self) -> None:
        if self._is_answering:
            _cancel(self._head_timer)
            self._head_timer = None
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_S, self._close)

    @property
    def _is_answering(self) -> bool:
        """Whether a request is there that has no whole answer yet."""
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _close(self) -> None:
        self._head_timer = None
        if not self._is_answering:
            self.transport.close()

    def _limit_answer(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._answer_timer = self.loop.call_later(TAKE_S, self._abort_unless_taken, left)

    def _abort_unless_taken(self, before: int) -> None:
        """Close the connection if no byte of the answer was taken. before: bytes that waited."""
        if self.transport.get_write_buffer_size() < before:
            self._limit_answer()
        else:
            self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
