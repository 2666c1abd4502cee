"""The judge's state of the groups of a shard, as columns, so that a policy measures all groups at once."""

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
"""Stored in place of a missing time, in microseconds."""


@dataclass(frozen=True)
class StateColumn:
    """A column of the state: name, Arrow type, value of a new group and meaning."""

    name: str
    type: pa.DataType
    initial: Any
    doc: str


STATE_COLUMNS = (
    StateColumn("champion_id", pa.string(), "", "model_id of the champion; empty without one"),
    StateColumn("epoch", pa.int64(), 0, "the group's revision: the greatest epoch seen"),
    StateColumn("pinned", pa.bool_(), False, "pinned by a person, so machines do not refit it"),
    StateColumn("baseline", pa.float64(), np.nan, "the champion's mean loss on the rows held out when it was fitted"),
    StateColumn("attempted_at", pa.int64(), NEVER, "fleet's clock of the last attempt that did not fail, microseconds"),
    StateColumn("retry_at", pa.int64(), NEVER, "wall clock before which no attempt is made, microseconds"),
    StateColumn("rows_since", pa.int64(), 0, "mature labelled rows since then"),
    StateColumn("fitted_rows", pa.int64(), 0, "rows that the last model was fitted on, promoted or not; 0: not known"),
    StateColumn("labelled", pa.int64(), 0, "mature labelled rows seen by this state, or that an attempt reported"),
    StateColumn("champion_rows", pa.int64(), 0, "mature labelled rows answered by the champion"),
    StateColumn("recent_weight", pa.float64(), 0.0, "weight behind recent_loss, rows"),
    StateColumn("recent_loss", pa.float64(), 0.0, "exponentially weighted sum of the champion's loss"),
    StateColumn(
        "evidence",
        pa.float64(),
        0.0,
        "evidence that the champion's error has risen; 0: the sums of its test restart",
    ),
    StateColumn(
        "drift",
        pa.float64(),
        np.nan,
        "evidence that the champion's predictions have left those stored with it; 0: its test restarts",
    ),
    StateColumn("has_drifted", pa.bool_(), False, "whether drift was reported"),
    StateColumn("event_at", pa.int64(), NEVER, "time of the newest event, microseconds, by 6 hours"),
    StateColumn("labelled_at", pa.int64(), NEVER, "time of the newest event with a label, likewise"),
    StateColumn("labelled_from", pa.int64(), NEVER, "time of the oldest one, likewise"),
    StateColumn("recent_labels", pa.float64(), 0.0, "decayed count of the mature labels, as of recent_at"),
    StateColumn("recent_at", pa.int64(), NEVER, "time of the newest event in it, microseconds, rounded down"),
    StateColumn("recent_from", pa.int64(), NEVER, "time of the oldest one, likewise"),
    StateColumn("wait_rows", pa.int64(), 0, "mature rows that must come before the next attempt"),
    StateColumn("refusals", pa.int64(), 0, "refused challengers in a row"),
    StateColumn("failures", pa.int64(), 0, "failed fits in a row; beside wait_rows: attempts that found as few rows"),
    StateColumn("fit_ms", pa.float64(), np.nan, "cost of the last fit"),
    StateColumn("stale_since", pa.int64(), NEVER, "wall clock at which the group became stale, microseconds"),
    StateColumn(
        "repeats", pa.int64(), 0, "1 if the group was put forward by the same policy before and not fitted; else 0"
    ),
    StateColumn("decision", pa.string(), "", "decision of the last verdict"),
    StateColumn("policy", pa.string(), "", "policy of the last verdict"),
)
SCHEMA = pa.schema([("group_key", pa.string()), *((column.name, column.type) for column in STATE_COLUMNS)])
_DTYPES = {
    column.name: object if column.type == pa.string() else column.type.to_pandas_dtype() for column in STATE_COLUMNS
}


SHARE_SEED = 7
"""Seed of the hash that spreads deadlines. Not the shards' seed, so that every shard has early and late groups."""


COMPRESSION = "lz4"
"""Spark passes the state of each shard with new rows to its worker and back at every tick, byte by byte, and stores it.
Most values of most columns are equal, so lz4 reduces the 240 kB of 800 groups to 58 kB. zstd reduces them to 36 kB, but
takes 1.1 ms to encode and decode instead of 0.2 ms; a fleet's state has 320 shards.
"""


