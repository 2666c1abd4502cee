"""Encode the champions of a shard for the state of the query score: of each promotion the fields that scoring needs, in
one binary column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from spinney.core.champions import held_out_loss_codec
from spinney.core.champions.champion_selection import condense, select_champion
from spinney.core.champions.promotion import CHAMPION_COLUMNS, PAYLOAD_COLUMNS, TIME_COLUMNS, Promotion
from spinney.core.state_codec import Body, StateCodec, add_missing_columns, decode_batch, encode_batch
from spinney.core.stored_formats import CHAMPIONS_STATE

_TYPES = dict.fromkeys(("epoch", *TIME_COLUMNS), pa.int64()) | dict.fromkeys(PAYLOAD_COLUMNS[1:], pa.binary())
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in (*CHAMPION_COLUMNS, *PAYLOAD_COLUMNS)]).append(
    pa.field(held_out_loss_codec.COLUMN, pa.binary())
)
"""Schema of the stored bytes. Its columns after group_key are the fields of a Promotion in their order."""


def _add_losses(body: Body) -> Body:
    """Version 1 to 2: the held-out losses, null since they were not stored."""
    return add_missing_columns(body, SCHEMA, {held_out_loss_codec.COLUMN: None})


COMPRESSION = "zstd"
"""Spark passes the whole state of each shard of a batch to its worker and back, while champions rarely change: 400 kB
for 800 linear models, 125 kB compressed in 0.9 ms."""


def _keep(body: Body) -> Body:
    """Version 2 to 3: held-out losses may name their loss. Those that are there do not."""
    return body


CODEC = StateCodec(CHAMPIONS_STATE, {1: _add_losses, 2: _keep})


@dataclass(frozen=True)
class Champions:
    """The promotions of some groups and parents, and by them their champions. Immutable.

    promotions: group_key -> its condensed promotions.
    """

    promotions: Mapping[str, tuple[Promotion, ...]]
    _champions: dict[str, Promotion | None] = field(default_factory=dict, compare=False, repr=False)

    def champion_of(self, key: str) -> Promotion | None:
        """Return the champion of a group or parent; None without one. Signatures are not checked: all models count as
        usable.

        The result is cached.
        """
        if key not in self._champions:
            self._champions[key] = select_champion(self.promotions.get(key, ()))
        return self._champions[key]

    @classmethod
    def empty(cls) -> Champions:
        """Return the champions of a shard without promotions."""
        return cls({})

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[Any, Any]]) -> Champions:
        """Return the champions by rows of `promotions`: CHAMPION_COLUMNS and, where they have them, PAYLOAD_COLUMNS."""
        return cls.empty().with_promotions((row["group_key"], Promotion.from_row(row)) for row in rows)

    def with_promotions(self, promotions: Iterable[tuple[str, Promotion]]) -> Champions:
        """Add (group_key, promotion) pairs. Neither their order nor repeated pairs change the result."""
        added: dict[str, list[Promotion]] = {}
        for group_key, promotion in promotions:
            added.setdefault(group_key, []).append(promotion)
        merged = dict(self.promotions)
        for group_key, rows in added.items():
            condensed = condense([*merged.get(group_key, ()), *rows])
            if condensed:
                merged[group_key] = condensed
        return Champions(merged, {key: row for key, row in self._champions.items() if key not in added})

    def to_batch(self) -> pa.RecordBatch:
        """Return the promotions as rows of SCHEMA, in the order of the groups."""
        rows = [(key, row) for key in sorted(self.promotions) for row in self.promotions[key]]
        columns = [pa.array([key for key, _ in rows], pa.string())]
        columns += [
            pa.array([row.column(name) for _, row in rows], SCHEMA.field(name).type) for name in SCHEMA.names[1:]
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    def to_bytes(self) -> bytes:
        """Encode as one Arrow batch of SCHEMA, with the version of its format."""
        return CODEC.pack(encode_batch(self.to_batch(), compression=COMPRESSION))

    @classmethod
    def from_bytes(cls, blob: bytes | memoryview) -> Champions:
        """Decode the result of `to_bytes`. Raises Corrupt when the blob is of another format, or broken."""
        return cls.from_batch(decode_batch(CODEC.unpack(blob), SCHEMA))

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> Champions:
        """Return the champions by a batch of SCHEMA, in which the promotions of a group have their order."""
        promotions: dict[str, list[Promotion]] = {}
        columns = [batch.column(name).to_pylist() for name in SCHEMA.names]
        for key, *values in zip(*columns, strict=True):
            promotions.setdefault(key, []).append(Promotion(*values))
        return cls({key: tuple(rows) for key, rows in promotions.items()})
