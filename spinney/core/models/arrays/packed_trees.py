"""Pack many decision trees into a few arrays: one array for each field of their nodes, concatenated over the trees.

Children are stored as distances from their parent, thresholds and features of inner nodes only, whole numbers in the
smallest unsigned type. scikit-learn's compiled code follows children and reads features without checking bounds, so
unpacking validates them: each tree must be connected, its children within it, its features below its feature count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree

from spinney.core.features.encoding import Floats, Integers

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Put = Callable[[Array], int]
Take = Callable[[object], Array]

_NODE_FIELDS = (
    "left_child",
    "right_child",
    "feature",
    "threshold",
    "impurity",
    "n_node_samples",
    "weighted_n_node_samples",
    "missing_go_to_left",
)
_PREDICTOR_FIELDS = ("value", "count", "num_threshold", "missing_go_to_left", "gain", "depth", "bin_threshold")
"""Fields of a boosted tree's nodes that are stored unchanged, in addition to feature_idx, left, right and is_leaf."""

_BITSET = (0, 8)
"""Shape of the sets of categories in a boosted tree without categorical features."""


class InexpressibleError(Exception):
    """The codec `sklearn-arrays` cannot store this object; another codec is used."""


def pack_trees(trees: Sequence[Any], put: Put) -> list[Any]:
    """Return the trees as JSON values for `unpack_trees`. put: stores an array and returns its number.

    Raises InexpressibleError if the nodes have an unknown layout.
    """
    states = [tree.__getstate__() for tree in trees]
    sizes = np.array([len(state["nodes"]) for state in states], dtype=np.int64)
    nodes = np.concatenate([state["nodes"] for state in states])
    if nodes.dtype.names != _NODE_FIELDS or any(state["node_count"] < 1 for state in states):
        raise InexpressibleError("trees whose nodes have other fields, or none")
    leaf, local = nodes["left_child"] == -1, _places_in_trees(sizes)
    inner = ~leaf
    at_leaf = {"right_child": -1, "feature": -2, "threshold": -2.0}
    if any((nodes[name][leaf] != value).any() for name, value in at_leaf.items()):
        raise InexpressibleError("trees whose leaves have children or features")
    width = {(tree.n_outputs, tree.max_n_classes) for tree in trees}
    if len(width) != 1:
        raise InexpressibleError("trees with answers of different widths")
    about = [
        (tree.n_features, state["max_depth"], len(state["nodes"])) for tree, state in zip(trees, states, strict=True)
    ]
    return [
        put(np.array(about, dtype=np.int64)),
        put(np.array([tree.n_classes for tree in trees], dtype=np.int64)),
        put(np.packbits(leaf)),
        put(_smallest_unsigned(nodes["left_child"][inner] - local[inner])),
        put(_smallest_unsigned(nodes["right_child"][inner] - local[inner])),
        put(_smallest_unsigned(nodes["feature"][inner])),
        put(nodes["threshold"][inner]),
        put(np.packbits(nodes["missing_go_to_left"][inner] != 0)),
        put(np.ascontiguousarray(nodes["impurity"])),
        put(_smallest_unsigned(nodes["n_node_samples"])),
        put(_unsigned_if_whole(nodes["weighted_n_node_samples"])),
        put(np.concatenate([state["values"] for state in states])),
    ]


