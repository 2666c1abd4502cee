from __future__ import annotations

import math

import numpy as np
import pytest

from spinney.core.errors import ContractError
from spinney.core.training.loss import LOSSES, loss_named

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("label", "prediction", "absolute", "squared"),
    [
        (3.0, 1.0, 2.0, 4.0),
        (1.0, 3.0, 2.0, 4.0),
        (-1.5, 1.5, 3.0, 9.0),
        (0.0, 0.0, 0.0, 0.0),
        (NAN, 1.0, NAN, NAN),
        (1.0, NAN, NAN, NAN),
        (1.0, INF, NAN, NAN),
        (INF, INF, NAN, NAN),
        (1e200, 0.0, 1e200, NAN),
    ],
)
def test_a_difference_is_measured(label: float, prediction: float, absolute: float, squared: float) -> None:
    for name, expected in (("absolute", absolute), ("squared", squared)):
        got = LOSSES[name].per_row(np.array([label]), np.array([prediction]))
        np.testing.assert_array_equal(got, [expected])


def test_a_prediction_of_none_has_no_loss() -> None:
    got = LOSSES["absolute"].per_row(np.array([1.0, 2.0]), np.array([None, 1.0], dtype=object))
    np.testing.assert_array_equal(got, [NAN, 1.0])


@pytest.mark.parametrize(
    ("label", "probabilities", "expected"),
    [
        ("a", {"a": 0.5, "b": 0.5}, math.log(2)),
        ("a", {"a": 1.0}, 0.0),
        ("c", {"a": 1.0}, -math.log(1e-15)),
        ("a", {"a": 0.0, "b": 1.0}, -math.log(1e-15)),
        ("a", {"a": NAN}, NAN),
        ("a", {"a": INF}, NAN),
        ("a", {"a": -INF}, NAN),
        ("a", {}, -math.log(1e-15)),
        ("a", None, NAN),
        (None, {"a": 1.0}, NAN),
    ],
)
def test_log_loss_is_that_of_the_labels_own_class(
    label: str | None, probabilities: dict[str, float] | None, expected: float
) -> None:
    got = LOSSES["log"].per_row(np.array([label], dtype=object), [probabilities])
    np.testing.assert_allclose(got, [expected], atol=1e-15)


def test_a_matrix_and_mappings_give_the_same_log_loss() -> None:
    label = np.array(["a", "b", "c", None, "a"], dtype=object)
    matrix = np.array([[0.2, 0.8], [0.3, 0.7], [0.5, 0.5], [0.5, 0.5], [0.0, 1.0]])
    mappings = [dict(zip(("a", "b"), row, strict=True)) for row in matrix]
    np.testing.assert_array_equal(
        LOSSES["log"].per_row(label, (("a", "b"), matrix)), LOSSES["log"].per_row(label, mappings)
    )


def test_a_hole_in_the_probabilities_is_no_answer() -> None:
    got = LOSSES["log"].per_row(np.array(["a"], dtype=object), (("a", "b"), np.array([[0.5, NAN]])))
    np.testing.assert_array_equal(got, [NAN])


def test_an_unknown_loss_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ContractError, match="absolute, squared, log"):
        loss_named("hinge")
