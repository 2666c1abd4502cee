"""`linear` beside scikit-learn's Ridge, a likelihood written out with matrices, and a linear program."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import QuantileRegressor, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.errors import ContractError
from spinney.core.features.encoding import to_columns
from spinney.core.models.codec import dump
from spinney.core.models.model import Model
from spinney.core.recipes.recipe import Feature
from spinney.core.training.estimators import kernel_for
from spinney.core.training.estimators.linear import PENALTIES, LinearSolver
from spinney.core.training.fit_kernels import KernelInput
from spinney.core.training.linear_kernel import LinearKernel
from spinney.core.training.pooling.normal_equations import chunks, learn_encoders

NAMES = ["x0", "x1", "x2"]


def rows(groups: int, each: int, seed: int, noise: float = 1.0) -> pd.DataFrame:
    """Three features on different scales, of which the label depends on two."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(groups * each, 3)) * [1.0, 100.0, 0.01] + [0.0, 500.0, 3.0]
    label = 3 * x[:, 0] - 0.02 * x[:, 1] + noise * random.normal(size=len(x))
    return pd.DataFrame(x, columns=NAMES).assign(label=label, g=np.repeat(np.arange(groups), each))


def stack(frame: pd.DataFrame, loss: str, weights: np.ndarray | None = None) -> KernelInput:
    starts, names = np.flatnonzero(np.diff(frame["g"], prepend=-1, append=-1)), [*NAMES[: len(frame.columns) - 2]]
    columns = to_columns(frame[names], tuple(Feature(name, "double") for name in names))
    keys = tuple(map(str, frame["g"].unique()))
    return KernelInput(keys, columns, starts, frame["label"].to_numpy(), weights, loss)


def fitted(of: KernelInput, alpha: float | None = None) -> list[Model]:
    fits = LinearKernel(LinearSolver(alpha)).fit(of, lambda: 0.0)
    assert [fit.error for fit in fits] == [None] * len(fits)
    return [fit.model for fit in fits if fit.model is not None]


def penalties(of: KernelInput) -> list[float]:
    (part,) = chunks(of, range(len(of)), learn_encoders(of))
    solutions = list(LinearSolver(None).solve(part, of.loss))
    return [solution.alpha for solution in solutions if not isinstance(solution, Exception)]


def standardised(frame: pd.DataFrame) -> np.ndarray:
    z: np.ndarray = StandardScaler().fit_transform(frame[NAMES].to_numpy())
    return z


@examples(40)
@given(st.integers(2, 60), st.sampled_from([0.01, 1.0, 50.0]), st.booleans(), st.integers(0, 10_000))
def test_with_the_squared_loss_and_a_penalty_it_is_scikit_learns_ridge(
    each: int, alpha: float, weighted: bool, seed: int
) -> None:
    frame = rows(3, each, seed)
    weights = np.random.default_rng(seed).uniform(0.01, 1, len(frame)) if weighted else None
    for g, model in enumerate(fitted(stack(frame, "squared", weights), alpha)):
        part = frame[frame["g"] == g]
        arguments = {} if weights is None else {"ridge__sample_weight": weights[(frame["g"] == g).to_numpy()]}
        oracle = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(part[NAMES], part["label"], **arguments)
        expected = oracle.predict(part[NAMES])
        np.testing.assert_allclose(model.predict(part), expected, rtol=1e-6, atol=1e-6 * part["label"].abs().max())


@examples(40)
@given(st.integers(2, 60), st.sampled_from([0.1, 1.0, 10.0, 100.0]), st.integers(0, 10_000))
def test_fits_of_all_penalties_are_averaged_by_the_likelihood_of_the_labels(each: int, noise: float, seed: int) -> None:
    """The restricted likelihood of y = c + Zb + e, b of variance s² ÷ a and e of variance s², by its covariances."""
    frame = rows(1, each, seed, noise)
    z, y = standardised(frame), frame["label"].to_numpy()
    contrasts = np.linalg.svd(np.eye(each) - 1 / each)[0][:, : each - 1].T  # n - 1 differences, whatever c is

    def log_likelihood(alpha: float) -> float:
        covariance = contrasts @ (np.eye(each) + z @ z.T / alpha) @ contrasts.T
        observed = contrasts @ y
        squares = observed @ np.linalg.solve(covariance, observed)
        return float(-0.5 * ((each - 1) * np.log(squares) + np.linalg.slogdet(covariance)[1]))

    known = np.array([log_likelihood(alpha) for alpha in PENALTIES])
    shares = np.exp(known - known.max()) / np.exp(known - known.max()).sum()
    answers = np.array([Ridge(alpha=alpha).fit(z, y).predict(z) for alpha in PENALTIES])
    (model,) = fitted(stack(frame, "squared"))
    np.testing.assert_allclose(model.predict(frame), shares @ answers, rtol=1e-6, atol=1e-6 * np.abs(y).max())


