"""Describe a fitted estimator in the format of `arrays_codec`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn._loss import _loss
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree
from sklearn.utils import Bunch

from spinney.core.models.arrays import packed_trees, tree_checks
from spinney.core.models.arrays.allowed_classes import COMPILED_LOSSES, name_of
from spinney.core.models.arrays.array_types import PLAIN, TYPES, require_supported
from spinney.core.models.arrays.packed_trees import InexpressibleError

Node = Any
Array = npt.NDArray[Any]


class Writer:
    """Writes the description of one estimator and collects its arrays in `table` and `buffers`."""

    def __init__(self) -> None:
        self.table: list[list[Any]] = []
        self.buffers: list[bytes] = []
        self._shared: dict[int, tuple[int, Any]] = {}
        self._kinds: dict[type, Callable[[Any], Node]] = {
            np.ndarray: self._array,
            tuple: lambda value: ["tuple", self._items(list(value))],
            list: lambda value: ["list", self._items(value)],
            dict: lambda value: ["dict", *self._pairs(value)],
            Bunch: lambda value: ["bunch", *self._pairs(value)],
            slice: lambda value: ["slice", *map(self.node, (value.start, value.stop, value.step))],
            type: _type_name,
            Tree: lambda value: ["first", self._items([value])],
            TreePredictor: lambda value: ["first", self._items([value])],
            np.random.RandomState: self._random,
            np.random.Generator: self._random,
        }

    def put(self, array: Array) -> int:
        """Store an array and return its number."""
        require_supported(array.dtype)
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        self.table.append([array.dtype.str, list(array.shape), "F" if fortran else "C"])
        self.buffers.append(array.tobytes(order="F" if fortran else "C"))
        return len(self.table) - 1

    def node(self, value: Any) -> Node:
        """Return the description of one value. Raises InexpressibleError."""
        kind = type(value)
        if value is None or kind in PLAIN:
            return value
        write = self._kinds.get(kind)
        if write is not None:
            return write(value)
        if isinstance(value, np.generic):
            return ["scalar", self.put(np.asarray(value))]
        if isinstance(value, np.dtype):
            return ["dtype", require_supported(value).str]
        if kind.__name__ in COMPILED_LOSSES and kind is getattr(_loss, kind.__name__, None):
            made, arguments = value.__reduce__()[:2]
            return ["loss", kind.__name__, *(arguments if made is kind else ())]  # the others have no state
        name = name_of(kind)
        if name is None:
            raise InexpressibleError(f"an object of {kind.__module__}.{kind.__qualname__}")
        tree_checks.check(value)
        return ["object", name, {attribute: self.node(held) for attribute, held in vars(value).items()}]

    def _array(self, array: Array) -> Node:
        if array.dtype != object:
            return ["array", self.put(array)]
        return ["of objects", list(array.shape), self._items(array.ravel().tolist())]

    def _pairs(self, held: dict[Any, Any]) -> list[Node]:
        return [self._items(list(held)), self._items(list(held.values()))]

    def _random(self, source: Any) -> Node:
        """The description of a random state. It is written once, where it first occurs: many trees may share it."""
        known = self._shared.get(id(source))
        if known is not None:
            return ["again", known[0]]
        self._shared[id(source)] = (len(self._shared), source)
        if type(source) is np.random.Generator:
            state = source.bit_generator.state
            if type(source.bit_generator) is not np.random.PCG64:
                raise InexpressibleError(f"a generator of {state['bit_generator']}")
            numbers = state["state"]
            return ["generator", numbers["state"], numbers["inc"], state["has_uint32"], state["uinteger"]]
        name, keys, position, has_gauss, cached = source.get_state(legacy=True)
        if name != "MT19937":
            raise InexpressibleError(f"a random state of {name}")
        return ["random state", self.put(keys), int(position), int(has_gauss), float(cached)]

    def _items(self, values: list[Any]) -> Node:
        """The description of a list, by column if its values have the same type."""
        kinds = {type(value) for value in values}
        kind = next(iter(kinds)) if len(kinds) == 1 else None
        if kind is Tree:
            return ["trees", *packed_trees.pack_trees(values, self.put)]
        if kind is TreePredictor:
            return ["predictors", *packed_trees.pack_predictors(values, self.put)]
        if kind is not None and len(values) > 1:
            alike = self._alike(kind, values)
            if alike is not None:
                return alike
        return ["items", *map(self.node, values)]

    def _alike(self, kind: type, values: list[Any]) -> Node | None:
        first = values[0]
        if kind is np.ndarray:
            form = first.dtype, first.shape
            stacks = first.ndim and all((value.dtype, value.shape) == form for value in values)
            return ["stack", self.put(np.stack(values))] if stacks and _is_plain(values) else None
        if kind is list and len(first) and len({len(value) for value in values}) == 1:
            return ["nested", len(first), self._items([item for value in values for item in value])]
        name = name_of(kind)
        if name is None or any(list(vars(value)) != list(vars(first)) for value in values):
            return None
        for value in values:
            tree_checks.check(value)
        columns = {attribute: self._column([vars(value)[attribute] for value in values]) for attribute in vars(first)}
        return ["objects", name, len(values), columns]

    def _column(self, values: list[Any]) -> Node:
        return ["same", self.node(values[0])] if _all_same(values) else ["each", self._items(values)]


def _type_name(kind: type) -> Node:
    for name, known in TYPES.items():
        if kind is known:
            return ["type", name]
    raise InexpressibleError(f"the type {kind.__qualname__}")


def _is_plain(arrays: Sequence[Array]) -> bool:
    """Whether a stack of these arrays can be stored and restored with the same layout."""
    return arrays[0].dtype != object and all(array.flags.c_contiguous for array in arrays)


def _all_same(values: Sequence[Any]) -> bool:
    first = values[0]
    if all(value is first for value in values):
        return True
    kind = type(first)
    if kind not in PLAIN and not isinstance(first, np.number):
        return False
    # By their text: 0.0 and -0.0 differ, NaN does not differ from itself.
    text = repr(first)
    return all(type(value) is kind and repr(value) == text for value in values)
