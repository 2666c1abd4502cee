"""The tables of a fleet as pandas frames, with the columns of `schemas.tables`."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from schemas.vocabulary import RoundKind


@dataclass(frozen=True)
class Tables:
    """Whole tables, the union of their directories. Times are datetime64 in UTC."""

    events: pd.DataFrame
    outcomes: pd.DataFrame
    dead_letters: pd.DataFrame
    predictions: pd.DataFrame
    verdicts: pd.DataFrame
    models: pd.DataFrame
    promotions: pd.DataFrame
    rounds: pd.DataFrame

    @property
    def streamed(self) -> frozenset[str]:
        """The rounds of the stream; the others are batches, the history's first fit among them."""
        return frozenset(self.rounds.loc[self.rounds["kind"] == RoundKind.STREAM.value, "round_id"])

    def of_stream(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table that belong to a round of the stream."""
        return frame[frame["round_id"].isin(self.streamed)]