def unpack_trees(stored: Sequence[Any], take: Take) -> list[Any]:
    """Rebuild the trees. take: returns an array by its number. Raises ValueError if any of them is not a valid tree."""
    about, n_classes = take(stored[0]), take(stored[1])
    _require(about.ndim == 2 and about.shape[1] == 3 and n_classes.ndim == 2 and len(n_classes) == len(about) > 0)
    _require(about.dtype == n_classes.dtype == np.int64 and (n_classes >= 1).all() and n_classes.shape[1] >= 1)
    _require((about >= 0).all() and (about < 2**31).all() and (n_classes < 2**31).all())
    sizes = _sizes(about[:, 2])
    total = int(sizes.sum())
    leaf = _bits(take(stored[2]), total)
    inner = np.flatnonzero(~leaf)
    left, right = (_whole(take(at), len(inner)) for at in stored[3:5])
    features = _whole(take(stored[5]), len(inner))
    depths = _depths(sizes, inner, left, right)
    _require((features < np.repeat(about[:, 0], sizes)[inner]).all())
    _require((depths <= about[:, 1]).all())
    local = _places_in_trees(sizes)
    nodes = np.zeros(total, dtype=_node_dtype())
    for name, value in (("left_child", -1), ("right_child", -1), ("feature", -2), ("threshold", -2.0)):
        nodes[name] = value
    nodes["left_child"][inner] = local[inner] + left
    nodes["right_child"][inner] = local[inner] + right
    nodes["feature"][inner] = features
    nodes["threshold"][inner] = _floats(take(stored[6]), len(inner))
    nodes["missing_go_to_left"][inner] = _bits(take(stored[7]), len(inner))
    nodes["impurity"] = _floats(take(stored[8]), total)
    nodes["n_node_samples"] = _whole(take(stored[9]), total)
    weights = take(stored[10])
    nodes["weighted_n_node_samples"] = _floats(weights, total) if weights.dtype.kind == "f" else _whole(weights, total)
    values = take(stored[11])
    widest = n_classes.max(axis=1)
    _require(values.dtype == np.float64 and values.shape == (total, n_classes.shape[1], int(widest[0])))
    _require((widest == widest[0]).all() and values.flags.c_contiguous)
    return _trees(about, n_classes, nodes, values)


def pack_predictors(predictors: Sequence[Any], put: Put) -> list[Any]:
    """As `pack_trees`, for trees of histogram gradient boosting. Raises InexpressibleError for categorical splits."""
    nodes = np.concatenate([predictor.nodes for predictor in predictors])
    known = {*_PREDICTOR_FIELDS, "feature_idx", "left", "right", "is_leaf", "is_categorical", "bitset_idx"}
    sets = {name: getattr(predictors[0], name) for name in ("binned_left_cat_bitsets", "raw_left_cat_bitsets")}
    if nodes.dtype != PREDICTOR_RECORD_DTYPE or set(nodes.dtype.names or ()) != known or nodes["is_categorical"].any():
        raise InexpressibleError("boosted trees with categorical splits, or nodes with other fields")
    for predictor in predictors:
        for name, of_first in sets.items():
            found = getattr(predictor, name)
            if found.shape != _BITSET or found.dtype != of_first.dtype or set(vars(predictor)) != {"nodes", *sets}:
                raise InexpressibleError("boosted trees with sets of categories, or other attributes")
    sizes = np.array([len(predictor.nodes) for predictor in predictors], dtype=np.int64)
    leaf, local = nodes["is_leaf"] != 0, _places_in_trees(sizes)
    inner = ~leaf
    if nodes["left"][leaf].any() or nodes["right"][leaf].any() or nodes["bitset_idx"].any():
        raise InexpressibleError("boosted trees whose leaves have children")
    return [
        sets["raw_left_cat_bitsets"].dtype.str,
        put(_smallest_unsigned(sizes)),
        put(np.packbits(leaf)),
        put(_smallest_unsigned(nodes["left"][inner] - local[inner])),
        put(_smallest_unsigned(nodes["right"][inner] - local[inner])),
        put(_smallest_unsigned(nodes["feature_idx"])),
        *(put(_stored(nodes[name])) for name in _PREDICTOR_FIELDS),
    ]


def unpack_predictors(stored: Sequence[Any], take: Take) -> list[Any]:
    """Rebuild boosted trees. Raises ValueError like `unpack_trees`; features are checked by `tree_checks`."""
    sets = np.dtype(stored[0])
    _require(sets == np.uint32)
    counts = take(stored[1])
    sizes = _sizes(_whole(counts, len(counts)))
    total = int(sizes.sum())
    leaf = _bits(take(stored[2]), total)
    inner = np.flatnonzero(~leaf)
    left, right = (_whole(take(at), len(inner)) for at in stored[3:5])
    _depths(sizes, inner, left, right)
    nodes = np.zeros(total, dtype=PREDICTOR_RECORD_DTYPE)
    local = _places_in_trees(sizes)
    nodes["is_leaf"] = leaf
    nodes["left"][inner] = local[inner] + left
    nodes["right"][inner] = local[inner] + right
    nodes["feature_idx"] = _whole(take(stored[5]), total)
    for name, at in zip(_PREDICTOR_FIELDS, stored[6:], strict=True):
        column = take(at)
        floating = nodes.dtype[name].kind == "f"
        nodes[name] = _floats(column, total) if floating else _whole(column, total)
    stops = np.cumsum(sizes)
    return [
        TreePredictor(nodes[begin:stop].copy(), np.zeros(_BITSET, dtype=sets), np.zeros(_BITSET, dtype=sets))
        for begin, stop in zip((stops - sizes).tolist(), stops.tolist(), strict=True)
    ]


