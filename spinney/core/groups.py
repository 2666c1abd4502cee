"""What is known of each group of a shard, as columns: a policy looks at all groups at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spinney.core.blobs import ipc_batch, ipc_bytes

NEVER = -(2**62)
"""A time that has not come, in microseconds."""


@dataclass(frozen=True)
class Known:
    """One thing known of a group: its name, its Arrow type and what a group starts with."""

    name: str
    type: pa.DataType
    start: Any
    doc: str


KNOWN = (
    Known("champion_id", pa.string(), "", "model_id of the champion; empty without one"),
    Known("epoch", pa.int64(), 0, "the greatest epoch seen"),
    Known("pinned", pa.bool_(), False, "machines leave it alone"),
    Known("baseline", pa.float64(), np.nan, "the champion's mean loss on the rows held out when it was fitted"),
    Known("attempted_at", pa.int64(), NEVER, "fleet's clock of the last attempt that settled something, microseconds"),
    Known("retry_at", pa.int64(), NEVER, "wall clock before which a failed group is left alone, microseconds"),
    Known("rows_since", pa.int64(), 0, "mature labelled rows since then"),
    Known("labelled", pa.int64(), 0, "mature labelled rows seen by this state, or that an attempt reported"),
    Known("champion_rows", pa.int64(), 0, "mature labelled rows answered by the champion"),
    Known("recent_weight", pa.float64(), 0.0, "weight behind recent_loss, rows"),
    Known("recent_loss", pa.float64(), 0.0, "exponentially weighted sum of the champion's loss"),
    Known("wait_rows", pa.int64(), 0, "mature rows that must come before the next attempt"),
    Known("refusals", pa.int64(), 0, "refused challengers in a row"),
    Known("failures", pa.int64(), 0, "failed fits in a row"),
    Known("fit_ms", pa.float64(), np.nan, "cost of the last fit"),
    Known("stale_since", pa.int64(), NEVER, "wall clock at which it was first found stale, microseconds"),
    Known("repeats", pa.int64(), 0, "times it was put forward by the same policy, unanswered"),
    Known("decision", pa.string(), "", "the last verdict's decision"),
    Known("policy", pa.string(), "", "and its policy"),
)
_SCHEMA = pa.schema([("group_key", pa.string()), *((known.name, known.type) for known in KNOWN)])
_DTYPES = {known.name: object if known.type == pa.string() else known.type.to_pandas_dtype() for known in KNOWN}


class Groups:
    """Columns of equal length, one row per group, and where each group stands.

    `groups["baseline"]` is an array of shape (len(groups),); writing into it changes the state.
    """

    def __init__(self, keys: list[str], columns: dict[str, npt.NDArray[Any]]) -> None:
        self.keys = keys
        self._columns = columns
        self._at = {key: i for i, key in enumerate(keys)}

    @classmethod
    def empty(cls) -> Groups:
        return cls([], {name: np.empty(0, dtype) for name, dtype in _DTYPES.items()})

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name]

    def rows_of(self, keys: Iterable[str]) -> npt.NDArray[np.int64]:
        """Where these groups stand; unknown ones are added at the end."""
        wanted = list(keys)
        new = [key for key in dict.fromkeys(wanted) if key not in self._at]
        if new:
            for key in new:
                self._at[key] = len(self.keys)
                self.keys.append(key)
            for known in KNOWN:
                start = np.full(len(new), known.start, dtype=_DTYPES[known.name])
                self._columns[known.name] = np.concatenate([self._columns[known.name], start])
        return np.fromiter((self._at[key] for key in wanted), dtype=np.int64, count=len(wanted))

    def copy(self) -> Groups:
        return Groups(list(self.keys), {name: column.copy() for name, column in self._columns.items()})

    @property
    def are_parents(self) -> npt.NDArray[np.bool_]:
        return np.fromiter((key.startswith("{") for key in self.keys), dtype=np.bool_, count=len(self.keys))

    def to_bytes(self) -> bytes:
        arrays = [pa.array(self.keys, pa.string())]
        arrays += [pa.array(self._columns[known.name], known.type) for known in KNOWN]
        return ipc_bytes(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))

    @classmethod
    def from_bytes(cls, blob: bytes | memoryview) -> Groups:
        """Raises Corrupt when these are not the bytes of groups with all of KNOWN."""
        batch = ipc_batch(blob, _SCHEMA)
        columns: dict[str, npt.NDArray[Any]] = {}
        for known in KNOWN:
            column = batch.column(known.name)
            if known.type == pa.string():
                columns[known.name] = np.array(column.to_pylist(), dtype=object)
            else:
                columns[known.name] = np.array(column.to_numpy(zero_copy_only=False))
        return cls(batch.column("group_key").to_pylist(), columns)
