"""Check estimators with trees for what scikit-learn's compiled predictions assume.

The compiled code compares the width of the rows with `n_features_in_`, then reads the features that the trees name
without a check of its own. Gradient boosting writes as many columns as it has trees per round. So both are checked
here, when an estimator is written and when it is read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.tree._tree import Tree

_TREES = {"DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"}
_BOOSTED = {"GradientBoostingClassifier", "GradientBoostingRegressor"}
_BINNED = {"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"}


def check(estimator: Any) -> None:
    """Check that an estimator's trees are consistent with it. Other objects pass. Raises ValueError."""
    name = type(estimator).__name__
    if name in _TREES:
        _check_tree(estimator)
    elif name in _BOOSTED:
        _check_boosted(estimator)
    elif name in _BINNED:
        _check_binned(estimator)


def _check_tree(estimator: Any) -> None:
    held = vars(estimator)
    tree = held.get("tree_")
    if tree is not None:
        _require(type(tree) is Tree and _number(held.get("n_features_in_")) == tree.n_features)


def _check_boosted(estimator: Any) -> None:
    state = vars(estimator)
    stages = state.get("estimators_")
    if stages is None:
        return
    _require(type(stages) is np.ndarray and stages.dtype == object and stages.ndim == 2 and stages.shape[1] >= 1)
    width, n_outputs = _number(state.get("n_features_in_")), stages.shape[1]
    for stage in stages.flat:
        _require(type(stage).__name__ == "DecisionTreeRegressor" and "tree_" in vars(stage))
        _require(stage.tree_.n_features == width)
    _require(_number(state.get("n_trees_per_iteration_")) == n_outputs)
    first = state.get("init_")
    if type(first) is str:
        _require(first == "zero")
    elif type(estimator).__name__ == "GradientBoostingRegressor":
        _require(type(first).__name__ == "DummyRegressor" and n_outputs == 1)
        _require(_number(vars(first).get("n_outputs_")) == 1)
    else:
        _check_shares(state, first, n_outputs)


def _check_shares(held: Any, first: Any, n_outputs: int) -> None:
    """Check that a boosted classifier's initial class shares match its columns (two shares for one column)."""
    _require(type(first).__name__ == "DummyClassifier")
    state = vars(first)
    shares, classes = state.get("class_prior_"), max(2, n_outputs)
    _require(state.get("_strategy") == "prior" and type(shares) is np.ndarray and shares.shape == (classes,))
    _require(_number(state.get("n_classes_")) == classes and _number(state.get("n_outputs_")) == 1)
    loss = held.get("_loss")
    if n_outputs > 1:
        _require(type(loss).__name__ == "HalfMultinomialLoss" and _number(vars(loss).get("n_classes")) == n_outputs)


def _check_binned(estimator: Any) -> None:
    held = vars(estimator)
    rounds = held.get("_predictors")
    if rounds is None:
        return
    width = _number(held.get("_n_features"))
    _require(held.get("_preprocessor") is None and _number(held.get("n_features_in_")) == width)
    categorical = vars(held["_bin_mapper"]).get("is_categorical_")
    _require(type(categorical) is np.ndarray and categorical.shape == (width,) and not categorical.any())
    for predictor in (tree for trees in rounds for tree in trees):
        _require(type(predictor).__name__ == "TreePredictor" and int(predictor.nodes["feature_idx"].max()) < width)


def _number(value: Any) -> int:
    _require(type(value) in (int, np.int64, np.int32))
    return int(value)


def _require(holds: Any) -> None:
    if not holds:
        raise ValueError("an estimator that its own trees do not fit")
