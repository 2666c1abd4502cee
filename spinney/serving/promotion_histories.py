"""The promotions of many groups in Arrow columns, converted to objects only on access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from spinney.core.champions import heldout_losses
from spinney.core.champions.heldout_loss_arrays import pack_column
from spinney.core.champions.promotion import CHAMPION_COLUMNS, PAYLOAD_COLUMNS, Promotion


class PromotionHistories(Mapping[str, tuple[Promotion, ...]]):
    """The promotions of each group without payloads.

    rows: of `promotions`, with CHAMPION_COLUMNS and optionally held-out losses; the rows of a group are adjacent.
    """

    def __init__(self, rows: pa.Table) -> None:
        group_keys = rows.column("group_key").to_pylist()
        columns = [rows.column(name) for name in CHAMPION_COLUMNS[1:]]
        self._columns = [
            column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in columns
        ]
        self._losses = rows.column(heldout_losses.COLUMN) if heldout_losses.COLUMN in rows.schema.names else None
        self._slices: dict[str, tuple[int, int]] = {}
        for at, key in enumerate(group_keys):
            first, _ = self._slices.setdefault(key, (at, at))
            self._slices[key] = (first, at + 1)
        self._made: dict[str, tuple[Promotion, ...]] = {}

    def __getitem__(self, key: str) -> tuple[Promotion, ...]:
        if key not in self._made:
            first, end = self._slices[key]
            self._made[key] = tuple(self._rows(first, end))
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._slices)

    def __len__(self) -> int:
        return len(self._slices)

    def first(self, key: str) -> int:
        """Return the position of the group's first row. Raises KeyError for a group without rows."""
        return self._slices[key][0]

    def losses(self, first: int, end: int) -> list[bytes | None]:
        """The packed held-out losses of the rows from `first` to before `end`."""
        if self._losses is None:
            return [None] * (end - first)
        return pack_column(self._losses.slice(first, end - first))

    def row(self, place: int) -> Promotion:
        """Return the promotion of the row at a position."""
        return next(self._rows(place, place + 1))

    def _rows(self, first: int, end: int) -> Iterator[Promotion]:
        values = [column.slice(first, end - first).to_pylist() for column in self._columns]
        without_payload: list[list[Any]] = [[None] * (end - first) for _ in PAYLOAD_COLUMNS]
        rows = zip(*values, *without_payload, self.losses(first, end), strict=True)
        return (Promotion(*row) for row in rows)
