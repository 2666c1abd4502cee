from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.errors import ContractError
from spinney.core.features.encoding import to_columns
from spinney.core.models.codec import dump
from spinney.core.models.model import Model
from spinney.core.recipes.recipe import Feature
from spinney.core.training.estimators import kernel_for
from spinney.core.training.estimators.ridge import RidgeSolver
from spinney.core.training.fit_kernels import KernelInput
from spinney.core.training.linear_kernel import LinearKernel


def rows(sizes: list[int], width: int, seed: int) -> pd.DataFrame:
    """Features of very different sizes, some missing, one constant, and with several features one all missing."""
    random = np.random.default_rng(seed)
    n = sum(sizes)
    x = random.normal(size=(n, width)) * 10.0 ** random.integers(-3, 4, width) + random.normal(size=width) * 100
    label = x @ random.normal(size=width) + random.normal(size=n)
    x[random.random(x.shape) < 0.1] = np.nan
    if width > 2:
        x[:, 0], x[:, 1] = 3.1, np.nan
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(width)])
    return frame.assign(label=label, g=np.repeat(np.arange(len(sizes)), sizes))


def stack(frame: pd.DataFrame, weights: np.ndarray | None = None, groups: list[int] | None = None) -> KernelInput:
    features = tuple(
        Feature(str(name), "string" if str(name).startswith("s") else "double")
        for name in frame.columns
        if name not in {"label", "g"}
    )
    asked = frame["g"].unique().tolist() if groups is None else groups
    parts = [frame[frame["g"] == g] for g in asked]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    together = pd.concat(parts)
    chosen = None if weights is None else np.concatenate([weights[(frame["g"] == g).to_numpy()] for g in asked])
    columns = to_columns(together, features)
    return KernelInput(tuple(map(str, asked)), columns, starts, together["label"].to_numpy(), chosen)


def fitted(of: KernelInput, alpha: float = 1.0) -> list[Model]:
    fits = LinearKernel(RidgeSolver(alpha)).fit(of, lambda: 0.0)
    assert [fit.error for fit in fits] == [None] * len(fits)
    return [fit.model for fit in fits if fit.model is not None]


def scikit_learn(frame: pd.DataFrame, weights: np.ndarray | None, alpha: float) -> np.ndarray:
    """The oracle: anybody's own pipeline, one group at a time."""
    x = frame.drop(columns=["label", "g"]).to_numpy()
    pipeline = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), Ridge(alpha=alpha))
    arguments = {} if weights is None else {"ridge__sample_weight": weights}
    prediction: np.ndarray = pipeline.fit(x, frame["label"].to_numpy(), **arguments).predict(x)
    return prediction


@examples(60)
@given(
    st.lists(st.integers(2, 60), min_size=1, max_size=6),
    st.integers(1, 9),
    st.sampled_from([0.01, 1.0, 50.0]),
    st.booleans(),
    st.integers(0, 10_000),
)
def test_it_answers_as_the_scikit_learn_pipeline(
    sizes: list[int],
    width: int,
    alpha: float,
    weighted: bool,
    seed: int,
) -> None:
    frame = rows(sizes, width, seed)
    weights = np.random.default_rng(seed).uniform(0.01, 1, len(frame)) if weighted else None
    for g, model in enumerate(fitted(stack(frame, weights), alpha)):
        mine = frame["g"] == g
        part = frame[mine]
        expected = scikit_learn(part, None if weights is None else weights[mine.to_numpy()], alpha)
        np.testing.assert_allclose(model.predict(part), expected, rtol=1e-6, atol=1e-6 * part["label"].abs().max())


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("with_words", [False, True])
def test_neighbours_and_their_order_change_not_one_bit(alpha: float, with_words: bool) -> None:
    sizes = np.random.default_rng(0).integers(1, 900, 50).tolist()
    frame = rows(sizes, 6, 1)
    if with_words:
        words = np.random.default_rng(2).choice(["a", "b", "c", "d", None], len(frame))
        frame["s"] = np.where(words == "d", np.where(frame["g"] % 2, "d", "a"), words)
    together = [dump(model) for model in fitted(stack(frame), alpha)]
    backwards = [dump(model) for model in fitted(stack(frame, groups=list(range(50))[::-1]), alpha)]
    alone = [dump(fitted(stack(frame, groups=[g]), alpha)[0]) for g in range(50)]
    assert together == backwards[::-1] == alone


def test_without_a_penalty_a_column_that_repeats_another_is_no_trouble_for_anybody() -> None:
    frame = rows([30, 30, 30], 2, 4).fillna(0.0)
    twin = frame["g"] == 1
    frame.loc[twin, "x1"] = frame.loc[twin, "x0"]
    models = fitted(stack(frame), 0.0)
    for g, model in enumerate(models):
        part = frame[frame["g"] == g]
        expected = np.linalg.lstsq(np.column_stack([part[["x0", "x1"]], np.ones(30)]), part["label"])[0]
        by_hand = part[["x0", "x1"]].to_numpy() @ expected[:2] + expected[2]
        np.testing.assert_allclose(model.predict(part), by_hand, rtol=1e-6, atol=1e-6 * part["label"].abs().max())


def test_one_row_is_answered_by_its_label() -> None:
    (model,) = fitted(stack(pd.DataFrame({"x0": [2.0], "label": [7.0], "g": [0]})))
    assert model.predict(pd.DataFrame({"x0": [100.0]})).tolist() == [7.0]


def test_a_group_that_overflows_gives_no_finite_model_and_leaves_the_others_alone() -> None:
    frame = rows([20, 20], 2, 9)
    good = dump(fitted(stack(frame, groups=[1]))[0])
    frame.loc[frame["g"] == 0, "label"] = 1e308
    fits = LinearKernel(RidgeSolver(1.0)).fit(stack(frame), lambda: 0.0)
    assert fits[1].model is not None
    assert dump(fits[1].model) == good


def test_words_of_a_group_are_learned_as_scikit_learn_would_from_one_hot_columns() -> None:
    frame = rows([40], 1, 3).fillna(0.0)
    frame["s"] = ["a", "b", None, "b"] * 10
    (model,) = fitted(stack(frame))
    hot = frame.assign(s_b=(frame["s"] == "b") * 1.0, s_a=(frame["s"] == "a") * 1.0).drop(columns="s")
    np.testing.assert_allclose(model.predict(frame), scikit_learn(hot, None, 1.0), rtol=1e-9)


@pytest.mark.parametrize(
    "params", [{"alpha": -1}, {"alpha": "1"}, {"alpha": True}, {"beta": 1}, {"alpha": float("inf")}]
)
def test_a_parameter_it_does_not_take_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(ContractError, match="of ridge"):
        kernel_for("ridge", "regression", params)
