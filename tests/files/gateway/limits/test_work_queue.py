from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from spinney.gateway.errors import RequestError
from spinney.gateway.limits.work_queue import WorkQueue


@pytest.fixture
def queue() -> Iterator[WorkQueue]:
    """One request at a time, none waits."""
    queue = WorkQueue(1, 0, 30.0)
    yield queue
    queue.close()


def test_a_request_has_its_place_before_its_body_is_read(queue: WorkQueue) -> None:
    async def run() -> None:
        is_sent = asyncio.Event()

        async def slow_body() -> bytes:
            await is_sent.wait()
            return b"12"

        async def further_body() -> bytes:
            pytest.fail("the body of a request without a place was read")

        first = asyncio.create_task(queue.run_on_body(len, slow_body))
        await asyncio.sleep(0)
        assert queue.there == 1
        with pytest.raises(RequestError) as refused:
            await queue.run_on_body(len, further_body)
        assert (refused.value.status, refused.value.code) == (429, "too_many_requests")
        is_sent.set()
        assert await first == 2

    asyncio.run(run())


def test_a_body_that_is_late_or_too_large_gives_the_place_up() -> None:
    queue = WorkQueue(1, 0, 0.01)

    async def late() -> bytes:
        await asyncio.Event().wait()
        return b""

    async def too_large() -> bytes:
        raise RequestError(413, "too_large", "body: expected less")

    for body, code in ((late, "body_late"), (too_large, "too_large")):
        with pytest.raises(RequestError) as refused:
            asyncio.run(queue.run_on_body(len, body))
        assert (refused.value.code, queue.there) == (code, 0)
    queue.close()


def test_body_and_answer_have_one_time_limit_together(queue: WorkQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines, timeout_at = [], asyncio.timeout_at

    def timeout(deadline: float) -> asyncio.Timeout:
        deadlines.append(deadline)
        return timeout_at(deadline)

    async def run() -> None:
        begins = asyncio.get_running_loop().time()

        async def body() -> bytes:
            await asyncio.sleep(0.01)
            return b"12"

        assert await queue.run_on_body(len, body) == 2
        assert len(deadlines) == 2
        assert begins + 30 <= deadlines[0] == deadlines[1]

    monkeypatch.setattr(asyncio, "timeout_at", timeout)
    asyncio.run(run())


def test_what_can_be_answered_at_once_needs_no_thread_and_all_else_gets_one(queue: WorkQueue) -> None:
    names: list[str] = []

    def in_thread(raw: bytes) -> int:
        names.append(threading.current_thread().name)
        return len(raw)

    async def ask(body: bytes) -> int:
        async def read() -> bytes:
            return body

        return await queue.run_on_body(in_thread, read, lambda raw: len(raw) if len(raw) < 3 else None)

    assert asyncio.run(ask(b"12")) == 2
    assert names == []
    assert asyncio.run(ask(b"123")) == 3
    assert names == ["request_0"]
    assert queue.there == 0


def test_an_error_at_once_gives_the_place_up(queue: WorkQueue) -> None:
    async def body() -> bytes:
        return b"12"

    def refuse(_: bytes) -> int:
        raise RequestError(422, "key", "key: expected another")

    with pytest.raises(RequestError, match="key: expected another"):
        asyncio.run(queue.run_on_body(len, body, refuse))
    assert queue.there == 0


def test_bodies_together_have_a_limit_that_a_single_one_may_exceed() -> None:
    queue = WorkQueue(2, 8, 30.0, max_bytes=10)

    async def run() -> None:
        is_sent = asyncio.Event()

        async def body() -> bytes:
            await is_sent.wait()
            return b"12"

        async def no_body() -> bytes:
            return b""

        first = asyncio.create_task(queue.run_on_body(len, body, body_bytes=11))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="got one of 1 beside 11") as refused:
            await queue.run_on_body(len, no_body, body_bytes=1)
        assert (refused.value.status, refused.value.code, queue.there) == (429, "too_many_bytes", 1)
        is_sent.set()
        assert await first == 2
        both = [asyncio.create_task(queue.run_on_body(len, body, body_bytes=size)) for size in (4, 6)]
        assert await asyncio.gather(*both) == [2, 2]
        assert await queue.run_on_body(len, no_body, lambda _: 3, body_bytes=11) == 3
        assert await queue.run_on_body(len, no_body, body_bytes=11) == 0

    asyncio.run(run())
    queue.close()


def test_the_event_loop_looks_for_other_requests_between_two_answers_in_the_order_of_arrival() -> None:
    queue, rounds, answered = WorkQueue(4, 0, 30.0), 0, []

    async def ask(name: bytes) -> int:
        async def body() -> bytes:
            return name

        def at_once(raw: bytes) -> int:
            answered.append((raw, rounds))
            return len(raw)

        return await queue.run_on_body(len, body, at_once)

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def count_round() -> None:
            nonlocal rounds
            rounds += 1
            loop.call_soon(count_round)

        loop.call_soon(count_round)
        assert await asyncio.gather(*(ask(name) for name in (b"a", b"bc", b"def"))) == [1, 2, 3]

    asyncio.run(run())
    queue.close()
    assert [name for name, _ in answered] == [b"a", b"bc", b"def"]
    assert len({round_ for _, round_ in answered}) == 3
