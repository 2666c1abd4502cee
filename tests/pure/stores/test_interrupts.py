from __future__ import annotations

import signal
import threading

import pytest

from spinney.stores.interrupts import deferred


def interrupted(done: list[str], error: Exception | None = None) -> None:
    with deferred():
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
    with deferred():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_may_use_it() -> None:
    done = []

    def work() -> None:
        with deferred():
            done.append("work")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["work"]