def test_without_a_penalty_it_is_least_squares_also_where_a_column_repeats_another() -> None:
    frame = rows(2, 30, 4)
    frame.loc[frame["g"] == 1, "x1"] = frame.loc[frame["g"] == 1, "x0"]
    for g, model in enumerate(fitted(stack(frame, "squared"), 0.0)):
        part = frame[frame["g"] == g]
        x = np.column_stack([part[NAMES], np.ones(30)])
        np.testing.assert_allclose(model.predict(part), x @ np.linalg.lstsq(x, part["label"])[0], rtol=1e-6, atol=1e-6)


def test_the_configured_penalty_is_that_of_all_groups_and_none_is_estimated() -> None:
    of = stack(rows(3, 25, 6, noise=20.0), "absolute")
    for params, alpha in (({}, None), ({"alpha": 30}, 30.0)):
        fits = kernel_for("linear", "regression", params).fit(of, lambda: 0.0)
        assert [dump(fit.model) for fit in fits if fit.model] == [dump(model) for model in fitted(of, alpha)]
    assert dump(fitted(of)[0]) != dump(fitted(of, 30.0)[0])


def test_a_group_for_which_lapack_finds_no_eigenvalues_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, eigh = rows(3, 20, 9), np.linalg.eigh
    expected = [dump(model) for model in fitted(stack(frame, "absolute"))]
    bad = rows(3, 20, 9).query("g == 1")
    products = standardised(bad).T @ standardised(bad)

    def fails(matrices: np.ndarray) -> object:
        if any(np.allclose(matrix, products) for matrix in matrices):
            raise np.linalg.LinAlgError("Eigenvalues did not converge")
        return eigh(matrices)

    monkeypatch.setattr(np.linalg, "eigh", fails)
    fits = LinearKernel(LinearSolver(None)).fit(stack(frame, "absolute"), lambda: 0.0)
    assert [dump(fits[g].model) for g in (0, 2) if fits[g].model] == [expected[0], expected[2]]
    assert fits[1].model is not None
    assert not np.isfinite(fits[1].model.predict(frame)).any()


def test_features_that_say_nothing_get_great_penalties_and_those_that_explain_small_ones() -> None:
    frame = rows(60, 100, 5)
    explained = penalties(stack(frame, "squared"))
    noise = penalties(stack(frame.assign(label=np.random.default_rng(1).normal(size=len(frame))), "squared"))
    assert max(explained) < 10
    assert np.median(noise) > 100


@pytest.mark.parametrize("loss", ["absolute", "squared"])
def test_a_row_of_weight_two_counts_as_two_rows(loss: str) -> None:
    frame = rows(4, 25, 8, noise=5.0)
    twice = frame.loc[np.repeat(np.arange(len(frame)), 2)].reset_index(drop=True)
    weighted = stack(frame, loss, np.full(len(frame), 2.0))
    assert penalties(weighted) == pytest.approx(penalties(stack(twice, loss)), rel=1e-9)
    for one, other in zip(fitted(weighted), fitted(stack(twice, loss)), strict=True):
        np.testing.assert_allclose(one.predict(frame), other.predict(frame), rtol=1e-9)


@examples(60)
@given(st.integers(1, 60), st.booleans(), st.booleans(), st.integers(0, 10_000))
def test_with_the_absolute_loss_half_of_the_weight_lies_on_either_side(
    each: int, weighted: bool, counts: bool, seed: int
) -> None:
    frame, random = rows(3, each, seed), np.random.default_rng(seed)
    if counts:  # most of them 0
        frame["label"] = random.poisson(0.3, len(frame)).astype(float)
    weights = random.uniform(0.01, 1, len(frame)) if weighted else None
    for g, model in enumerate(fitted(stack(frame, "absolute", weights))):
        mine = (frame["g"] == g).to_numpy()
        residuals = (frame["label"] - model.predict(frame))[mine]
        of_rows = np.ones(each) if weights is None else weights[mine]
        rounding = 1e-9 * (1 + frame["label"].abs().max())
        assert of_rows[residuals > rounding].sum() <= of_rows.sum() / 2 + 1e-9
        assert of_rows[residuals < -rounding].sum() <= of_rows.sum() / 2 + 1e-9


def test_the_loss_of_skewed_labels_is_near_that_of_a_linear_program() -> None:
    """A slope of medians of 3, and errors whose mean grows with the feature."""
    frame, random = rows(1, 2_000, 4), np.random.default_rng(6)
    frame["label"] = 3 * frame["x0"] + random.exponential(size=2_000) * np.exp(frame["x0"])
    (model,) = fitted(stack(frame, "absolute"))
    (least_squares,) = fitted(stack(frame, "squared"))
    oracle = QuantileRegressor(quantile=0.5, alpha=0.0).fit(standardised(frame), frame["label"])

    def loss(answers: np.ndarray) -> float:
        return float(np.abs(frame["label"] - answers).mean())

    program = loss(oracle.predict(standardised(frame)))
    assert loss(model.predict(frame)) == pytest.approx(program, rel=0.03)
    assert loss(least_squares.predict(frame)) > 1.05 * program


