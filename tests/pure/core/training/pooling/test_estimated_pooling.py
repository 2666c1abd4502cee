"""Pooling with estimated weights: the posterior mean of a dense Bayesian regression, and what the ladder gets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import QuantileRegressor

from schemas.vocabulary import ESTIMATED
from spinney.core.errors import ContractError
from spinney.core.features.encoding import Encoder, Floats, to_columns
from spinney.core.models.codec import dump, load
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training.estimators.ridge import RidgeSolver
from spinney.core.training.fit_kernels import KernelInput, Pooling
from spinney.core.training.fitting import fit_groups
from spinney.core.training.linear_kernel import LinearKernel
from spinney.core.training.parent_row_lineage import ORIGIN
from spinney.core.training.pooling.absolute_errors import weighted_medians

FEATURES = (Feature("x0", "double"), Feature("x1", "double"))
VARIANCES = np.array([[0.3, 0.02, 0.0005, 0.9, 0.5], [0.2, 0.0, 0.001, 0.25, 0.3]])
"""Of the intercept, two coefficients, a day's effect, and the shift of a median by one row."""
START = datetime(2024, 1, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=30)
SIGNER = Signer(b"k" * 32)
RECIPE = Recipe(
    estimator="ridge", params=(), features=FEATURES, target=Feature("y", "double"), task="regression", loss="squared",
    min_rows=1, window_rows=2000, window=timedelta(days=90), pooling_rows=ESTIMATED,
    ladder=(("region", "store"), ("region",), ()),
)  # fmt: skip


def prior(variances: Floats | None = VARIANCES) -> Model:
    linear = Linear(Link.IDENTITY, np.array([10.0]), np.array([[3.0, -2.0]]), np.array([7.0, 7.0]), variances)
    return Model(Encoder(FEATURES), linear)


