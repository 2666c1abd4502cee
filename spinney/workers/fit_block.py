"""Rows and fit requests of some groups that one process fits, and what has become of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.column_names import own

IS_ASK = own("is_ask")

Piece = list[int]
"""Places of groups among a block's asks."""

Parted = Callable[[pa.Table], tuple[pd.DataFrame, pd.DataFrame]]
"""The rows and the asks in a table of both, which IS_ASK tells apart."""


@dataclass(frozen=True)
class FitBlock:
    """Rows and asks of some groups, and what has become of them. short: of those that lacked memory beside others."""

    table: pa.Table
    parted: Parted
    fitted: list[tuple[Piece, pd.DataFrame]] = field(default_factory=list)
    short: dict[int, pd.DataFrame] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Groups asked for."""
        return int(pc.sum(self.table.column(IS_ASK)).as_py() or 0)

    @property
    def rows(self) -> pd.DataFrame:
        return self._parts[0]

    @property
    def asks(self) -> pd.DataFrame:
        return self._parts[1]

    @cached_property
    def _parts(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return self.parted(self.table)

    def prepare(self) -> None:
        """Do once, before a fork, what each child would do."""
        len(self._rows_of)

    def key(self, place: int) -> str:
        return str(self.asks["group_key"].iat[place])

    def part(self, piece: Piece) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows and asks of a piece."""
        if len(piece) == len(self.asks):
            return self.rows, self.asks
        asks = self.asks.iloc[piece]
        places = [self._rows_of[key] for key in asks["group_key"] if key in self._rows_of]
        return self.rows.iloc[np.concatenate(places) if places else []], asks

    def take(self, piece: Piece, fitted: pd.DataFrame, *, is_alone: bool) -> None:
        """Keep what was fitted, but for those that lacked memory: a neighbour may have taken it."""
        lacked = lacked_memory(fitted)
        if is_alone or not lacked.any():
            self.fitted.append((piece, fitted))
            return
        self.short.update({place: fitted.iloc[[at]] for at, place in enumerate(piece) if lacked.iat[at]})
        kept = [place for place, lacks in zip(piece, lacked, strict=True) if not lacks]
        self.fitted.append((kept, fitted[~lacked]))

    def taken_short(self) -> dict[int, pd.DataFrame]:
        """Those that lacked memory, and what they gave; they are forgotten here."""
        short = self.short.copy()
        self.short.clear()
        return short

    @cached_property
    def sizes(self) -> list[int]:
        """How many rows each group has."""
        return [len(self._rows_of.get(str(key), ())) for key in self.asks["group_key"]]

    @cached_property
    def _rows_of(self) -> Mapping[str, Any]:
        return {str(key): places for key, places in self.rows.groupby("group_key", sort=False).indices.items()}


def lacked_memory(fitted: pd.DataFrame) -> pd.Series[bool]:
    """Which fits failed, or lost their champion or shadow, for want of memory."""
    return fitted["error_class"].eq("MemoryError") | fitted["metrics"].str.contains("MemoryError")
