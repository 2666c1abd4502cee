from __future__ import annotations

import threading

import pytest

from spinney.retraining.background_step import BackgroundStep


def test_a_step_runs_beside_its_caller_and_wait_returns_after_it() -> None:
    go_on, done = threading.Event(), []
    with BackgroundStep() as step:
        step.start(lambda: done.append(go_on.wait(60)))
        assert done == []
        go_on.set()
        step.wait()
        assert done == [True]


def test_a_second_step_begins_after_the_first() -> None:
    order: list[int] = []
    with BackgroundStep() as step:
        for number in range(3):
            step.start(lambda number=number: order.append(number))
    assert order == [0, 1, 2]


def fail() -> None:
    raise ValueError("gate")


def test_the_error_of_a_step_is_raised_where_it_is_waited_for() -> None:
    step = BackgroundStep()
    step.start(fail)
    with pytest.raises(ValueError, match="gate"):
        step.wait()


def test_the_error_of_a_step_does_not_hide_that_of_its_caller() -> None:
    def fit_beside_a_gate_that_fails() -> None:
        with BackgroundStep() as step:
            step.start(fail)
            raise KeyError("fit")

    with pytest.raises(KeyError, match="fit"):
        fit_beside_a_gate_that_fails()