def rows(n: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng([seed, n])
    frame = pd.DataFrame(random.normal(size=(n, 2)) * [1.0, 20.0] + [5.0, 100.0], columns=["x0", "x1"])
    return frame.assign(label=12 + 4 * frame["x0"] - 2 * frame["x1"] + random.standard_t(3, size=n))


def stack(frames: list[pd.DataFrame], priors: tuple[Model | None, ...], loss: str, weights: Any = None) -> KernelInput:
    together = pd.concat(frames, ignore_index=True)
    starts = np.concatenate([[0], np.cumsum([len(frame) for frame in frames])])
    keys, columns = tuple(map(str, range(len(frames)))), to_columns(together, FEATURES)
    return KernelInput(keys, columns, starts, together["label"].to_numpy(), weights, loss, Pooling(priors, None))


def fitted(of: KernelInput) -> list[Model]:
    fits = LinearKernel(RidgeSolver(1.0)).fit(of, lambda: 0.0)
    assert [fit.error for fit in fits] == [None] * len(fits)
    return [fit.model for fit in fits if fit.model is not None]


def posterior(frame: pd.DataFrame, weights: Floats, variances: Floats, loss: str) -> Floats:
    """The predictions of a dense Bayesian regression: rows of the prior are added to those of the group.

    For the absolute loss the regression is repeated four times, on residuals that are at most three median absolute
    deviations from their median about the regression before.
    """
    x, residuals = frame[["x0", "x1"]].to_numpy(), (frame["label"] - prior().predict(frame)).to_numpy()
    centred, w = x - np.average(x, axis=0, weights=weights), np.sqrt(weights)
    of_slopes, shift = variances[1:3], variances[4]
    located, slopes, free = np.average(residuals, weights=weights), np.zeros(2), of_slopes > 0
    design = np.vstack([centred[:, free] * w[:, None], np.diag(of_slopes[free] ** -0.5)])
    for turn in range(5 if loss == "absolute" else 1):
        off = residuals - centred @ slopes
        middle = np.median(off)
        reach = 3 * np.median(np.abs(off - middle)) if turn else np.inf
        cut = residuals - off + np.minimum(np.maximum(off, middle - reach), middle + reach)
        if len(frame) > 1:
            slopes[free] = np.linalg.lstsq(design, np.concatenate([cut * w, np.zeros(free.sum())]), rcond=None)[0]
    left = residuals - centred @ slopes
    moved = located * weights.sum() / (weights.sum() + 1 / variances[0])
    if loss == "absolute":  # the median of the rows and of what each number of rows below it would shift it by
        n = len(left)
        moved = np.median(np.concatenate([left, shift * (n - 2 * np.arange(n + 1))]))
    return prior().predict(frame) + moved + centred @ slopes


@examples(40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.sampled_from(["squared", "weighted", "absolute"]))
def test_it_is_the_posterior_mean_with_the_variances_of_all_rungs_between(sizes: list[int], case: str) -> None:
    frames = [rows(n, seed) for seed, n in enumerate(sizes)]
    weights = np.random.default_rng(sum(sizes)).uniform(0.1, 1.0, sum(sizes)) if case == "weighted" else None
    loss = "absolute" if case == "absolute" else "squared"
    own = np.split(np.ones(sum(sizes)) if weights is None else weights, np.cumsum(sizes)[:-1])
    models = fitted(stack(frames, (prior(),) * len(sizes), loss, weights))
    for frame, weight, model in zip(frames, own, models, strict=True):
        expected = posterior(frame, weight, VARIANCES.sum(axis=0), loss)
        np.testing.assert_allclose(model.predict(frame), expected, rtol=1e-6, atol=1e-6)
        assert model.estimator.group_variances is None, "a group has nothing below it"


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_rows_of_one_day_count_less_by_the_effect_of_a_day(loss: str) -> None:
    """The ratio is that of the groups' own rung, 0.25: 4 rows of a day count as half of them."""
    frame, days = rows(10), np.array([3, 3, 3, 3, 4, 5, 5, 5, 5, 9])
    of = stack([frame], (prior(),), loss)
    weights = 1 / (1 + 0.25 * np.array([4, 4, 4, 4, 1, 4, 4, 4, 4, 1]))
    (found,), (expected,) = fitted(replace(of, days=days)), fitted(stack([frame], (prior(),), loss, weights))
    np.testing.assert_allclose(found.predict(frame), expected.predict(frame), rtol=1e-9)


def test_a_pooled_model_extrapolates_as_far_as_its_parents_and_as_its_own_rows_let_it() -> None:
    parent, frame = prior(), rows(5).assign(x0=[1.0, 2, 3, 2, 1], x1=[50.0, 90, 60, 70, 80])
    limits = np.array([[-4.0, 55.0], [12.0, 700.0]])
    limited = replace(parent, estimator=replace(parent.estimator, limits=limits))
    (found,) = fitted(stack([frame], (limited,), "squared"))
    assert found.estimator.limits.tolist() == [[1.0 - 20, 50.0 - 400], [3.0 + 20, 700.0]]
    (without,) = fitted(stack([frame], (parent,), "squared"))
    assert without.estimator.limits.tolist() == [[-np.inf] * 2, [np.inf] * 2]


def test_groups_that_are_not_shown_to_differ_answer_as_their_parent_does() -> None:
    frame = rows(200)
    (model,) = fitted(stack([frame], (prior(np.zeros((1, 5))),), "squared"))
    np.testing.assert_allclose(model.predict(frame), prior().predict(frame), rtol=1e-6)


def test_neighbours_change_not_one_bit() -> None:
    frames = [rows(n, n) for n in (1, 7, 30, 200)]
    priors, days = (prior(), None, prior(), prior(VARIANCES * 3)), [np.arange(len(frame)) // 3 for frame in frames]
    together = fitted(replace(stack(frames, priors, "absolute"), days=np.concatenate(days)))
    alone = [
        fitted(replace(stack([frame], (own,), "absolute"), days=day))[0]
        for frame, own, day in zip(frames, priors, days, strict=True)
    ]
    assert [dump(model) for model in together] == [dump(model) for model in alone]


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 4)), min_size=1, max_size=9))
def test_a_weighted_median_is_that_of_rows_repeated_by_their_weights(pairs: list[tuple[int, int]]) -> None:
    values, weights = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    repeated = np.repeat(values, weights.astype(int))
    found = weighted_medians(np.tile(values, 2), np.tile(weights, 2), np.array([0, len(pairs), 2 * len(pairs)]))
    assert found.tolist() == [np.median(repeated)] * 2


