"""The champions of a shard as the judge keeps them: bytes, read only for the groups that something happened to.

A round decides about a hundredth of the groups or less; decoding and encoding the others took most of a tick's time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.champions.shard_champions import CODEC, SCHEMA, Champions
from spinney.core.state_codec import decode_batch, encode_batch


@dataclass(frozen=True)
class Histories:
    """The bytes of Champions."""

    blob: bytes

    @classmethod
    def of(cls, champions: Champions) -> Histories:
        return cls(champions.to_bytes())

    @property
    def champions(self) -> Champions:
        """All of them. Raises Corrupt when these are no bytes of champions."""
        return Champions.from_bytes(self.blob)

    def some(self, keys: Collection[str]) -> Champions:
        """Those of these groups, as far as they have any. Raises Corrupt like `champions`."""
        batch = _batch(self.blob)
        mine = pc.is_in(batch.column("group_key"), pa.array(sorted(keys), pa.string()))
        return Champions.from_bytes(CODEC.pack(encode_batch(batch.filter(mine))))

    def replaced(self, some: Champions) -> Histories:
        """With the champions of these groups in place of what they had."""
        batch, new = _batch(self.blob), _batch(some.to_bytes())
        others = pc.invert(pc.is_in(batch.column("group_key"), pa.array(sorted(some.promotions), pa.string())))
        rows = pa.Table.from_batches([batch.filter(others), new])
        order = pc.sort_indices(rows, [("group_key", "ascending")])  # stable: a group's own rows keep their order
        whole = rows.take(order).combine_chunks().to_batches() or [new]
        return Histories(CODEC.pack(encode_batch(whole[0])))


def _batch(blob: bytes) -> pa.RecordBatch:
    """Raises Corrupt when these are no bytes of champions."""
    return decode_batch(CODEC.unpack(blob), SCHEMA)
