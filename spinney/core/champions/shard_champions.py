"""Each shard's champions, as the scoring state holds them: rows of promotions, condensed, in one binary column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from spinney.core.champions.champion import Promotion, champion, condense
from spinney.core.state_codec import StateCodec, decode_batch, encode_batch
from spinney.core.stored_formats import CHAMPIONS_STATE

CODEC = StateCodec(CHAMPIONS_STATE)
SCHEMA = pa.schema(
    [
        ("group_key", pa.string()),
        ("epoch", pa.int64()),
        ("model_id", pa.string()),
        ("decision", pa.string()),
        ("trained_through", pa.int64()),
        ("fitted_at", pa.int64()),
        ("decided_at", pa.int64()),
        ("round_id", pa.string()),
        ("codec", pa.string()),
        ("payload", pa.binary()),
        ("signature", pa.binary()),
    ]
)
_FIELDS = tuple(SCHEMA.names[1:])
"""The fields of a Promotion, as the blob has them in order."""


@dataclass(frozen=True)
class Champions:
    """Who answers in one shard. Immutable: `after` gives the next one.

    histories: group_key -> its condensed promotions.
    """

    histories: Mapping[str, tuple[Promotion, ...]]
    _known: dict[str, Promotion | None] = field(default_factory=dict, compare=False, repr=False)

    def champion_of(self, key: str) -> Promotion | None:
        """The champion of a group or parent, all its models being usable; looked for once."""
        if key not in self._known:
            self._known[key] = champion(self.histories.get(key, ()))
        return self._known[key]

    @classmethod
    def empty(cls) -> Champions:
        return cls({})

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[Any, Any]]) -> Champions:
        """From rows of `promotions`: all that there are, or all that had been decided by some moment."""
        return cls.empty().after((row["group_key"], Promotion.of_row(row)) for row in rows)

    def after(self, promotions: Iterable[tuple[str, Promotion]]) -> Champions:
        """With these promotions seen; seeing one twice, or in another order, changes nothing."""
        fresh: dict[str, list[Promotion]] = {}
        for group_key, row in promotions:
            fresh.setdefault(group_key, []).append(row)
        histories = dict(self.histories)
        for group_key, rows in fresh.items():
            history = condense([*histories.get(group_key, ()), *rows])
            if history:
                histories[group_key] = history
        return Champions(histories, {key: row for key, row in self._known.items() if key not in fresh})

    def to_bytes(self) -> bytes:
        rows = [(key, row) for key in sorted(self.histories) for row in self.histories[key]]
        columns = [pa.array([key for key, _ in rows], pa.string())]
        columns += [pa.array([getattr(row, name) for _, row in rows], SCHEMA.field(name).type) for name in _FIELDS]
        return CODEC.pack(encode_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA)))

    @classmethod
    def from_bytes(cls, blob: bytes | memoryview) -> Champions:
        """Raises Corrupt when the blob is of another format, or broken."""
        body = CODEC.unpack(blob)
        histories: dict[str, list[Promotion]] = {}
        batch = decode_batch(body, SCHEMA)
        columns = [batch.column(name).to_pylist() for name in SCHEMA.names]
        for key, *values in zip(*columns, strict=True):
            row = Promotion(**dict(zip(_FIELDS, values, strict=True)))
            histories.setdefault(key, []).append(row)
        return cls({key: tuple(rows) for key, rows in histories.items()})