def fleet(regions: int, stores: int, n: int) -> pd.DataFrame:
    """Sales of stores. Regions differ by much, the stores of a region hardly."""
    random = np.random.default_rng(1)
    region, store = np.repeat(np.arange(regions), stores * n), np.tile(np.repeat(np.arange(stores), n), regions)
    count = len(region)
    x = random.normal(size=(count, 2))
    label = 5.0 * random.normal(size=regions)[region] + x @ [2.0, 0.5] + random.normal(size=count)
    return pd.DataFrame({
        "group_key": [f'["r{r}","s{s}"]' for r, s in zip(region, store, strict=True)],
        "region": [f"r{r}" for r in region],
        "event_id": [f"e{i:05}" for i in range(count)],
        "event_time": pd.Series([START + timedelta(minutes=i) for i in range(count)]).astype("datetime64[us, UTC]"),
        "x0": x[:, 0], "x1": x[:, 1], "label": label,
    })  # fmt: skip


SALES = fleet(30, 4, 8)


def fit(key: str, frame: pd.DataFrame, of: pd.Series[Any] | None = None, recipe: Recipe = RECIPE) -> pd.Series[Any]:
    request: dict[str, Any] = {"group_key": [key]}
    if of is not None:
        names = ("codec", "payload", "signature", "trained_through", "recipe_id")
        request |= {"parent_key": of["group_key"], "parent_id": of["model_id"]}
        request |= {f"parent_{name}": [of[name]] for name in names}
    of_key = frame.assign(group_key=key, **{ORIGIN: frame["group_key"]})
    return fit_groups(of_key, pd.DataFrame(request), recipe, CLOCK, SIGNER).iloc[0]


def model(row: pd.Series[Any]) -> Model:
    assert row["status"] == "fitted", row["error"]
    return load(row["codec"], row["payload"])


def test_from_rung_to_rung_a_model_is_shrunk_toward_the_one_above_and_passes_on_what_is_below() -> None:
    everywhere = fit("{}", SALES)
    variances = model(everywhere).estimator.group_variances
    assert variances.shape == (2, 5)
    assert variances[0, 0] > 10 * max(variances[1, 0], 0.01), "regions differ, the stores of a region hardly"
    north = SALES[SALES["region"] == "r3"]
    region = fit('{"region":"r3"}', north, everywhere)
    assert region["parent_model_id"] == everywhere["model_id"]
    np.testing.assert_array_equal(model(region).estimator.group_variances, variances[1:])
    own = north[north["group_key"] == '["r3","s1"]']
    few = own.head(1).assign(label=own["label"].iloc[0] + 100.0)
    store = fit('["r3","s1"]', few, region)
    moved = (model(store).predict(few) - model(region).predict(few))[0]
    assert 0 <= moved < 5, "one label that is 100 off hardly moves a store"
    of_global = model(fit('["r3","s1"]', own, everywhere)).predict(own)
    assert np.abs(of_global - own["label"]).mean() < np.abs(model(everywhere).predict(own) - own["label"]).mean() / 2


def test_the_order_of_rows_and_the_origin_of_a_groups_rows_do_not_matter() -> None:
    shuffled = SALES.sample(frac=1.0, random_state=3)
    assert fit("{}", shuffled)["payload"] == fit("{}", SALES)["payload"]


