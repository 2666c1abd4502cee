from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestRegressor
from sklearn.svm import LinearSVC

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Encoder
from spinney.core.models.batch_scoring import MAX_ERRORS_PER_MODEL, predict_by_id
from spinney.core.models.linear import Linear, Link, constant_linear
from spinney.core.models.model import Model
from spinney.core.recipes.recipe import Feature

NUMBERS = (Feature("x", "double"), Feature("z", "double"))
MIXED = (*NUMBERS, Feature("s", "string"), Feature("t", "string"))
WORDS = ["a", "b", "c", "d", "e"]


def frame(rows: int, seed: int = 5) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    out = pd.DataFrame(random.normal(size=(rows, 2)) * 1e3, columns=["x", "z"])
    out[out > 1200] = np.nan
    out["s"] = random.choice([*WORDS, None], rows)
    out["t"] = random.choice(["u", "v", None], rows)
    return out


def models(link: Link, scores: int, count: int) -> dict[str, Model]:
    random = np.random.default_rng(11)
    out = {}
    classes = None if link is Link.IDENTITY else tuple("abcdefghijkl"[: 2 if link is Link.LOGISTIC else scores])
    for m in range(count):
        vocabularies = (tuple(random.permutation(WORDS)[: m % 4]), tuple(random.permutation(["u", "v"])[: m % 3]))
        width = 2 + sum(map(len, vocabularies))
        arrays = random.normal(size=scores), random.normal(size=(scores, width)) / 1e2, random.normal(size=width)
        out[f"m{m}"] = Model(Encoder(MIXED, vocabularies), Linear(link, *arrays), classes)
    return out


@pytest.mark.parametrize(
    ("link", "scores"), [(Link.IDENTITY, 1), (Link.LOGISTIC, 1), (Link.SOFTMAX, 3), (Link.SOFTMAX, 12)]
)
def test_a_mixed_batch_is_answered_exactly_as_row_by_row(link: Link, scores: int) -> None:
    known = models(link, scores, 40)
    rows = frame(400)
    ids = [f"m{m}" for m in np.random.default_rng(1).integers(0, 40, len(rows))]
    together = predict_by_id(rows, ids, known)
    for i, model_id in enumerate(ids):
        alone = predict_by_id(rows.iloc[[i]], [model_id], known)
        assert together.prediction[i] == alone.prediction[0]
        if together.probabilities is not None and alone.probabilities is not None:
            assert together.probabilities[i] == alone.probabilities[0]


def test_ten_thousand_rows_of_a_thousand_groups_are_answered_exactly_as_one_model_at_a_time() -> None:
    known = models(Link.IDENTITY, 1, 1000)
    rows = frame(10_000)
    ids = np.array([f"m{m}" for m in np.random.default_rng(1).integers(0, 1000, len(rows))], dtype=object)
    together = predict_by_id(rows, ids, known).prediction
    for model_id in set(ids):
        np.testing.assert_array_equal(together[ids == model_id], known[model_id].predict(rows[ids == model_id]))


def test_a_linear_answer_is_worked_out_by_hand() -> None:
    # 1 + 2 x + 3 z, plus 10 where s is "b"; a missing x counts as 5.
    linear = Linear(Link.IDENTITY, np.array([1.0]), np.array([[2.0, 3.0, 10.0]]), np.array([5.0, 0.0, 0.0]))
    model = Model(Encoder(MIXED, (("b",), ())), linear)
    rows = pd.DataFrame({"x": [1.0, None, 0.0], "z": [1.0, 0.0, None], "s": ["a", "b", "b"], "t": "u"})
    assert model.predict(rows).tolist() == [6.0, 21.0, 11.0]


def test_two_classes_are_worked_out_by_hand() -> None:
    # Log odds of "yes" over "no" are ln 3 times x.
    linear = Linear(Link.LOGISTIC, np.array([0.0]), np.array([[np.log(3), 0.0]]), np.zeros(2))
    model = Model(Encoder(NUMBERS), linear, ("no", "yes"))
    rows = pd.DataFrame({"x": [1.0, 0.0, -1.0], "z": 0.0})
    got = model.probabilities(rows)
    assert got is not None
    np.testing.assert_allclose(got[1], [[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]])
    assert model.predict(rows).tolist() == ["yes", "no", "no"]  # the first of equals


