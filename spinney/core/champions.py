"""Each shard's champions, as the scoring state holds them: rows of promotions, condensed, in one binary column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import pyarrow as pa

from spinney.core.blobs import ipc_batch, ipc_bytes
from spinney.core.champion import Promotion, champion, condense
from spinney.core.errors import Corrupt

FORMAT = b"\x01"
_SCHEMA = pa.schema(
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
_FIELDS = tuple(field.name for field in fields(Promotion))


@dataclass(frozen=True)
class Champions:
    """Who answers in one shard. Immutable: `after` gives the next one.

    histories: group_key -> its condensed promotions.
    """

    histories: Mapping[str, tuple[Promotion, ...]]

    @classmethod
    def empty(cls) -> Champions:
        return cls({})

    def of(self, group_key: str) -> Promotion | None:
        """The promotion of the group's champion; None when it has none."""
        history = self.histories.get(group_key)
        return champion(history) if history else None

    def after(self, promotions: Iterable[tuple[str, Promotion]]) -> Champions:
        """With these promotions seen; seeing one twice, or in another order, changes nothing."""
        fresh: dict[str, list[Promotion]] = {}
        for group_key, row in promotions:
            fresh.setdefault(group_key, []).append(row)
        histories = dict(self.histories)
        for group_key, rows in fresh.items():
            histories[group_key] = condense([*histories.get(group_key, ()), *rows])
        return Champions(histories)

    def to_bytes(self) -> bytes:
        rows = [(key, row) for key in sorted(self.histories) for row in self.histories[key]]
        columns = [pa.array([key for key, _ in rows], pa.string())]
        for name in _FIELDS_IN_SCHEMA:
            columns.append(pa.array([getattr(row, name) for _, row in rows], _SCHEMA.field(name).type))
        return FORMAT + ipc_bytes(pa.RecordBatch.from_arrays(columns, schema=_SCHEMA))

    @classmethod
    def from_bytes(cls, blob: bytes) -> Champions:
        """Raises Corrupt when the blob is of another format."""
        if blob[:1] != FORMAT:
            msg = f"scoring state: expected format {FORMAT!r}, got {bytes(blob[:1])!r}; start from a new checkpoint"
            raise Corrupt(msg)
        histories: dict[str, list[Promotion]] = {}
        batch = ipc_batch(blob[1:])
        columns = [batch.column(name).to_pylist() for name in _SCHEMA.names]
        for key, *values in zip(*columns, strict=True):
            row = Promotion(**dict(zip(_FIELDS_IN_SCHEMA, values, strict=True)))
            histories.setdefault(key, []).append(row)
        return cls({key: tuple(rows) for key, rows in histories.items()})


_FIELDS_IN_SCHEMA = tuple(name for name in _SCHEMA.names if name in _FIELDS)
