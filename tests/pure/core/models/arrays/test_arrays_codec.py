"""Estimators as arrays: what is read back answers the same bits, and nothing that is read can do harm."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import HuberRegressor, Lasso, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from spinney.core.errors import Corrupt
from spinney.core.models.arrays import allowed_classes, arrays_codec
from spinney.core.models.arrays.packed_trees import InexpressibleError
from spinney.core.models.filled import Filled
from spinney.core.models.imported import Imported

RANDOM = np.random.default_rng(5)
X = np.concatenate([RANDOM.normal(size=(80, 5)), RANDOM.integers(0, 3, size=(80, 1))], axis=1)
NUMBERS = X[:, 0] * 2 + X[:, 1] + RANDOM.normal(size=80)
TWO = np.where(NUMBERS > 0, "up", "down").astype(object)
THREE = np.digitize(NUMBERS, [-1, 1])
ASKED = RANDOM.normal(size=(200, 6)) * 2
HOLES = np.where(RANDOM.random(X.shape) < 0.1, np.nan, X)

FITTED: dict[str, Callable[[], Any]] = {
    "ridge": lambda: make_pipeline(StandardScaler(), Ridge()).fit(X, NUMBERS),
    "logistic": lambda: make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(HOLES, TWO),
    "columns": lambda: make_pipeline(
        ColumnTransformer(
            [("n", StandardScaler(), [0, 1]), ("c", OneHotEncoder(handle_unknown="ignore"), slice(5, 6))],
            remainder="passthrough",
        ),
        Lasso(0.1),
    ).fit(X, NUMBERS),
    "polynomial": lambda: make_pipeline(PolynomialFeatures(), PCA(4), HuberRegressor()).fit(X, NUMBERS),
    "target": lambda: TransformedTargetRegressor(Ridge(), transformer=StandardScaler()).fit(X, NUMBERS),
    "bayes": lambda: GaussianNB().fit(X, TWO),
    "perceptron": lambda: MLPRegressor(hidden_layer_sizes=(3,), max_iter=5, random_state=1).fit(X, NUMBERS),
    "tree": lambda: DecisionTreeClassifier(max_leaf_nodes=9, random_state=1).fit(HOLES, THREE),
    "stump": lambda: DecisionTreeRegressor(max_depth=1).fit(np.zeros((5, 6)), np.zeros(5)),
    "forest": lambda: RandomForestRegressor(5, random_state=1).fit(HOLES, NUMBERS),
    "two outputs": lambda: RandomForestRegressor(3, random_state=1).fit(X, np.column_stack([NUMBERS, -NUMBERS])),
    "classes": lambda: RandomForestClassifier(5, random_state=1, class_weight="balanced").fit(X, TWO),
    "extra": lambda: ExtraTreesClassifier(5, random_state=1, max_features=2).fit(X, THREE),
    "bagging": lambda: BaggingRegressor(n_estimators=4, max_features=3, random_state=1).fit(X, NUMBERS),
    "adaboost": lambda: AdaBoostRegressor(n_estimators=4, random_state=1).fit(X, NUMBERS),
    "boosting": lambda: GradientBoostingRegressor(n_estimators=5, loss="huber", random_state=1).fit(X, NUMBERS),
    "boosting 2": lambda: GradientBoostingClassifier(n_estimators=5, random_state=1).fit(X, TWO),
    "boosting 3": lambda: GradientBoostingClassifier(n_estimators=5, init="zero", random_state=1).fit(X, THREE),
    "boosting 4": lambda: GradientBoostingClassifier(n_estimators=3, random_state=1).fit(X, THREE),
    "hist": lambda: HistGradientBoostingRegressor(max_iter=5, random_state=1).fit(HOLES, NUMBERS),
    "hist quantile": lambda: HistGradientBoostingRegressor(
        loss="quantile", quantile=0.3, max_iter=3, max_features=0.5, random_state=1
    ).fit(X, NUMBERS),
    "hist 3": lambda: HistGradientBoostingClassifier(max_iter=4, random_state=1).fit(HOLES, THREE),
    "voting": lambda: VotingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor(max_depth=3))]).fit(X, NUMBERS),
    "stacking": lambda: StackingRegressor([("a", Ridge()), ("b", Lasso(0.1))]).fit(X, NUMBERS),
}


@pytest.mark.parametrize("name", FITTED)
def test_what_is_read_answers_the_same_bits_and_is_written_as_the_same_bytes(name: str) -> None:
    fitted = FITTED[name]()
    payload = arrays_codec.pack(fitted)
    back = arrays_codec.unpack(payload)
    for verb in ("predict", "predict_proba", "decision_function"):
        if hasattr(fitted, verb):
            np.testing.assert_array_equal(getattr(back, verb)(ASKED), getattr(fitted, verb)(ASKED))
    assert back.get_params(deep=False).keys() == fitted.get_params(deep=False).keys()
    assert arrays_codec.pack(back) == payload


def test_a_forest_keeps_what_explains_it() -> None:
    forest = FITTED["forest"]()
    back = arrays_codec.unpack(arrays_codec.pack(forest))
    np.testing.assert_array_equal(back.feature_importances_, forest.feature_importances_)
    np.testing.assert_array_equal(back.decision_path(X)[0].toarray(), forest.decision_path(X)[0].toarray())
    for ours, theirs in zip(back.estimators_, forest.estimators_, strict=True):
        for name in ("n_node_samples", "weighted_n_node_samples", "impurity", "value", "threshold", "children_right"):
            np.testing.assert_array_equal(getattr(ours.tree_, name), getattr(theirs.tree_, name))
        assert ours.tree_.max_depth == theirs.tree_.max_depth


@pytest.mark.parametrize(
    "estimator",
    [
        SVR().fit(X, NUMBERS),
        KNeighborsRegressor().fit(X, NUMBERS),
        make_pipeline(FunctionTransformer(np.sin), Ridge()).fit(X, NUMBERS),
        HistGradientBoostingRegressor(max_iter=2, categorical_features=[5]).fit(X, NUMBERS),
        GradientBoostingRegressor(n_estimators=2, init=Ridge()).fit(X, NUMBERS),
    ],
    ids=["compiled state", "k-d tree", "function", "categories", "own beginning"],
)
def test_what_cannot_be_checked_is_left_to_skops(estimator: Any) -> None:
    with pytest.raises(InexpressibleError):
        arrays_codec.pack(estimator)


def test_every_class_of_the_frozen_list_is_one_of_this_scikit_learn() -> None:
    for name in allowed_classes.ALLOWED:
        found = allowed_classes.class_named(name)
        assert allowed_classes.name_of(found) == name


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
ARRAYS = hnp.arrays(
    st.sampled_from([np.dtype(text) for text in ("<f8", "<f4", "<i8", "u1", "?", "<U3")]), hnp.array_shapes(min_dims=0)
)
VALUES = st.recursive(
    SCALARS | ARRAYS | ARRAYS.map(np.asfortranarray) | st.floats().map(np.float64) | st.integers(0, 99).map(np.int32),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.tuples(inner, inner).map(lambda pair: Filled(*pair))
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_value_that_is_written_comes_back_of_its_own_type(value: Any) -> None:
    assert_same(arrays_codec.unpack(arrays_codec.pack(Imported(value, None))).estimator, value)


def assert_same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape, ours.tobytes("A")) == (theirs.dtype, theirs.shape, theirs.tobytes("A"))
        assert ours.flags.writeable
    elif isinstance(theirs, dict):
        assert_same(list(ours.items()), list(theirs.items()))
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(theirs, Filled):
        assert_same(vars(ours), vars(theirs))
    else:
        assert repr(ours) == repr(theirs)


FOREST = arrays_codec.pack(FITTED["forest"]())
HIST = arrays_codec.pack(FITTED["hist"]())
BOOSTED = arrays_codec.pack(FITTED["boosting 4"]())


@given(st.sampled_from([FOREST, HIST, BOOSTED]), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_cut_or_changed_payload_is_corrupt(payload: bytes, share: float, change: int) -> None:
    at = int(share * len(payload))
    with pytest.raises(Corrupt):
        arrays_codec.unpack(payload[:at])
    with pytest.raises(Corrupt):
        arrays_codec.unpack(payload[:at] + bytes([payload[at] ^ change]) + payload[at + 1 :])
    with pytest.raises(Corrupt):
        arrays_codec.unpack(payload + bytes([change]))


def opened(payload: bytes) -> tuple[Any, list[Any]]:
    """The description and the arrays of a payload."""
    _, length = struct.unpack_from("<II", payload)
    raw = bytes(pa.Codec("zstd").decompress(payload[8:], decompressed_size=length))
    (size,) = struct.unpack_from("<I", raw)
    about, at, arrays = json.loads(raw[4 : 4 + size]), 4 + size, []
    for text, shape, order in about["arrays"]:
        count = int(np.prod(shape))
        flat = np.frombuffer(raw, dtype=text, count=count, offset=at).copy()
        arrays.append(flat.reshape(shape, order=order))
        at += flat.nbytes
    return about, arrays


def forged(about: Any, arrays: list[Any]) -> bytes:
    """A payload whose checksum holds: what only somebody with the signing key could hand in."""
    about["arrays"] = [[array.dtype.str, list(array.shape), "C"] for array in arrays]
    text = json.dumps(about).encode()
    raw = struct.pack("<I", len(text)) + text + b"".join(array.tobytes() for array in arrays)
    body = pa.Codec("zstd").compress(raw, asbytes=True)
    return struct.pack("<II", zlib.crc32(body), len(raw)) + body


def found(node: Any, tag: str) -> Any:
    """The first list under this tag."""
    if isinstance(node, list) and node and node[0] == tag:
        return node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next((hit for child in children if (hit := found(child, tag)) is not None), None)


ATTACKS: dict[str, tuple[bytes, str, int, Callable[[Any], None]]] = {
    "a child outside its tree": (FOREST, "trees", 4, lambda steps: steps.__setitem__(-1, 200)),
    "a child that is its parent": (FOREST, "trees", 4, lambda steps: steps.__setitem__(0, 0)),
    "one child of two parents": (FOREST, "trees", 5, lambda steps: steps.__setitem__(0, 1)),
    "a feature that is not there": (FOREST, "trees", 6, lambda features: features.__setitem__(0, 6)),
    "less depth than there is": (FOREST, "trees", 1, lambda about: about.__setitem__((0, 1), 1)),
    "more features than the estimator": (FOREST, "trees", 1, lambda about: about.__setitem__((0, 0), 50)),
    "more nodes than there are": (FOREST, "trees", 1, lambda about: about.__setitem__((0, 2), 90)),
    "more classes than values": (FOREST, "trees", 2, lambda classes: classes.__setitem__(0, 7)),
    "a leaf that has children": (FOREST, "trees", 3, lambda leaves: leaves.__setitem__(0, 0)),
    "a boosted child outside its tree": (HIST, "predictors", 5, lambda steps: steps.__setitem__(-1, 200)),
    "a boosted feature that is not there": (HIST, "predictors", 6, lambda features: features.__setitem__(0, 6)),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_forged_tree_is_refused(name: str) -> None:
    payload, tag, place, change = ATTACKS[name]
    about, arrays = opened(payload)
    assert arrays_codec.unpack(forged(about, arrays)).predict(ASKED) is not None  # what follows fails by the change
    change(arrays[found(about["root"], tag)[place]])
    with pytest.raises(Corrupt, match="do not fit"):
        arrays_codec.unpack(forged(about, arrays))


@pytest.mark.parametrize(
    ("payload", "attribute", "value"),
    [
        (FOREST, "n_features_in_", 60),
        (BOOSTED, "n_trees_per_iteration_", 2),
        (BOOSTED, "init_", None),
        (BOOSTED, "n_features_in_", 60),
        (HIST, "_n_features", 3),
    ],
)
def test_an_estimator_that_its_trees_do_not_fit_is_refused(payload: bytes, attribute: str, value: Any) -> None:
    about, arrays = opened(payload)
    held = about["root"][2]
    if payload is FOREST:  # what its trees are asked by
        held = found(about["root"], "objects")[3]
        value = ["same", value]
    assert attribute in held
    held[attribute] = value
    with pytest.raises(Corrupt):
        arrays_codec.unpack(forged(about, arrays))


@pytest.mark.parametrize(
    "name", ["evil_module:Evil", "builtins:eval", "os:system", "sklearn.base:clone", "sklearn.svm._classes:SVR", ""]
)
def test_a_class_that_is_not_on_the_list_is_refused_before_its_module_is_imported(name: str) -> None:
    about, arrays = opened(FOREST)
    about["root"][1] = name
    with pytest.raises(Corrupt, match="expected an allowed class"):
        arrays_codec.unpack(forged(about, arrays))
    assert "evil_module" not in sys.modules


def test_one_array_twice_an_array_too_many_and_a_million_objects_are_refused() -> None:
    small = arrays_codec.pack(Filled(None, np.zeros(2)))
    about, arrays = opened(small)
    about["root"][2]["estimator"] = about["root"][2]["fill"]
    with pytest.raises(Corrupt, match="twice"):
        arrays_codec.unpack(forged(about, arrays))
    about["root"][2] = {}
    with pytest.raises(Corrupt, match="nothing names"):
        arrays_codec.unpack(forged(about, arrays))
    about["root"] = ["list", ["objects", "spinney.core.models.filled:Filled", 10**9, {}]]
    with pytest.raises(Corrupt, match="objects"):
        arrays_codec.unpack(forged(about, []))


def test_what_another_scikit_learn_wrote_is_read_with_its_own_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = FITTED["ridge"]()
    with monkeypatch.context() as patched:
        patched.setattr(sklearn, "__version__", "1.2.3")
        payload = arrays_codec.pack(fitted)
    with pytest.warns(InconsistentVersionWarning, match=r"Pipeline from version 1\.2\.3"):
        back = arrays_codec.unpack(payload)
    np.testing.assert_array_equal(back.predict(ASKED), fitted.predict(ASKED))
    about, arrays = opened(payload)
    about["root"][1] = "sklearn.pipeline:Former"
    with pytest.raises(Corrupt, match=r"scikit-learn 1\.2\.3 wrote them, this is .*: refit the group"):
        arrays_codec.unpack(forged(about, arrays))