def test_a_label_that_is_off_by_far_hardly_moves_the_fit_of_the_absolute_loss() -> None:
    frame = rows(1, 60, 2, noise=0.5)
    damaged = frame.assign(label=frame["label"].where(frame.index != 7, 1e5))
    clean, other = (fitted(stack(each, "absolute"))[0].predict(frame) for each in (frame, damaged))
    (squared,) = fitted(stack(damaged, "squared"))
    assert np.abs(other - clean).max() < 0.5
    assert np.abs(squared.predict(frame) - clean).max() > 100


@examples(40)
@given(st.sampled_from(["absolute", "squared"]), st.sampled_from([1e-3, 7.0, 1e5]), st.integers(0, 10_000))
def test_labels_in_another_unit_are_answered_in_that_unit(loss: str, unit: float, seed: int) -> None:
    frame = rows(2, 30, seed)
    other = frame.assign(label=unit * (frame["label"] - 40))
    for own, scaled in zip(fitted(stack(frame, loss)), fitted(stack(other, loss)), strict=True):
        np.testing.assert_allclose(scaled.predict(frame), unit * (own.predict(frame) - 40), rtol=1e-6)


@pytest.mark.parametrize("loss", ["absolute", "squared"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("unused", [[], ["x1", "x2"]])
def test_neighbours_change_not_one_bit(loss: str, weighted: bool, unused: list[str]) -> None:
    random = np.random.default_rng(0)
    sizes = np.concatenate([random.integers(1, 900, 40), np.full(300, 30)])
    frame = rows(int(sizes.sum()), 1, 1).assign(g=np.repeat(np.arange(340), sizes)).drop(columns=unused)
    weights = random.uniform(0.01, 1, len(frame)) if weighted else None
    together = [dump(model) for model in fitted(stack(frame, loss, weights))]
    for g in [*range(40), 299, 339]:
        mine = (frame["g"] == g).to_numpy()
        (alone,) = fitted(stack(frame[mine], loss, None if weights is None else weights[mine]))
        assert dump(alone) == together[g]


@pytest.mark.parametrize("loss", ["absolute", "squared"])
@pytest.mark.parametrize("column", ["label", "x1"])
def test_a_group_that_overflows_gives_no_finite_model_and_leaves_the_others_alone(loss: str, column: str) -> None:
    frame = rows(2, 20, 9)
    (good,) = fitted(stack(frame[frame["g"] == 1], loss))
    frame.loc[frame["g"] == 0, column] *= 1e305
    fits = LinearKernel(LinearSolver(None)).fit(stack(frame, loss), lambda: 0.0)
    assert fits[0].model is None or not np.isfinite(fits[0].model.predict(frame)).all()
    assert fits[1].model is not None
    assert dump(fits[1].model) == dump(good)


@pytest.mark.parametrize("loss", ["absolute", "squared"])
def test_one_row_and_equal_labels_are_answered_by_the_label(loss: str) -> None:
    frame = pd.concat([rows(1, 1, 3), rows(1, 30, 4).assign(g=1, label=7.0)], ignore_index=True)
    one, equal = fitted(stack(frame, loss))
    assert one.predict(frame) == pytest.approx(np.full(31, frame["label"][0]), rel=1e-9)
    assert equal.predict(frame) == pytest.approx(np.full(31, 7.0), rel=1e-9)


@pytest.mark.parametrize(
    "params", [{"alpha": -1}, {"alpha": "1"}, {"alpha": True}, {"beta": 1}, {"alpha": float("inf")}]
)
def test_a_parameter_it_does_not_take_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(ContractError, match="of linear"):
        kernel_for("linear", "regression", params)


def test_a_value_more_than_ten_ranges_outside_a_groups_rows_counts_as_one_at_that_distance() -> None:
    """An aircraft between airports 719 and 725 miles apart: a slope of noise would be used at 2,475 miles."""
    frame = pd.DataFrame({"x0": [719.0, 725.0] * 10, "label": [100.0, 130.0] * 10, "g": 0})
    (model,) = fitted(stack(frame, "squared"), alpha=0.0)
    at = pd.DataFrame({"x0": [719.0, 722.0, 725.0 + 60, 2475.0, 719.0 - 60, -1e9, np.nan]})
    expected = [100.0, 115.0, 130.0 + 300, 130.0 + 300, 100.0 - 300, 100.0 - 300, 115.0]
    np.testing.assert_allclose(model.predict(at), expected, rtol=1e-9)


def test_a_column_without_values_has_no_limits_and_a_constant_one_moves_nothing() -> None:
    frame = pd.DataFrame({"x0": [np.nan] * 4, "x1": [7.0] * 4, "label": [1.0, 2.0, 3.0, 4.0], "g": 0})
    (model,) = fitted(stack(frame, "squared"))
    assert model.estimator.limits.tolist() == [[-np.inf, 7.0], [np.inf, 7.0]]
    assert model.predict(pd.DataFrame({"x0": [np.nan, 5.0], "x1": [1e300, -8.0]})).tolist() == [2.5, 2.5]
