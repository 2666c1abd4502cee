"""The tables of a fleet as pandas frames, with the columns of `schemas.tables`, without models' payloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow.dataset as ds

from schemas import tables as contracts
from schemas.contract import Contract
from schemas.vocabulary import RoundKind
from spinney.storage.layout import FleetStore
from spinney.tables import delta


@dataclass(frozen=True)
class FleetTables:
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
    def stream_rounds(self) -> frozenset[str]:
        """Ids of the rounds of the stream. The other rounds are batches, such as the first fit of the history."""
        return frozenset(self.rounds.loc[self.rounds["kind"] == RoundKind.STREAM.value, "round_id"])

    def streamed_rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a table that belong to a round of the stream."""
        return frame[frame["round_id"].isin(self.stream_rounds)]


def read_tables(store: FleetStore, event_filter: ds.Expression | None = None) -> FleetTables:
    """Read all tables without the payloads of models.

    event_filter: which rows of events and predictions to read; None: all. With a filter, events have only group_key and
    event_id. Raises StoreError: a table does not exist.
    """

    def frame(base: Contract, names: list[str] | None = None, where: ds.Expression | None = None) -> Any:
        names = names or [name for name in base.names if name not in ("payload", "signature")]
        return delta.read_table(store, base, names, where).to_pandas()

    event_columns = None if event_filter is None else ["group_key", "event_id"]
    return FleetTables(
        events=frame(contracts.EVENTS, event_columns, event_filter),
        outcomes=frame(contracts.OUTCOMES),
        dead_letters=frame(contracts.DEAD_LETTERS),
        predictions=frame(contracts.PREDICTIONS, where=event_filter),
        verdicts=frame(contracts.VERDICTS),
        models=frame(contracts.MODELS),
        promotions=frame(contracts.PROMOTIONS),
        rounds=frame(contracts.ROUNDS),
    )
