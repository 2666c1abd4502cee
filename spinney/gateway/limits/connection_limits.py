"""Limits of a connection that uvicorn does not have: clients that send or take nothing, and heads without an end."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
"""Seconds for the head of a request, from the opening of its connection or from its first byte."""

TAKE_S = 30.0
"""Seconds in which a client takes some part of an answer that waits for it."""

HEAD_BYTES = 65_536
"""Bytes that a client may send without any byte of a body or the end of a request: a head, or lines after a body."""


class _TimeLimits(asyncio.Protocol):
    """Closes a connection whose next request does not begin in time, or whose client takes no answer.

    The time between an answer and the first byte of the next request is `timeout_keep_alive`, as in uvicorn. What is
    still sent of a body after its answer, such as 401, counts as the next request.
    """

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    cycle: Any
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
        self._end_limits()

    def _end_limits(self) -> None:
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
        return self.cycle is not None and not self.cycle.response_complete

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


class _ParsedByH11(_TimeLimits, H11Protocol):
    """HTTP/1.1 for clients that offer another protocol, slower. h11 limits heads to 16 KiB."""

    def _should_upgrade(self) -> bool:
        """No: nothing else is spoken here. uvicorn would log this twice for each request."""
        return False


class LimitedProtocol(_TimeLimits, HttpToolsProtocol):
    """HTTP/1.1 with the limits of this module, parsed by httptools: 0.14 ms of CPU a request less than by h11.

    httptools loses the body of a request that offers another protocol, as each of Java's HttpClient does (h2c). The
    connection of such a request is handed over to h11.
    """

    _head_bytes = 0
    _data = b""
    _is_handed_over = False

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        self._head_bytes += len(data)
        self._data = data
        super().data_received(data)
        self._data = b""
        if self._head_bytes > HEAD_BYTES:
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        """Take bytes of a body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self._head_bytes = 0
        super().on_message_complete()

    def _limit_head(self) -> None:
        if not self._is_handed_over:
            super()._limit_head()

    def _should_upgrade(self) -> bool:
        """Whether a request that offers another protocol is handed over."""
        return True

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, with the head that was read and what came after it.

        uvicorn calls it while it handles the parser's exception, which has the position of the head's end.
        """
        if self._is_answering:  # an earlier request, whose answer this one did not wait for
            self.transport.close()
            return
        ended = sys.exception()
        rest = self._data[ended.args[0] :] if ended is not None else b""
        lines = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url), *(b"%b: %b" % pair for pair in self.headers)]
        self.connections.discard(self)
        self._unset_keepalive_if_required()
        self._end_limits()
        self._is_handed_over = True
        taking_over = _ParsedByH11(self.config, self.server_state, self.app_state, _loop=self.loop)
        self.transport.set_protocol(taking_over)
        taking_over.connection_made(self.transport)
        taking_over.data_received(b"\r\n".join([*lines, b"", rest]))


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