class GroupStates:
    """The state of some groups: STATE_COLUMNS, one row per group.

    `groups["baseline"]` is an array of shape (len(groups),); writing into it changes the state. Sealed groups keep
    their encoded bytes and are read-only: change a `copy`, or replace columns by `update`.
    """

    def __init__(self, keys: list[str], columns: dict[str, npt.NDArray[Any]]) -> None:
        self.keys = keys
        self._columns = columns
        self._positions: dict[str, int] | None = None
        self._shares: npt.NDArray[np.float64] | None = None
        self._are_parents: npt.NDArray[np.bool_] | None = None
        self._blob: bytes | None = None

    @classmethod
    def empty(cls) -> GroupStates:
        """Return states of no groups."""
        return cls([], {name: np.empty(0, dtype) for name, dtype in _DTYPES.items()})

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, which STATE_COLUMNS explains."""
        return tuple(self._columns)

    def positions_of(self, keys: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return the positions of these groups. Unknown groups are added at the end, with initial values."""
        wanted = list(keys)
        if self._positions is None:
            self._positions = {key: i for i, key in enumerate(self.keys)}
        positions = self._positions
        new = [key for key in dict.fromkeys(wanted) if key not in positions]
        if new:
            for key in new:
                positions[key] = len(self.keys)
                self.keys.append(key)
            for column in STATE_COLUMNS:
                start = np.full(len(new), column.initial, dtype=_DTYPES[column.name])
                self._columns[column.name] = np.concatenate([self._columns[column.name], start])
            self._shares = self._are_parents = self._blob = None
        return np.fromiter((positions[key] for key in wanted), dtype=np.int64, count=len(wanted))

    def copy(self) -> GroupStates:
        """Return a copy that can be written into."""
        copied = GroupStates(list(self.keys), {name: column.copy() for name, column in self._columns.items()})
        copied._shares, copied._are_parents = self._shares, self._are_parents  # never written into
        return copied

    def update(self, **columns: npt.NDArray[Any]) -> None:
        """Replace columns. If no value changes, the bytes of sealed groups stay valid."""
        for name, column in columns.items():
            if not np.array_equal(self._columns[name], column):
                self._columns[name] = column
                self._blob = None

    @property
    def are_parents(self) -> npt.NDArray[np.bool_]:
        """For each group, whether it is a parent."""
        if self._are_parents is None:
            are_parents = (key.startswith("{") for key in self.keys)
            self._are_parents = np.fromiter(are_parents, dtype=np.bool_, count=len(self.keys))
        return self._are_parents

    @property
    def key_shares(self) -> npt.NDArray[np.float64]:
        """For each group a fixed number in [0, 1), evenly spread: a hash of its key."""
        if self._shares is None:
            digests = [xxhash.xxh64_intdigest(key.encode(), SHARE_SEED) for key in self.keys]
            self._shares = (np.array(digests, dtype=np.uint64) >> np.uint64(11)) / 2.0**53
        return self._shares

    @property
    def has_due(self) -> bool:
        """Whether any group was due at the last verdict."""
        return bool((self._columns["decision"] == Staleness.FIT).any())

    def to_bytes(self) -> bytes:
        """Encode as one Arrow batch; sealed groups return the bytes they keep."""
        if self._blob is not None:
            return self._blob
        arrays = [pa.array(self.keys, pa.string())]
        arrays += [pa.array(self._columns[column.name], column.type) for column in STATE_COLUMNS]
        return encode_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA), compression=COMPRESSION)

    def sealed(self, blob: bytes | None = None) -> GroupStates:
        """Keep the encoded bytes, make the columns read-only, and return these groups.

        blob: the bytes that they were decoded from, if any.
        """
        self._blob = blob or self.to_bytes()
        for column in self._columns.values():
            column.flags.writeable = False
        return self

    @classmethod
    def from_bytes(cls, blob: bytes | memoryview) -> GroupStates:
        """Decode the result of `to_bytes`. Raises Corrupt for other bytes."""
        batch = decode_batch(blob, SCHEMA)
        columns: dict[str, npt.NDArray[Any]] = {}
        for column in STATE_COLUMNS:
            columns[column.name] = np.array(batch.column(column.name).to_numpy(zero_copy_only=False))
        return cls(batch.column("group_key").to_pylist(), columns)