def test_a_far_score_is_a_certain_class_and_no_overflow() -> None:
    linear = Linear(Link.SOFTMAX, np.array([1000.0, 0.0, -1000.0]), np.zeros((3, 2)), np.zeros(2))
    got = Model(Encoder(NUMBERS), linear, ("a", "b", "c")).probabilities(pd.DataFrame({"x": [0.0], "z": [0.0]}))
    assert got is not None
    assert got[1].tolist() == [[1.0, 0.0, 0.0]]


def test_a_row_without_a_model_is_answered_by_nobody() -> None:
    known = models(Link.IDENTITY, 1, 1)
    got = predict_by_id(frame(3), [None, "m0", "gone"], known)
    assert np.isnan(got.prediction[[0, 2]]).all()
    assert np.isfinite(got.prediction[1])
    assert got.probabilities is None


def test_without_any_model_every_answer_is_none() -> None:
    got = predict_by_id(frame(2), [None, "gone"], {})
    assert got.prediction.tolist() == [None, None]


def test_an_answer_that_is_not_finite_is_no_answer() -> None:
    linear = Linear(Link.IDENTITY, np.zeros(1), np.array([[1e308, 1e308]]), np.zeros(2))
    rows = pd.DataFrame({"x": [1e10, 0.0], "z": 0.0})
    np.testing.assert_array_equal(
        predict_by_id(rows, ["m", "m"], {"m": Model(Encoder(NUMBERS), linear)}).prediction, [np.nan, 0]
    )
    soft = Linear(Link.SOFTMAX, np.array([np.inf, 0.0]), np.zeros((2, 2)), np.zeros(2))
    got = predict_by_id(rows, ["m", "m"], {"m": Model(Encoder(NUMBERS), soft, ("a", "b"))})
    assert (got.prediction.tolist(), got.probabilities) == ([None, None], [None, None])


def test_models_with_other_classes_each_answer_with_their_own() -> None:
    known = {
        "one": Model(Encoder(NUMBERS), constant_linear([1.0], 2, Link.CONSTANT), ("only",)),
        "two": Model(Encoder(NUMBERS), constant_linear([0.25, 0.75], 2, Link.CONSTANT), ("no", "yes")),
    }
    got = predict_by_id(frame(3), ["two", "one", "two"], known)
    assert got.prediction.tolist() == ["yes", "only", "yes"]
    assert got.probabilities == [{"no": 0.25, "yes": 0.75}, {"only": 1.0}, {"no": 0.25, "yes": 0.75}]


def test_linear_models_and_others_are_answered_side_by_side_in_the_frames_order() -> None:
    rows = frame(20)[["x", "z"]].fillna(0.0)
    rows.index = rows.index[::-1]
    forest = RandomForestRegressor(3, random_state=0).fit(rows.to_numpy(), rows["x"].to_numpy())
    linear = Linear(Link.IDENTITY, np.zeros(1), np.array([[1.0, 0.0]]), np.zeros(2))
    known = {"forest": Model(Encoder(NUMBERS), forest), "linear": Model(Encoder(NUMBERS), linear)}
    got = predict_by_id(rows, ["forest", "linear"] * 10, known).prediction
    np.testing.assert_array_equal(got[::2], forest.predict(rows.to_numpy()[::2]))
    np.testing.assert_array_equal(got[1::2], rows["x"].to_numpy()[1::2])


def test_models_of_two_schemas_are_asked_for_their_own_features() -> None:
    narrow = Model(Encoder(NUMBERS[:1]), Linear(Link.IDENTITY, np.zeros(1), np.ones((1, 1)), np.zeros(1)))
    wide = Model(Encoder(NUMBERS), Linear(Link.IDENTITY, np.zeros(1), np.ones((1, 2)), np.zeros(2)))
    rows = pd.DataFrame({"x": [1.0, 1.0], "z": [2.0, 2.0]})
    assert predict_by_id(rows, ["narrow", "wide"], {"narrow": narrow, "wide": wide}).prediction.tolist() == [1.0, 3.0]
    with pytest.raises(ContractError, match=r"\['z'\]"):
        predict_by_id(rows[["x"]], ["narrow", "wide"], {"narrow": narrow, "wide": wide})