def test_for_the_absolute_loss_a_parents_intercept_is_at_the_median_of_its_residuals() -> None:
    skewed = SALES.assign(label=np.exp(SALES["label"] / 4))
    found = model(fit("{}", skewed, recipe=replace(RECIPE, loss="absolute")))
    assert np.median(skewed["label"] - found.predict(skewed)) == pytest.approx(0.0, abs=1e-9)
    assert (skewed["label"] - model(fit("{}", skewed)).predict(skewed)).mean() == pytest.approx(0.0, abs=1e-9)


def test_for_the_absolute_loss_the_slopes_of_a_parent_have_the_least_absolute_error() -> None:
    """Scikit-learn's median regression is a linear program: another method with the same answer."""
    skewed = SALES.assign(label=np.exp(SALES["label"] / 4))
    own = model(fit("{}", skewed, recipe=replace(RECIPE, loss="absolute"))).predict(skewed)
    of_sklearn = QuantileRegressor(quantile=0.5, alpha=0.0).fit(skewed[["x0", "x1"]], skewed["label"])
    least = np.abs(skewed["label"] - of_sklearn.predict(skewed[["x0", "x1"]])).mean()
    assert np.abs(skewed["label"] - own).mean() == pytest.approx(least, rel=1e-3)
    squares = model(fit("{}", skewed)).predict(skewed)
    assert np.abs(skewed["label"] - squares).mean() > 1.05 * least, "means are not medians here"


def test_rows_without_noise_are_fitted_exactly_for_the_absolute_loss_too() -> None:
    exact = SALES.assign(label=3.0 + 2 * SALES["x0"], x1=7.0)
    found = model(fit("{}", exact, recipe=replace(RECIPE, loss="absolute", params=(("alpha", "0.0"),))))
    np.testing.assert_allclose(found.predict(exact), exact["label"], rtol=1e-9)


@pytest.mark.parametrize("stored", [None, VARIANCES])
def test_a_parents_model_without_the_variances_of_all_below_it_is_no_prior(stored: Floats | None) -> None:
    region = fit('{"region":"r3"}', SALES[SALES["region"] == "r3"])
    codec, payload = dump(prior(stored))
    from spinney.core.models.signing import Claim

    signature = SIGNER.sign(Claim(region["group_key"], region["model_id"], codec), payload)
    other = region.copy()
    other["codec"], other["payload"], other["signature"] = codec, payload, signature
    assert fit('["r3","s1"]', SALES.head(5), other)["parent_model_id"] is None


def test_rows_of_a_parent_without_their_groups_are_refused() -> None:
    requests = pd.DataFrame({"group_key": ["{}"]})
    with pytest.raises(ContractError, match=ORIGIN):
        fit_groups(SALES.assign(group_key="{}"), requests, RECIPE, CLOCK, SIGNER)


def test_a_parent_whose_texts_are_all_missing_is_fitted_to_its_labels_alone() -> None:
    recipe = replace(RECIPE, features=(Feature("c", "string"),))
    row = fit("{}", SALES.assign(c=None), recipe=recipe)
    assert row["status"] == "fitted"
    assert model(row).estimator.intercept[0] == pytest.approx(SALES["label"].mean())


def test_numbers_of_one_parent_that_cannot_be_squared_cost_no_other_its_model() -> None:
    of_region = SALES["region"] == "r3"
    two = pd.concat([
        SALES.assign(**{ORIGIN: SALES["group_key"]}, group_key="{}", label=1e160 * SALES["label"]),
        SALES[of_region].assign(**{ORIGIN: SALES["group_key"][of_region]}, group_key='{"region":"r3"}'),
    ], ignore_index=True)  # fmt: skip
    fits = fit_groups(two, pd.DataFrame({"group_key": ["{}", '{"region":"r3"}']}), RECIPE, CLOCK, SIGNER)
    assert fits.set_index("group_key")["status"].to_dict() == {"{}": "failed", '{"region":"r3"}': "fitted"}
