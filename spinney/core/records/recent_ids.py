"""The ids of recent records, by which a copy of a record is recognised.

An id is known by 96 bits of its hash, 12 bytes of memory. Two of ten million remembered ids share them with a chance of
10⁻¹⁵, so no record is taken for a copy of another one.

Ids are kept by the time of their arrival, in slots of a sixteenth of the time for which they are remembered. A slot is
forgotten as a whole. Within it they stand in few sorted runs, of which equally large ones are merged, as in a
log-structured merge tree (O'Neil et al. 1996): adding ids costs a logarithmic number of merges, and looking them up one
binary search a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from spinney.core.timestamps import to_microseconds

SLOTS = 16
"""Slots in the time for which ids are remembered. An id is forgotten up to one slot later."""

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer[Any]]
Places = npt.NDArray[np.int64]

_SEPARATOR = b"\0"
"""No JSON text has it, so no two pairs of a key and an id are joined to the same bytes."""
_AT_ONCE = 65_536
"""Ids that are hashed as Python objects, of about a hundred bytes each, at a time."""

_LAYOUT = np.dtype([("key", "<u8"), ("check", "<u4"), ("rest", "<u4")])


@dataclass(frozen=True)
class IdHashes:
    """Hashes of ids, one after the other: XXH3 of 128 bits, of which 96 are kept.

    keys: shape (n,). checks: of the same shape, further bits.
    """

    keys: npt.NDArray[np.uint64]
    checks: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, group_keys: pa.Array | pa.ChunkedArray, event_ids: pa.Array | pa.ChunkedArray) -> IdHashes:
        """Return the hashes of records. group_keys, event_ids: texts without nulls, shape (n,)."""
        texts = (column.cast(pa.large_binary()) for column in (group_keys, event_ids))
        joined = pc.binary_join_element_wise(*texts, pa.scalar(_SEPARATOR, pa.large_binary()))
        parts = (joined.slice(at, _AT_ONCE).to_pylist() for at in range(0, len(joined), _AT_ONCE))
        return cls.from_bytes(b"".join(map(xxhash.xxh3_128_digest, chain.from_iterable(parts))))

    @classmethod
    def from_bytes(cls, blob: bytes) -> IdHashes:
        """Return the hashes in `blob`: the result of `to_bytes`, or digests of 16 bytes each, one after the other."""
        found = np.frombuffer(blob, _LAYOUT)
        return cls(np.ascontiguousarray(found["key"]), np.ascontiguousarray(found["check"]))

    def to_bytes(self) -> bytes:
        """Encode in 16 bytes per hash, so that the results of several tasks can be concatenated."""
        found = np.zeros(len(self), _LAYOUT)
        found["key"], found["check"] = self.keys, self.checks
        return found.tobytes()

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, at: npt.NDArray[np.int64] | Mask) -> IdHashes:
        """Return the hashes at these positions, or where a mask is true."""
        return IdHashes(self.keys[at], self.checks[at])

    def sorted(self) -> IdHashes:
        """Return the hashes in ascending order of their keys."""
        return self.take(np.argsort(self.keys, kind="stable"))  # which merges sorted runs in linear time

    def first_of_each(self) -> Mask:
        """Return whether each hash is the first of those equal to it, shape (n,)."""
        order = np.lexsort((np.arange(len(self)), self.checks, self.keys))
        in_order = self.take(order)
        is_first = np.ones(len(self), dtype=bool)
        is_repeated = (np.diff(in_order.keys) == 0) & (np.diff(in_order.checks) == 0)
        is_first[order[1:][is_repeated]] = False
        return is_first

    def among(self, run: IdHashes) -> Mask:
        """Return whether each hash is in a sorted run, shape (n,)."""
        is_there = np.zeros(len(self), dtype=bool)
        is_there[self.equal_in(run)[0]] = True
        return is_there

    def equal_in(self, run: IdHashes) -> tuple[Places, Places]:
        """Return the pairs of a hash and an equal one in a sorted run, as their places, each of shape (pairs,)."""
        wanted, at = np.arange(len(self)), np.searchsorted(run.keys, self.keys)
        found: list[tuple[Places, Places]] = []
        while len(wanted):
            in_run = at < len(run)
            wanted, at = wanted[in_run], at[in_run]
            same_key = run.keys[at] == self.keys[wanted]
            wanted, at = wanted[same_key], at[same_key]
            same = run.checks[at] == self.checks[wanted]
            found.append((wanted[same], at[same]))
            at = at + 1  # the same id again, or another id with the same key
        return (_joined([pair[0] for pair in found]), _joined([pair[1] for pair in found]))


def _joined(places: Sequence[Places]) -> Places:
    return np.concatenate([np.empty(0, np.int64), *places])


def join_hashes(parts: Sequence[IdHashes]) -> IdHashes:
    """Return the hashes of all parts, one part after the other. parts: at least one."""
    return IdHashes(np.concatenate([part.keys for part in parts]), np.concatenate([part.checks for part in parts]))


def ask_in_order(are_new: Callable[[IdHashes], Mask], ids: IdHashes, partitions: Ints, offsets: Ints) -> Mask:
    """Return which records are new, shape (n,).

    are_new: called once with all ids in the order of the records in Kafka; the result is in the order of `ids`.
    """
    order = np.lexsort((offsets, partitions))
    is_new = np.empty(len(ids), dtype=bool)
    is_new[order] = are_new(ids.take(order))
    return is_new


class RecentIds:
    """Ids with the time of their arrival, which are remembered for some time."""

    def __init__(self, remembered: timedelta) -> None:
        """Remember ids for at least this time. There are no ids at first."""
        self._remembered_us = remembered // timedelta(microseconds=1)
        self._slot_us = max(self._remembered_us // SLOTS, 1)
        self._slots: dict[int, list[IdHashes]] = {}

    def __len__(self) -> int:
        return sum(len(run) for run in chain.from_iterable(self._slots.values()))

    def oldest(self, now: datetime) -> datetime:
        """Return the earliest time at which an id may have arrived if it is still remembered at `now`."""
        return now - timedelta(microseconds=self._remembered_us + self._slot_us)

    def forget(self, now: datetime) -> None:
        """Forget the slots in which every id is older than the remembered time. Merge the runs of the other slots."""
        current, until = to_microseconds(now) // self._slot_us, to_microseconds(now) - self._remembered_us
        self._slots = {slot: runs for slot, runs in self._slots.items() if (slot + 1) * self._slot_us > until}
        for slot, runs in self._slots.items():
            if slot < current and len(runs) > 1:
                self._slots[slot] = [join_hashes(runs).sorted()]

    def contain(self, ids: IdHashes) -> Mask:
        """Return whether each id is remembered, shape (n,)."""
        order = np.argsort(ids.keys)  # in this order a binary search finds the memory of the one before in the cache
        wanted = ids.take(order)
        found = np.zeros(len(ids), dtype=bool)
        for run in chain.from_iterable(self._slots.values()):
            found |= wanted.among(run)
        is_there = np.empty_like(found)
        is_there[order] = found
        return is_there

    def add(self, ids: IdHashes, arrived_us: npt.NDArray[np.int64] | int) -> None:
        """Remember ids. arrived_us: when they arrived, microseconds: one number for all, or one
        for each, shape (n,).
        """
        if not len(ids):
            return
        slots = np.broadcast_to(np.asarray(arrived_us) // self._slot_us, len(ids))
        for slot in np.unique(slots).tolist():
            runs, new = self._slots.setdefault(slot, []), ids.take(slots == slot).sorted()
            while runs and len(runs[-1]) <= 2 * len(new):
                new = join_hashes([runs.pop(), new]).sorted()
            runs.append(new)