def _trees(about: Integers, n_classes: Integers, nodes: Array, values: Floats) -> list[Any]:
    trees, begin = [], 0
    for (features, depth, size), classes in zip(about.tolist(), n_classes.astype(np.intp), strict=True):
        tree = Tree(features, classes, len(classes))
        rows = slice(begin, begin + size)
        state = {"max_depth": depth, "node_count": size, "nodes": nodes[rows], "values": values[rows]}
        tree.__setstate__(state)
        trees.append(tree)
        begin += size
    return trees


def _depths(sizes: Integers, inner: Integers, left: Integers, right: Integers) -> Integers:
    """Each tree's depth. left, right: distance from each inner node to its children.

    Raises ValueError unless every node except the roots is the child of exactly one earlier node.
    """
    total, stops = int(sizes.sum()), np.cumsum(sizes)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    _require((left >= 1).all() and (right >= 1).all())
    _require((inner + left < stops[owner[inner]]).all() and (inner + right < stops[owner[inner]]).all())
    parents = np.bincount(np.concatenate([inner + left, inner + right]), minlength=total)
    roots = stops - sizes
    expected = np.ones(total, dtype=np.int64)
    expected[roots] = 0
    _require((parents == expected).all())
    children = np.full((2, total), -1, dtype=np.int64)
    children[0, inner], children[1, inner] = inner + left, inner + right
    depths, level, nodes = np.zeros(len(sizes), dtype=np.int64), 0, roots
    while len(nodes):
        depths[owner[nodes]] = level
        below = children[:, nodes].ravel()
        nodes, level = below[below >= 0], level + 1
    return depths


def _sizes(sizes: Integers) -> Integers:
    # A node takes more than a byte of a payload of bounded length: a valid payload cannot have more nodes.
    _require(sizes.ndim == 1 and len(sizes) > 0 and (sizes >= 1).all() and (sizes < 2**31).all())
    _require(int(sizes.sum()) < 2**28)
    return sizes


def _places_in_trees(sizes: Integers) -> Integers:
    """Each node's position in its own tree."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _smallest_unsigned(values: Array) -> Array:
    """The same whole numbers in the smallest unsigned type of at most 32 bits. Raises InexpressibleError."""
    if len(values) and (values.min() < 0 or values.max() >= 2**32):
        raise InexpressibleError("trees with a field below zero or above 32 bits, or children before their parents")
    return values.astype(np.min_scalar_type(int(values.max()) if len(values) else 0))


def _unsigned_if_whole(values: Floats) -> Array:
    whole = np.isfinite(values).all() and (values >= 0).all() and (values < 2**32).all()
    if whole and (values == np.floor(values)).all():
        return _smallest_unsigned(values.astype(np.int64))
    return np.ascontiguousarray(values)


def _stored(values: Array) -> Array:
    return np.ascontiguousarray(values) if values.dtype.kind == "f" else _smallest_unsigned(values)


def _whole(values: Array, length: int) -> Integers:
    _require(values.shape == (length,) and values.dtype.kind == "u" and values.dtype.itemsize <= 4)
    return values.astype(np.int64)


def _floats(values: Array, length: int) -> Floats:
    _require(values.shape == (length,) and values.dtype == np.float64)
    return values


def _bits(values: Array, length: int) -> Bools:
    _require(values.shape == ((length + 7) // 8,) and values.dtype == np.uint8)
    return np.unpackbits(values, count=length).astype(np.bool_)


@lru_cache(maxsize=1)
def _node_dtype() -> Any:
    dtype = Tree(1, np.array([1], dtype=np.intp), 1).__getstate__()["nodes"].dtype
    if dtype.names != _NODE_FIELDS:
        raise ValueError(f"this scikit-learn's trees have fields {dtype.names}; expected {_NODE_FIELDS}")
    return dtype


def _require(holds: Any) -> None:
    if not holds:
        raise ValueError("trees whose nodes do not fit each other")
