"""Groups that are pooled with their parents' models, by scikit-learn's own ridge regression on the residuals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from spinney.core.features.encoding import Encoder, to_columns
from spinney.core.models.codec import dump
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.recipes.recipe import Feature
from spinney.core.training.estimators.linear import LinearSolver
from spinney.core.training.estimators.ridge import RidgeSolver
from spinney.core.training.fit_kernels import KernelInput, Pooling
from spinney.core.training.linear_kernel import LinearKernel, Solver

FEATURES = (Feature("x0", "double"), Feature("x1", "double"))
WITH_WORDS = (*FEATURES, Feature("s", "string"))


def linear(intercept: float, *coefficients: float, words: tuple[str, ...] | None = None) -> Model:
    """A parent's model. Missing values are 7 to it."""
    encoder = Encoder(FEATURES) if words is None else Encoder(WITH_WORDS, (words,))
    fill = np.array([7.0, 7.0, *(0.0 for _ in words or ())])
    return Model(encoder, Linear(Link.IDENTITY, np.array([intercept]), np.array([coefficients]), fill))


PARENT = linear(10.0, 3.0, -2.0)


def rows(n: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng([seed, n])
    frame = pd.DataFrame(random.normal(size=(n, 2)) * [1.0, 20.0] + [5.0, 100.0], columns=["x0", "x1"])
    return frame.assign(label=12 + 4 * frame["x0"] - 2 * frame["x1"] + random.normal(size=n))


def stack(
    frames: list[pd.DataFrame], pooling: Pooling | None, weights: np.ndarray | None = None, loss: str = "squared"
) -> KernelInput:
    together = pd.concat(frames, ignore_index=True)
    starts = np.concatenate([[0], np.cumsum([len(frame) for frame in frames])])
    columns = to_columns(together, WITH_WORDS if "s" in together else FEATURES)
    keys = tuple(map(str, range(len(frames))))
    return KernelInput(keys, columns, starts, together["label"].to_numpy(), weights, loss, pooling)


def fitted(of: KernelInput) -> list[Model]:
    fits = LinearKernel(RidgeSolver(1.0)).fit(of, lambda: 0.0)
    assert [fit.error for fit in fits] == [None] * len(fits)
    return [fit.model for fit in fits if fit.model is not None]


def pooled(
    frames: list[pd.DataFrame], k: float, prior: Model = PARENT, weights: np.ndarray | None = None
) -> list[Model]:
    return fitted(stack(frames, Pooling((prior,) * len(frames), k), weights))


@examples(40)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=4), st.floats(0.1, 100.0), st.booleans())
def test_it_is_the_ridge_regression_of_the_parents_residuals(sizes: list[int], k: float, weighted: bool) -> None:
    frames = [rows(n, seed) for seed, n in enumerate(sizes)]
    random = np.random.default_rng(sum(sizes))
    weights = random.uniform(0.01, 1.0, sum(sizes)) if weighted else None
    own_weights = np.split(np.ones(sum(sizes)) if weights is None else weights, np.cumsum(sizes)[:-1])
    for frame, weight, model in zip(frames, own_weights, pooled(frames, k, weights=weights), strict=True):
        x = frame[["x0", "x1"]].to_numpy()
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        z -= np.average(z, axis=0, weights=weight)
        residuals = frame["label"] - PARENT.predict(frame)
        if len(z) < k:  # only the intercept
            z = np.zeros((len(z), 1))
        with_intercept = np.column_stack([z, np.ones(len(z))])  # the intercept is penalised too
        ridge = Ridge(alpha=k, fit_intercept=False).fit(with_intercept, residuals, sample_weight=weight)
        expected = PARENT.predict(frame) + ridge.predict(with_intercept)
        np.testing.assert_allclose(model.predict(frame), expected, rtol=1e-8, atol=1e-8)


def test_a_parent_that_counts_as_very_many_rows_answers_and_one_of_hardly_any_does_not() -> None:
    frame = rows(30)
    (theirs,), (own,) = pooled([frame], 1e12), pooled([frame], 1e-9)
    np.testing.assert_allclose(theirs.predict(frame), PARENT.predict(frame), rtol=1e-8)
    x = np.column_stack([frame[["x0", "x1"]], np.ones(30)])
    least_squares = x @ np.linalg.lstsq(x, frame["label"].to_numpy())[0]
    np.testing.assert_allclose(own.predict(frame), least_squares, rtol=1e-6)


def test_a_group_of_fewer_rows_than_its_parent_counts_as_keeps_the_parents_slopes() -> None:
    frame = rows(19)
    (few,), (enough,) = pooled([frame], 20.0), pooled([rows(20)], 20.0)
    np.testing.assert_array_equal(few.estimator.coefficients, PARENT.estimator.coefficients)
    shift = (frame["label"] - PARENT.predict(frame)).mean() * 19 / 39
    np.testing.assert_allclose(few.predict(frame), PARENT.predict(frame) + shift)
    assert (enough.estimator.coefficients != PARENT.estimator.coefficients).all()


def test_the_only_row_of_a_group_moves_the_intercept_by_its_share() -> None:
    """PARENT says 10 + 3 - 2 = 11, the row 15: with a parent of 3 rows the residual of 4 counts by a quarter."""
    frame = pd.DataFrame({"x0": [1.0], "x1": [1.0], "label": [15.0]})
    (model,) = pooled([frame], 3.0)
    assert model.predict(frame).tolist() == [12.0]
    np.testing.assert_allclose(model.estimator.coefficients, PARENT.estimator.coefficients)


