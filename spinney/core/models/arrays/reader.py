"""Rebuild an estimator from its description. Nothing that the bytes name is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn._loss import _loss
from sklearn.utils import Bunch

from spinney.core.models.arrays import packed_trees, tree_checks
from spinney.core.models.arrays.allowed_classes import COMPILED_LOSSES, class_named
from spinney.core.models.arrays.array_types import PLAIN, TYPES, n_values, require_supported

MAX_OBJECTS = 1 << 20
"""Most objects of one payload."""

Node = Any
Array = npt.NDArray[Any]


Place = tuple[np.dtype[Any], tuple[int, ...], str, int]
"""Type, shape, order ("C" or "F") and first byte of an array."""


def _array_places(table: Sequence[Any], start: int, end: int) -> list[Place | None]:
    """Return where each array of the table lies. Raises ValueError: they do not fill the bytes from start to end."""
    places: list[Place | None] = []
    for text, shape, order in table:
        dtype = require_supported(np.dtype(text))
        sizes = tuple(map(int, shape))
        if any(not 0 <= size < 2**31 for size in sizes) or order not in ("C", "F"):
            raise ValueError(f"an array of shape {sizes}")
        places.append((dtype, sizes, order, start))
        start += dtype.itemsize * n_values(sizes)
    if start != end:
        raise ValueError(f"{end} bytes where {start} are described")
    return places


class Reader:
    """Rebuilds the objects of a description. May raise any exception for one that `Writer` did not make."""

    def __init__(self, table: Sequence[Any], raw: Any, start: int) -> None:
        self._raw = raw
        self._places = _array_places(table, start, len(raw))
        self._objects_left = MAX_OBJECTS
        self._shared: list[Any] = []
        self._tags: dict[str, Callable[..., Any]] = {
            "object": self._object,
            "objects": self._objects,
            "array": self._take,
            "scalar": lambda at: self._take(at)[()],
            "tuple": lambda node: tuple(self._list(node)),
            "list": self._list,
            "dict": lambda keys, values: dict(zip(self._list(keys), self._list(values), strict=True)),
            "bunch": lambda keys, values: Bunch(**dict(zip(self._list(keys), self._list(values), strict=True))),
            "slice": lambda *bounds: slice(*map(self.value, bounds)),
            "first": lambda node: self._list(node)[0],
            "of objects": self._of_objects,
            "type": lambda name: TYPES[name],
            "dtype": lambda text: require_supported(np.dtype(text)),
            "loss": _compiled_loss,
            "again": lambda at: self._shared[at],
            "random state": self._random_state,
            "generator": self._generator,
        }
        self._lists: dict[str, Callable[..., list[Any]]] = {
            "items": lambda *nodes: [self.value(node) for node in nodes],
            "stack": lambda at: [array.copy() for array in self._count_objects(self._take(at))],
            "nested": self._nested,
            "objects": self._objects,
            "trees": lambda *stored: self._count_objects(packed_trees.unpack_trees(stored, self._take)),
            "predictors": lambda *stored: self._count_objects(packed_trees.unpack_predictors(stored, self._take)),
        }

    def value(self, node: Node) -> Any:
        """Return the object that a node of the description describes."""
        if node is None or type(node) in PLAIN:
            return node
        tag, *rest = node
        return self._tags[tag](*rest)

    def end(self) -> None:
        """Check that every array was used. Raises ValueError."""
        if any(place is not None for place in self._places):
            raise ValueError("arrays that nothing names")

    def _list(self, node: Node) -> list[Any]:
        tag, *rest = node
        return self._lists[tag](*rest)

    def _count_objects(self, values: Any) -> Any:
        self._objects_left -= len(values)
        if self._objects_left < 0:
            raise ValueError(f"more than {MAX_OBJECTS} objects")
        return values

    def _take(self, at: object) -> Array:
        """Copy an array, each only once: a copy is writable and does not keep the payload alive."""
        if type(at) is not int or not 0 <= at < len(self._places):
            raise ValueError(f"no array {at!r}")
        place = self._places[at]
        if place is None:
            raise ValueError(f"array {at} twice")
        self._places[at] = None
        dtype, shape, order, start = place
        flat = np.frombuffer(self._raw, dtype=np.uint8, offset=start, count=dtype.itemsize * n_values(shape))
        if dtype.kind == "b" and flat.size and flat.max() > 1:
            raise ValueError("truth values other than 0 and 1")
        values = np.empty(n_values(shape), dtype=dtype)
        values.view(np.uint8)[:] = flat
        return values.reshape(shape, order="F" if order == "F" else "C")

    def _object(self, name: str, held: Mapping[str, Node]) -> Any:
        return self._build(name, {attribute: self.value(node) for attribute, node in held.items()})

    def _objects(self, name: str, count: int, columns: Mapping[str, Node]) -> list[Any]:
        self._count_objects(range(count))
        held = []
        for how, node in columns.values():
            values = [self.value(node)] * count if how == "same" else self._list(node)
            if how not in ("same", "each") or len(values) != count:
                raise ValueError(f"a column of {len(values)} values for {count} objects")
            held.append(values)
        rows = zip(*held, strict=True) if held else [()] * count
        return [self._build(name, dict(zip(columns, row, strict=True))) for row in rows]

    def _build(self, name: str, state: dict[str, Any]) -> Any:
        kind = class_named(name)
        made: Any = object.__new__(kind)
        vars(made).update(state)
        tree_checks.check(made)
        return made

    def _nested(self, width: int, node: Node) -> list[Any]:
        flat = self._list(node)
        if width < 1 or len(flat) % width:
            raise ValueError(f"{len(flat)} values in lists of {width}")
        return [flat[at : at + width] for at in range(0, len(flat), width)]

    def _of_objects(self, shape: Sequence[int], node: Node) -> Array:
        values = self._list(node)
        array = np.empty(len(values), dtype=object)
        for at, value in enumerate(values):  # one by one: NumPy would nest lists and arrays
            array[at] = value
        return array.reshape(tuple(map(int, shape)))

    def _random_state(self, keys: int, position: int, has_gauss: int, cached: float) -> Any:
        state = np.random.RandomState(0)
        if not 0 <= position <= 624:
            raise ValueError(f"a random state at {position}")
        state.set_state(("MT19937", self._take(keys), position, has_gauss, cached))
        self._shared.append(state)
        return state

    def _generator(self, state: int, inc: int, has_uint32: int, uinteger: int) -> Any:
        bits = np.random.PCG64(0)
        numbers: Any = {"state": state, "inc": inc}
        bits.state = {"bit_generator": "PCG64", "state": numbers, "has_uint32": has_uint32, "uinteger": uinteger}
        self._shared.append(np.random.Generator(bits))
        return self._shared[-1]


def _compiled_loss(name: str, *arguments: float) -> Any:
    if name not in COMPILED_LOSSES or len(arguments) > 1 or not all(type(argument) is float for argument in arguments):
        raise ValueError(f"a loss {name[:100]!r} of {len(arguments)} arguments")
    return getattr(_loss, name)(*arguments)
