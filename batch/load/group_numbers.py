"""Number the groups of a load, so that each key is encoded and hashed only once."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.messages import MAX_ID_CHARACTERS
from spinney.core import keys
from spinney.core.errors import ContractError
from spinney.core.records.control_characters import has_control_character

Numbers = npt.NDArray[np.int64]

INVALID = -1
"""Number of a key that may be invalid."""


class GroupNumbers:
    """The distinct groups in order of appearance: number → group_key, shard, values of the key columns.

    types: Arrow types of the key columns. Memory grows with the number of groups, not of rows.
    """

    def __init__(self, types: Sequence[pa.DataType], shards: int) -> None:
        self.types = tuple(types)
        self.shard_count = shards
        self._number_of: dict[Any, int] = {}
        self._values: list[Any] = []
        self._keys: list[str] = []
        self._shard_of = array("i")

    def __len__(self) -> int:
        return len(self._keys)

    def numbers(self, columns: Sequence[pa.Array]) -> Numbers:
        """Return the number of each row's group, shape (rows,); INVALID if a key is null, empty, too long or has a
        control character. columns: the key columns as declared, each of shape (rows,).
        """
        encoded = [column.dictionary_encode() for column in columns]
        codes = [np.asarray(column.indices.fill_null(len(column.dictionary)), dtype=np.int64) for column in encoded]
        texts = [[*column.dictionary.to_pylist(), None] for column in encoded]
        if len(columns) == 1:
            return self._of(texts[0])[codes[0]]
        combined = codes[0]
        for code, values in zip(codes[1:], texts[1:], strict=True):
            # Renumbered after each column: the product of all the columns' sizes may not fit into 64 bits.
            combined = _renumbered(combined * len(values) + code)
        first = _first_rows(combined)
        parts = [[values[n] for n in code[first].tolist()] for code, values in zip(codes, texts, strict=True)]
        return self._of(list(zip(*parts, strict=True)))[combined]

    def _of(self, keys_: Sequence[Any]) -> Numbers:
        found = list(map(self._number_of.get, keys_))
        for at, number in enumerate(found):
            if number is None:
                found[at] = self._new(keys_[at])
        return np.array(found, dtype=np.int64)

    def _new(self, values: Any) -> int:
        parts = values if isinstance(values, tuple) else (values,)
        if any(part is None or (isinstance(part, str) and not _is_valid_text(part)) for part in parts):
            return INVALID
        number = self._number_of[values] = len(self._keys)
        key = keys.encode(parts)
        self._values.append(values)
        self._keys.append(key)
        self._shard_of.append(keys.shard_of(key, self.shard_count))
        return number

    def numbers_of_valid(self, columns: Sequence[pa.Array]) -> Numbers:
        """Return the numbers of rows that are known to be valid. Raises ContractError for an invalid key."""
        numbers = self.numbers(columns)
        if (numbers == INVALID).any():
            raise ContractError("load: expected the keys of valid rows; got one that is null, empty or too long")
        return numbers

    def shards(self) -> npt.NDArray[np.int32]:
        """Return the shard of each group by its number."""
        return np.array(self._shard_of, dtype=np.int32)  # a copy of its buffer, not number by number

    def keys(self) -> pa.Array:
        """Return the group_key of each group by its number."""
        return pa.array(self._keys, pa.string())

    def columns(self) -> list[pa.Array]:
        """Return the key columns, each by the group's number."""
        if len(self.types) == 1:
            return [pa.array(self._values, self.types[0])]
        return [pa.array([values[at] for values in self._values], kind) for at, kind in enumerate(self.types)]

    def ranks(self) -> Numbers:
        """Return the position of each group, by its number, in the order of (shard, group_key)."""
        table = pa.table({"shard": self.shards(), "group_key": self.keys()})
        places = np.asarray(pc.sort_indices(table, [("shard", "ascending"), ("group_key", "ascending")]))
        ranks = np.empty(len(places), dtype=np.int64)
        ranks[places] = np.arange(len(places))
        return ranks


def _renumbered(codes: Numbers) -> Numbers:
    """Return the codes renumbered as 0, 1, 2... in order of appearance. Hashing is faster here than numpy's sort."""
    return np.asarray(pa.array(codes).dictionary_encode().indices, dtype=np.int64)


def _first_rows(numbers: Numbers) -> Numbers:
    """Return the position of the first row of each number. The numbers have no gaps."""
    first = np.zeros(int(numbers.max(initial=-1)) + 1, dtype=np.int64)
    first[numbers[::-1]] = np.arange(len(numbers))[::-1]
    return first


def _is_valid_text(text: str) -> bool:
    return 0 < len(text) <= MAX_ID_CHARACTERS and not has_control_character(text)
