"""The champions of a shard as bytes, of which only those of changed groups are decoded.

A round decides about one in a hundred groups or fewer. Decoding and encoding all champions took most of the time of a
call.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.champions.champion_selection import select_predecessor
from spinney.core.champions.shard_champions import CODEC, SCHEMA, Champions
from spinney.core.state_codec import decode_batch, encode_batch

COMPRESSION = "lz4"
"""The bytes are read at every tick in which a group is due: 800 groups take 0.06 ms, with zstd 0.24 ms. They have 22
kB, with zstd 11 kB.
"""


@dataclass(frozen=True)
class EncodedChampions:
    """The encoded bytes of Champions."""

    blob: bytes

    @classmethod
    def of(cls, champions: Champions) -> EncodedChampions:
        """Encode these champions."""
        return cls(champions.to_bytes())

    @property
    def champions(self) -> Champions:
        """Decode all champions. Raises Corrupt if the bytes are not encoded champions."""
        return Champions.from_bytes(self.blob)

    def select(self, keys: Collection[str]) -> Champions:
        """Decode the champions of these groups only. Raises Corrupt if the bytes are not encoded champions."""
        batch = _batch(self.blob)
        is_wanted = pc.is_in(batch.column("group_key"), pa.array(sorted(keys), pa.string()))
        return Champions.from_batch(batch.filter(is_wanted))

    def predecessors_of(self, keys: Collection[str]) -> dict[str, str]:
        """Return the model that the champion of each of these groups has replaced, by `select_predecessor`:
        group_key -> model_id.
        """
        promotions = self.select(keys).promotions
        found = {key: select_predecessor(rows) for key, rows in promotions.items()}
        return {key: predecessor.model_id for key, predecessor in found.items() if predecessor is not None}

    def with_replaced(self, some: Champions) -> EncodedChampions:
        """Replace the promotions of the groups in `some`, keeping those of all other groups."""
        batch, new = _batch(self.blob), some.to_batch()
        others = pc.invert(pc.is_in(batch.column("group_key"), pa.array(sorted(some.promotions), pa.string())))
        rows = pa.Table.from_batches([batch.filter(others), new])
        order = pc.sort_indices(rows, [("group_key", "ascending")])  # stable: a group's own rows keep their order
        batches = rows.take(order).combine_chunks().to_batches() or [new]
        return EncodedChampions(CODEC.pack(encode_batch(batches[0], compression=COMPRESSION)))


def _batch(blob: bytes) -> pa.RecordBatch:
    """Decode as a batch. Raises Corrupt if the bytes are not encoded champions."""
    return decode_batch(CODEC.unpack(blob), SCHEMA)
