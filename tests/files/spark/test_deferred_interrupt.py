from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from spinney.spark.deferred_interrupt import defer_interrupt


@pytest.fixture(autouse=True)
def python_handles_ctrl_c() -> Iterator[None]:
    """As in a terminal: a shell starts what it runs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(done: list[str], error: Exception | None = None) -> None:
    with defer_interrupt():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest of the block")
        if error:
            raise error


@pytest.mark.parametrize("error", [None, OSError()])
def test_a_ctrl_c_inside_is_raised_at_the_end_whatever_the_end_is(error: Exception | None) -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(done, error)
    assert done == ["the rest of the block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_ctrl_c_nothing_is_raised_and_the_handler_is_put_back() -> None:
    with defer_interrupt():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_may_use_it() -> None:
    done = []

    def work() -> None:
        with defer_interrupt():
            done.append("work")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["work"]
