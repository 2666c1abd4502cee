"""The promotions of many groups in Arrow columns, converted to objects only on access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.champions import held_out_loss_codec
from spinney.core.champions.held_out_loss_arrays import pack_rows
from spinney.core.champions.promotion import CHAMPION_COLUMNS, PAYLOAD_COLUMNS, Promotion


class PromotionHistories(Mapping[str, tuple[Promotion, ...]]):
    """The promotions of each group without payloads.

    rows: rows of `promotions`, with CHAMPION_COLUMNS and optionally `held_out_loss_codec.COLUMNS`; the rows of a group
    are adjacent.
    """

    def __init__(self, rows: pa.Table) -> None:
        columns = [rows.column(name) for name in CHAMPION_COLUMNS[1:]]
        self._columns = [
            column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in columns
        ]
        self._losses = rows.select([name for name in held_out_loss_codec.COLUMNS if name in rows.schema.names])
        self._slices = _slices_of(rows.column("group_key"))
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

    def __contains__(self, key: object) -> bool:
        return key in self._slices

    def ends(self, key: str) -> tuple[int, int]:
        """Return the position of a group's first row, and the one after its last. Raises KeyError without rows."""
        return self._slices[key]

    def first(self, key: str) -> int:
        """Return the position of the group's first row. Raises KeyError for a group without rows."""
        return self._slices[key][0]

    def losses(self, first: int, end: int) -> list[bytes | None]:
        """Return the packed held-out losses of the rows from `first` to before `end`."""
        if not self._losses.num_columns:
            return [None] * (end - first)
        return pack_rows(self._losses.slice(first, end - first))

    def row(self, place: int) -> Promotion:
        """Return the promotion of the row at a position."""
        return next(self._rows(place, place + 1))

    def _rows(self, first: int, end: int) -> Iterator[Promotion]:
        values = [column.slice(first, end - first).to_pylist() for column in self._columns]
        without_payload: list[list[Any]] = [[None] * (end - first) for _ in PAYLOAD_COLUMNS]
        rows = zip(*values, *without_payload, self.losses(first, end), strict=True)
        return (Promotion(*row) for row in rows)


class LayeredHistories(Mapping[str, tuple[Promotion, ...]]):
    """The promotions of each group from the first mapping that has any."""

    def __init__(self, upper: PromotionHistories, lower: PromotionHistories) -> None:
        self._upper, self._lower = upper, lower

    def __getitem__(self, key: str) -> tuple[Promotion, ...]:
        return self._upper[key] if key in self._upper else self._lower[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._upper
        yield from (key for key in self._lower if key not in self._upper)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _slices_of(group_keys: pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """Return group_key -> its first row and the row after its last. group_keys: those of a group are adjacent."""
    runs = pc.run_end_encode(pa.concat_arrays([pa.array([], pa.string()), *group_keys.chunks]))
    ends = runs.run_ends.to_pylist()
    return dict(zip(runs.values.to_pylist(), zip([0, *ends], ends, strict=False), strict=True))