def test_with_the_absolute_loss_few_rows_move_the_intercept_by_a_share_of_the_median() -> None:
    """PARENT says 11 to each row; residuals 0, 2, 4, 6 and 1000: half of their median of 4 with a parent of 5 rows,
    whose slopes stay.
    """
    labels = [11.0, 13.0, 15.0, 17.0, 1011.0]
    frame = pd.DataFrame({"x0": [1.0] * 5, "x1": [1.0] * 5, "label": labels})
    (model,) = fitted(stack([frame], Pooling((PARENT,), 5.0), loss="absolute"))
    np.testing.assert_allclose(model.predict(frame), np.full(5, 13.0), rtol=1e-12)
    np.testing.assert_allclose(model.estimator.coefficients, PARENT.estimator.coefficients)


def test_with_the_absolute_loss_a_row_that_is_off_by_far_hardly_moves_the_slopes() -> None:
    frame = rows(60)
    damaged = frame.assign(label=frame["label"].where(frame.index != 7, 1e5))
    pooling = Pooling((PARENT,), 2.0)
    clean, other = (fitted(stack([each], pooling, loss="absolute"))[0].predict(frame) for each in (frame, damaged))
    (squared,) = fitted(stack([damaged], pooling))
    assert np.abs(other - clean).max() < 1
    assert np.abs(squared.predict(frame) - clean).max() > 100


@pytest.mark.parametrize("solver", [RidgeSolver(1.0), LinearSolver(None)])
def test_with_the_absolute_loss_a_rare_effect_of_the_groups_own_is_found(solver: Solver) -> None:
    """One row in ten is 10 higher than the parent says: a clip about the median would take it for outliers."""
    random = np.random.default_rng(5)
    frame = pd.DataFrame({"x0": (np.arange(1_000) % 10 == 0) * 1.0, "x1": random.normal(size=1_000)})
    frame["label"] = PARENT.predict(frame) + 10 * frame["x0"] + 0.1 * random.normal(size=1_000)
    of = stack([frame], Pooling((PARENT,), 20.0), loss="absolute")
    (fit,) = LinearKernel(solver).fit(of, lambda: 0.0)
    assert fit.model is not None
    assert fit.model.estimator.coefficients[0, 0] == pytest.approx(3.0 + 10.0, rel=0.03)


def test_a_missing_value_is_the_groups_mean_or_the_parents_if_the_group_has_none() -> None:
    frame = rows(20)
    frame.loc[:4, "x0"], frame["x1"] = np.nan, np.nan
    (model,) = pooled([frame], 5.0)
    assert model.estimator.fill.tolist() == pytest.approx([frame["x0"].mean(), 7.0])
    filled = frame.fillna({"x0": frame["x0"].mean(), "x1": 7.0})
    (expected,) = pooled([filled], 5.0)
    np.testing.assert_allclose(model.predict(frame), expected.predict(filled), rtol=1e-9)


def test_words_that_only_one_of_both_knows_keep_their_coefficient_or_get_one() -> None:
    parent = linear(0.0, 0.0, 0.0, 100.0, -50.0, words=("sun", "rain"))
    frame = pd.DataFrame({"x0": 1.0, "x1": 1.0, "s": ["sun"] * 5 + ["snow"] * 5, "label": [100.0] * 5 + [30.0] * 5})
    (model,) = pooled([frame], 1e-6, parent)
    assert model.encoder.vocabularies == (("sun", "rain", "snow"),)
    np.testing.assert_allclose(model.predict(frame), frame["label"], atol=1e-3)
    rain = frame.head(1).assign(s="rain")
    snow = frame.tail(1)
    assert model.predict(rain)[0] - model.predict(frame.head(1).assign(s=None))[0] == pytest.approx(-50.0)
    assert model.predict(snow)[0] == pytest.approx(30.0, abs=1e-3)


@pytest.mark.parametrize("with_words", [False, True])
def test_neighbours_pooled_or_not_change_not_one_bit(with_words: bool) -> None:
    sizes = np.random.default_rng(1).integers(1, 500, 20).tolist()
    frames = [rows(n, seed) for seed, n in enumerate(sizes)]
    prior = PARENT
    if with_words:
        prior = linear(1.0, 2.0, 0.5, 3.0, words=("a",))
        frames = [frame.assign(s=np.where(frame["x0"] > 5, "a", f"b{n % 3}")) for n, frame in enumerate(frames)]
    priors = tuple(prior if n % 3 else None for n in range(20))
    together = fitted(stack(frames, Pooling(priors, 4.0)))
    backwards = fitted(stack(frames[::-1], Pooling(priors[::-1], 4.0)))
    alone = [fitted(stack([frame], Pooling((own,), 4.0)))[0] for frame, own in zip(frames, priors, strict=True)]
    assert [dump(model) for model in together] == [dump(model) for model in backwards[::-1]]
    assert [dump(model) for model in together] == [dump(model) for model in alone]
    unpooled = fitted(stack(frames, None))
    assert [dump(unpooled[n]) for n in range(0, 20, 3)] == [dump(together[n]) for n in range(0, 20, 3)]


def test_a_group_that_overflows_leaves_the_others_alone() -> None:
    frames = [rows(20, 1), rows(20, 2)]
    (good,) = pooled(frames[1:], 2.0)
    bad = replace(PARENT, estimator=replace(PARENT.estimator, coefficients=np.array([[1e308, 1e308]])))
    fits = LinearKernel(RidgeSolver(1.0)).fit(stack(frames, Pooling((bad, PARENT), 2.0)), lambda: 0.0)
    assert fits[1].model is not None
    assert dump(fits[1].model) == dump(good)