class Raises:
    def predict(self, x: object) -> object:
        raise RuntimeError("out of order")


def test_a_model_that_raises_is_named_and_the_others_answer() -> None:
    known = models(Link.IDENTITY, 1, 1) | {"bad": Model(Encoder(MIXED, ((), ())), Raises())}
    got = predict_by_id(frame(2), ["bad", "m0"], known)
    assert got.errors == {"bad": "RuntimeError: out of order"}
    assert np.isnan(got.prediction[0])
    assert np.isfinite(got.prediction[1])


def test_a_row_that_an_estimator_raises_for_costs_no_other_row_its_answer() -> None:
    rows = pd.DataFrame({"x": [5.0, 1e39, 2.0, -1e300, 7.0], "z": 0.0})  # trees hold float32: at most 3.4e38
    good = rows["x"].abs() < 1e38
    forest = RandomForestRegressor(3, random_state=0).fit(rows[good].to_numpy(), rows["x"][good].to_numpy())
    got = predict_by_id(rows, ["m"] * 5, {"m": Model(Encoder(NUMBERS), forest)})
    np.testing.assert_array_equal(got.prediction[good], forest.predict(rows[good].to_numpy()))
    assert np.isnan(got.prediction[~good]).all()
    assert "float32" in got.errors["m"]


def test_many_rows_that_an_estimator_raises_for_cost_no_other_row_its_answer() -> None:
    x = np.random.default_rng(3).normal(size=3000)
    bad = np.random.default_rng(4).random(3000) < 0.3
    rows = pd.DataFrame({"x": np.where(bad, np.where(x > 0, 1e39, np.nan), x), "z": 0.0})
    known = {"m": Model(Encoder(NUMBERS), RefusesMissing())}
    got = predict_by_id(rows, ["m"] * 3000, known).prediction
    np.testing.assert_array_equal(got[~bad], x[~bad])
    assert np.isnan(got[bad]).all()


class RefusesMissing:
    """Answers with x, and raises for a batch with a value that is missing or too large, as scikit-learn's trees do."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        if not (np.abs(x) < 1e38).all():
            raise ValueError("Input contains NaN, infinity or a value too large for dtype('float32').")
        return x[:, 0]


def test_a_model_that_raises_whatever_it_is_given_is_not_asked_for_each_row() -> None:
    asked: list[int] = []

    class Counts(Raises):
        def predict(self, x: object) -> object:
            asked.append(1)
            return super().predict(x)

    got = predict_by_id(frame(10_000), ["bad"] * 10_000, {"bad": Model(Encoder(MIXED, ((), ())), Counts())})
    assert np.isnan(got.prediction).all()
    assert len(asked) == MAX_ERRORS_PER_MODEL


def test_an_estimator_without_probabilities_is_certain() -> None:
    rows = pd.DataFrame({"x": [-1.0, 1.0, -2.0, 2.0], "z": 0.0})
    fitted = LinearSVC().fit(rows.to_numpy(), np.array(["no", "yes", "no", "yes"], dtype=object))
    got = predict_by_id(rows, ["m"] * 4, {"m": Model(Encoder(NUMBERS), fitted, ("no", "yes"))})
    assert got.probabilities is not None
    assert got.probabilities[0] == {"no": 1.0, "yes": 0.0}
    assert got.prediction.tolist() == ["no", "yes", "no", "yes"]


def test_no_rows_get_no_answers() -> None:
    dummy = DummyClassifier().fit([[0.0, 0.0]] * 2, ["a", "b"])
    known = {"m": Model(Encoder(NUMBERS), dummy, ("a", "b"))}
    assert len(predict_by_id(frame(0), [], known).prediction) == 0
    assert len(known["m"].predict(frame(0))) == 0


def test_the_frame_is_left_unchanged() -> None:
    rows = frame(50)
    before = rows.copy(deep=True)
    predict_by_id(rows, ["m0"] * 50, models(Link.SOFTMAX, 3, 1))
    pd.testing.assert_frame_equal(rows, before)
