"""What is known of each group of a shard, as columns: a policy looks at all groups at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from schemas.vocabulary import Staleness
from spinney.core.state_codec import decode_batch, encode_batch

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
    Known("retry_at", pa.int64(), NEVER, "wall clock before which a group without a fit is left alone, microseconds"),
    Known("rows_since", pa.int64(), 0, "mature labelled rows since then"),
    Known("labelled", pa.int64(), 0, "mature labelled rows seen by this state, or that an attempt reported"),
    Known("champion_rows", pa.int64(), 0, "mature labelled rows answered by the champion"),
    Known("recent_weight", pa.float64(), 0.0, "weight behind recent_loss, rows"),
    Known("recent_loss", pa.float64(), 0.0, "exponentially weighted sum of the champion's loss"),
    Known("wait_rows", pa.int64(), 0, "mature rows that must come before the next attempt"),
    Known("refusals", pa.int64(), 0, "refused challengers in a row"),
    Known("failures", pa.int64(), 0, "failed fits in a row; beside wait_rows: attempts that found as few rows"),
    Known("fit_ms", pa.float64(), np.nan, "cost of the last fit"),
    Known("stale_since", pa.int64(), NEVER, "wall clock at which it was first found stale, microseconds"),
    Known("repeats", pa.int64(), 0, "1 once it was put forward by the same policy before, unanswered; else 0"),
    Known("decision", pa.string(), "", "the last verdict's decision"),
    Known("policy", pa.string(), "", "and its policy"),
)
_SCHEMA = pa.schema([("group_key", pa.string()), *((known.name, known.type) for known in KNOWN)])
_DTYPES = {known.name: object if known.type == pa.string() else known.type.to_pandas_dtype() for known in KNOWN}


SHARE_SEED = 7
"""Of the hash that spreads deadlines: another one than the shard's, so that every shard has early and late groups."""


class Groups:
    """Columns of equal length, one row per group, and where each group stands.

    `groups["baseline"]` is an array of shape (len(groups),); writing into it changes the state. Groups that are
    `sealed` remember their bytes and refuse to be written into; `copy` and `mark` are how those change.
    """

    def __init__(self, keys: list[str], columns: dict[str, npt.NDArray[Any]]) -> None:
        self.keys = keys
        self._columns = columns
        self._places: dict[str, int] | None = None
        self._shares: npt.NDArray[np.float64] | None = None
        self._are_parents: npt.NDArray[np.bool_] | None = None
        self._blob: bytes | None = None

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
        if self._places is None:
            self._places = {key: i for i, key in enumerate(self.keys)}
        places = self._places
        new = [key for key in dict.fromkeys(wanted) if key not in places]
        if new:
            for key in new:
                places[key] = len(self.keys)
                self.keys.append(key)
            for known in KNOWN:
                start = np.full(len(new), known.start, dtype=_DTYPES[known.name])
                self._columns[known.name] = np.concatenate([self._columns[known.name], start])
            self._shares = self._are_parents = self._blob = None
        return np.fromiter((places[key] for key in wanted), dtype=np.int64, count=len(wanted))

    def copy(self) -> Groups:
        """The same groups, to be written into."""
        copied = Groups(list(self.keys), {name: column.copy() for name, column in self._columns.items()})
        copied._shares, copied._are_parents = self._shares, self._are_parents  # never written into
        return copied

    def mark(self, **columns: npt.NDArray[Any]) -> None:
        """Replace columns. Those that hold the same values already are left, and so are the bytes of sealed groups."""
        for name, column in columns.items():
            if not np.array_equal(self._columns[name], column):
                self._columns[name] = column
                self._blob = None

    @property
    def are_parents(self) -> npt.NDArray[np.bool_]:
        if self._are_parents is None:
            are_parents = (key.startswith("{") for key in self.keys)
            self._are_parents = np.fromiter(are_parents, dtype=np.bool_, count=len(self.keys))
        return self._are_parents

    @property
    def key_shares(self) -> npt.NDArray[np.float64]:
        """A number from 0 to below 1 for each group, by the hash of its key: evenly spread, and always the same."""
        if self._shares is None:
            digests = (xxhash.xxh64_intdigest(key.encode(), seed=SHARE_SEED) >> 11 for key in self.keys)
            self._shares = np.fromiter(digests, dtype=np.float64, count=len(self.keys)) / 2.0**53
        return self._shares

    @property
    def any_due(self) -> bool:
        """Whether a group was put forward to be fitted when the groups were judged last."""
        return bool((self._columns["decision"] == Staleness.FIT).any())

    def to_bytes(self) -> bytes:
        if self._blob is not None:
            return self._blob
        arrays = [pa.array(self.keys, pa.string())]
        arrays += [pa.array(self._columns[known.name], known.type) for known in KNOWN]
        return encode_batch(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))

    def sealed(self, blob: bytes | None = None) -> Groups:
        """These groups, which from now on remember their bytes and cannot be written into in place.

        blob: the bytes that they were read from.
        """
        self._blob = blob or self.to_bytes()
        for column in self._columns.values():
            column.flags.writeable = False
        return self

    @classmethod
    def from_bytes(cls, blob: bytes | memoryview) -> Groups:
        """Raises Corrupt when these are not the bytes of groups with all of KNOWN."""
        batch = decode_batch(blob, _SCHEMA)
        columns: dict[str, npt.NDArray[Any]] = {}
        for known in KNOWN:
            columns[known.name] = np.array(batch.column(known.name).to_numpy(zero_copy_only=False))
        return cls(batch.column("group_key").to_pylist(), columns)
