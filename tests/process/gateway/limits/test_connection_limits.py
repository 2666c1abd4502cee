"""Connections that send no request, a head without an end, or take no answer, are closed.

The timers are the test's own: nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from spinney.gateway.limits.connection_limits import HEAD_BYTES, HEAD_S, TAKE_S, LimitedProtocol

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    pytest.fail("no request is answered here")


@dataclass
class Timer:
    after_s: float
    call: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Connection:
    """A connection whose requests are answered when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.transport = Mock(is_closing=Mock(return_value=False), get_extra_info=Mock(return_value=None))
        loop = Mock(create_task=self.begin)
        loop.call_later.side_effect = self.call_later
        config = uvicorn.Config(application, log_config=None, lifespan="off", interface="asgi3")
        self.protocol = LimitedProtocol(config, ServerState(), {}, _loop=loop)
        self.protocol.connection_made(self.transport)

    def begin(self, answering: Any) -> Mock:
        answering.close()
        return Mock()

    def call_later(self, after_s: float, call: Callable[..., None], *arguments: Any) -> Timer:
        self.timers.append(Timer(after_s, partial(call, *arguments)))
        return self.timers[-1]

    @property
    def running(self) -> list[float]:
        """Seconds of the timers that run."""
        return [timer.after_s for timer in self.timers if not timer.is_cancelled]

    def let_time_pass(self) -> None:
        for timer in [timer for timer in self.timers if not timer.is_cancelled]:
            timer.cancel()
            timer.call()

    @property
    def is_closed(self) -> bool:
        return bool(self.transport.close.called)


@pytest.fixture
def connection() -> Connection:
    return Connection()


def test_a_connection_that_sends_nothing_is_closed(connection: Connection) -> None:
    assert connection.running == [HEAD_S]
    connection.let_time_pass()
    assert connection.is_closed


def test_a_head_that_comes_byte_by_byte_gets_no_more_time(connection: Connection) -> None:
    for byte in HEAD[:-1]:
        connection.protocol.data_received(bytes([byte]))
    assert connection.running == [HEAD_S]
    assert len(connection.timers) == 1
    connection.let_time_pass()
    assert connection.is_closed


def test_a_request_whose_head_is_there_is_not_cut_off_while_it_sends_its_body(connection: Connection) -> None:
    connection.protocol.data_received(HEAD[:20])
    connection.protocol.data_received(HEAD[20:])
    connection.protocol.data_received(b"bo")
    assert connection.running == []
    connection.let_time_pass()
    assert not connection.is_closed


def test_after_an_answer_the_next_request_has_as_much_time_from_its_first_byte(connection: Connection) -> None:
    connection.protocol.data_received(HEAD)
    connection.protocol.cycle.response_complete = True
    connection.protocol.data_received(b"body")  # the rest of the first request, after its answer
    connection.protocol.data_received(b"POST")
    assert connection.running == [HEAD_S]
    connection.let_time_pass()
    assert connection.is_closed


def test_a_head_without_an_end_is_cut_off(connection: Connection) -> None:
    connection.protocol.data_received(HEAD[:-2] + b"X-Long: ")
    part = b"a" * (HEAD_BYTES // 4)
    for _ in range(3):
        connection.protocol.data_received(part)
    assert not connection.is_closed
    connection.protocol.data_received(part)
    assert connection.is_closed


def test_many_short_lines_without_an_end_are_cut_off_too(connection: Connection) -> None:
    connection.protocol.data_received(HEAD[:-2])
    sent = 0
    while not connection.is_closed:
        connection.protocol.data_received(b"X: 1\r\n" * 100)
        sent += 600
    assert HEAD_BYTES - len(HEAD) < sent <= HEAD_BYTES + 600


def test_lines_without_an_end_after_a_body_are_cut_off_too(connection: Connection) -> None:
    chunked = HEAD.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked")
    connection.protocol.data_received(chunked + b"4\r\nbody\r\n0\r\n")
    connection.protocol.data_received(b"X-Long: " + b"a" * HEAD_BYTES)
    assert connection.is_closed


def test_neither_a_large_body_nor_many_requests_are_taken_for_a_head(connection: Connection) -> None:
    connection.protocol.data_received(HEAD.replace(b"Length: 4", b"Length: 1000000"))
    for _ in range(10):
        connection.protocol.data_received(b"b" * 100_000)
    assert len(connection.protocol.cycle.body) == 1_000_000
    for _ in range(HEAD_BYTES // len(HEAD) + 1):
        connection.protocol.cycle.response_complete = True
        connection.protocol.data_received(HEAD + b"body")
    assert not connection.is_closed


OFFER = HEAD[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@pytest.mark.parametrize("parts", [[OFFER + b"body"], [OFFER[:40], OFFER[40:] + b"bo", b"dy"], [OFFER, b"body"]])
def test_a_request_that_offers_another_protocol_is_read_whole_and_its_connection_keeps_its_limits(
    connection: Connection, parts: list[bytes]
) -> None:
    connection.protocol.data_received(parts[0])
    for part in parts[1:]:
        current = connection.transport.set_protocol.call_args
        (current.args[0] if current else connection.protocol).data_received(part)
    (taking_over,) = connection.transport.set_protocol.call_args.args
    assert (taking_over.cycle.body, taking_over.cycle.more_body) == (b"body", False)
    assert (taking_over.scope["method"], taking_over.scope["path"]) == ("POST", "/predict")
    assert (b"upgrade", b"h2c") in taking_over.headers
    assert connection.running == []
    taking_over.cycle.response_complete = True
    taking_over.data_received(b"GET")
    assert connection.running == [HEAD_S]
    connection.let_time_pass()
    assert connection.is_closed


def test_one_that_does_not_wait_for_an_earlier_answer_is_cut_off(connection: Connection) -> None:
    connection.protocol.data_received(HEAD + b"body" + OFFER + b"body")
    assert connection.is_closed
    assert not connection.transport.set_protocol.called


def answering(connection: Connection, waiting_bytes: int) -> None:
    connection.protocol.data_received(HEAD)
    connection.transport.get_write_buffer_size.return_value = waiting_bytes
    connection.protocol.pause_writing()


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(connection: Connection) -> None:
    answering(connection, 90_000)
    assert connection.running == [TAKE_S]
    connection.let_time_pass()
    connection.transport.abort.assert_called_once_with()


def test_a_client_that_takes_its_answer_slowly_is_not(connection: Connection) -> None:
    answering(connection, 90_000)
    connection.transport.get_write_buffer_size.return_value = 89_999
    connection.let_time_pass()
    assert connection.running == [TAKE_S]
    connection.protocol.resume_writing()
    assert connection.running == []
    assert not connection.transport.abort.called


def test_the_timers_end_with_the_connection(connection: Connection) -> None:
    answering(connection, 90_000)
    assert connection.running == [TAKE_S]
    connection.protocol.connection_lost(None)
    assert connection.running == []


def test_a_connection_that_never_sent_a_request_leaves_no_timer(connection: Connection) -> None:
    connection.protocol.connection_lost(None)
    assert connection.running == []
