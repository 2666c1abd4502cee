"""A block: the training rows and fit requests of some groups, and the results so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.column_names import internal_name

IS_ASK = internal_name("is_ask")

Piece = list[int]
"""Groups that are fitted together, as positions among a block's requests."""

Parted = Callable[[pa.Table], tuple[pd.DataFrame, pd.DataFrame]]
"""Splits a table of both into rows and requests by the column IS_REQUEST."""


@dataclass(frozen=True)
class FitBlock:
    """Rows and requests of some groups, and their results.

    table: both, told apart by IS_REQUEST. results: each fitted piece with its rows of `fit_groups`. out_of_memory:
    place -> result of groups that ran out of memory while they were fitted with others.
    """

    table: pa.Table
    parted: Parted
    fitted: list[tuple[Piece, pd.DataFrame]] = field(default_factory=list)
    short: dict[int, pd.DataFrame] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many groups are requested."""
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
        """Compute, before a fork, what each worker would compute again."""
        len(self._rows_of)

    def key(self, place: int) -> str:
        return str(self.asks["group_key"].iat[place])

    def part(self, piece: Piece) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows and requests of a piece."""
        if len(piece) == len(self.asks):
            return self.rows, self.asks
        asks = self.asks.iloc[piece]
        places = [self._rows_of[key] for key in asks["group_key"] if key in self._rows_of]
        return self.rows.iloc[np.concatenate(places) if places else []], asks

    def take(self, piece: Piece, fitted: pd.DataFrame, *, is_alone: bool) -> None:
        """Keep the results of a piece.

        Unless the group was alone, a result without memory goes to `out_of_memory`: another group may have used it up.
        """
        lacked = lacked_memory(fitted)
        if is_alone or not lacked.any():
            self.fitted.append((piece, fitted))
            return
        self.short.update({place: fitted.iloc[[at]] for at, place in enumerate(piece) if lacked.iat[at]})
        kept = [place for place, lacks in zip(piece, lacked, strict=True) if not lacks]
        self.fitted.append((kept, fitted[~lacked]))

    def taken_short(self) -> dict[int, pd.DataFrame]:
        """Return `out_of_memory` and clear it."""
        short = self.short.copy()
        self.short.clear()
        return short

    @cached_property
    def sizes(self) -> list[int]:
        """Number of rows of each requested group."""
        return [len(self._rows_of.get(str(key), ())) for key in self.asks["group_key"]]

    @cached_property
    def _rows_of(self) -> Mapping[str, Any]:
        return {str(key): places for key, places in self.rows.groupby("group_key", sort=False).indices.items()}


def lacked_memory(fitted: pd.DataFrame) -> pd.Series[bool]:
    """Which groups ran out of memory, in their fit or in a comparison. results: rows of `fit_groups`."""
    return fitted["error_class"].eq("MemoryError") | fitted["metrics"].str.contains("MemoryError")
