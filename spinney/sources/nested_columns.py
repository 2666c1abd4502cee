"""Find a field in typed columns by its name, as `find_field` finds it in an object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
from pyarrow import types

from spinney.core.records.field_paths import split_name
from spinney.sources.python_values import is_object_map

Path = tuple[str, ...]
"""The name of a column, then the names of the fields inside it."""


def paths_to(columns: Mapping[str, pa.DataType], name: str, *, has_objects: bool = True) -> Iterator[Path]:
    """Yield the paths at which rows may have the field of this name, in the order in which `find_field` looks.

    In a map every key may exist. has_objects: whether keys count in maps of objects or maps, which no column can read.
    """
    if name in columns:
        yield (name,)
    for outer, inner in split_name(name):
        if outer in columns:
            yield from ((outer, *path) for path in _paths_inside(columns[outer], inner, has_objects=has_objects))


def _paths_inside(kind: pa.DataType, name: str, *, has_objects: bool) -> Iterator[Path]:
    if types.is_struct(kind):
        yield from paths_to({field.name: field.type for field in kind}, name, has_objects=has_objects)
    elif is_object_map(kind):
        if has_objects or not types.is_nested(kind.item_type):
            yield (name,)
        for outer, inner in split_name(name):
            inside = _paths_inside(kind.item_type, inner, has_objects=has_objects)
            yield from ((outer, *path) for path in inside)
