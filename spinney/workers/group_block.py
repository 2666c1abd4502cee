"""A block of groups that one worker process fits: their training rows, fit requests and results so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from spinney.tables.arrow_schemas import to_pandas

Piece = list[int]
"""Groups that are fitted together, as positions among a block's requests."""

MAX_PIECE_AFTER_DEATH = 64
"""Largest number of groups in one piece after a worker has died."""


@dataclass(frozen=True)
class FitTables:
    """Rows and requests of some groups, as `fit_groups` takes them, but as Arrow tables."""

    rows: pa.Table
    requests: pa.Table

    @property
    def nbytes(self) -> int:
        """Number of bytes of both tables."""
        return int(self.rows.nbytes + self.requests.nbytes)


@dataclass(frozen=True)
class GroupBlock:
    """The training rows and fit requests of some groups, and the results so far.

    results: each fitted piece with its rows of `fit_groups`. out_of_memory: place -> result of groups that ran out of
    memory while they were fitted with others.
    """

    tables: FitTables
    results: list[tuple[Piece, pd.DataFrame]] = field(default_factory=list)
    out_of_memory: dict[int, pd.DataFrame] = field(default_factory=dict)

    @property
    def n_groups(self) -> int:
        """Number of requested groups."""
        return int(self.tables.requests.num_rows)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The training rows of all groups."""
        return to_pandas(self.tables.rows)

    @cached_property
    def requests(self) -> pd.DataFrame:
        """The fit requests of all groups, one row each."""
        return to_pandas(self.tables.requests)

    def prepare(self) -> None:
        """Compute values that workers need before a fork, so that not every worker computes them again."""
        len(self._places_of_rows)

    def key(self, place: int) -> str:
        """Return the group_key of a request."""
        return str(self.requests["group_key"].iat[place])

    def parent_id(self, place: int) -> str:
        """Return the model_id of the parent's champion. place: position of a request that has one."""
        return str(self.requests["parent_id"].iat[place])

    def rows_and_requests_of(self, piece: Piece) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the rows and requests of a piece, as frames."""
        if len(piece) == len(self.requests):
            return self.rows, self.requests
        requests = self.requests.iloc[piece]
        places = [self._places_of_rows[key] for key in requests["group_key"] if key in self._places_of_rows]
        return self.rows.iloc[np.concatenate(places) if places else []], requests

    def add_results(self, piece: Piece, results: pd.DataFrame, *, is_alone: bool) -> None:
        """Keep the results of a piece.

        The result of a group that ran out of memory goes to `out_of_memory`, since another group may have used the
        memory up; it is kept if the group was alone.
        """
        is_out_of_memory = ran_out_of_memory(results)
        if is_alone or not is_out_of_memory.any():
            self.results.append((piece, results))
            return
        self.out_of_memory.update(
            {place: results.iloc[[at]] for at, place in enumerate(piece) if is_out_of_memory.iat[at]}
        )
        others = [place for place, ran_out in zip(piece, is_out_of_memory, strict=True) if not ran_out]
        self.results.append((others, results[~is_out_of_memory]))

    def pop_out_of_memory(self) -> dict[int, pd.DataFrame]:
        """Return `out_of_memory` and clear it."""
        out_of_memory = self.out_of_memory.copy()
        self.out_of_memory.clear()
        return out_of_memory

    @cached_property
    def rows_per_group(self) -> list[int]:
        """Number of rows of each requested group."""
        return [len(self._places_of_rows.get(str(key), ())) for key in self.requests["group_key"]]

    @cached_property
    def _places_of_rows(self) -> Mapping[str, Any]:
        return {str(key): places for key, places in self.rows.groupby("group_key", sort=False).indices.items()}


def ran_out_of_memory(results: pd.DataFrame) -> pd.Series[bool]:
    """Return a mask of the groups that ran out of memory, in their fit or in a comparison. results: of `fit_groups`."""
    return results["error_class"].eq("MemoryError") | results["metrics"].str.contains("MemoryError")


def cut_pieces(places: Piece, size: int) -> list[Piece]:
    """Cut into pieces of `size` groups, then of twice as many each time up to MAX_PIECE_AFTER_DEATH."""
    pieces, at = [], 0
    while at < len(places):
        pieces.append(places[at : at + size])
        at += size
        size = max(size, min(2 * size, MAX_PIECE_AFTER_DEATH))
    return pieces
