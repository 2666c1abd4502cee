"""Predictions and outcomes for the index of late labels, and what it should join, by pandas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from spinney.core.records.recent_ids import IdHashes
from spinney.storage.label_index.arrived_rows import Arrived
from spinney.storage.label_index.label_index import LABEL, IndexShape

MINUTE_US = 60_000_000
SHAPE = IndexShape(
    timedelta(minutes=60),
    pa.schema([("group_key", pa.string()), ("model_id", pa.string()), ("prediction", pa.float64())]),
    pa.float64(),
)


@dataclass(frozen=True)
class Row:
    """A prediction or an outcome of an event. minute: of its arrival. value: the prediction or the label."""

    event: int
    minute: int
    value: float

    @property
    def group(self) -> str:
        return f'["g{self.event % 3}"]'


def predictions(rows: Sequence[Row]) -> Arrived:
    table = {
        "group_key": [row.group for row in rows],
        "model_id": [None if row.event % 5 == 4 else f"m{row.event % 2}" for row in rows],
        "prediction": [row.value for row in rows],
    }
    return Arrived(_ids(rows), _times(rows), pa.table(table, schema=SHAPE.answers))


def outcomes(rows: Sequence[Row]) -> tuple[Arrived, tuple[np.ndarray, np.ndarray]]:
    labels = pa.table({LABEL: pa.array([row.value for row in rows], pa.float64())})
    return Arrived(_ids(rows), _times(rows), labels), (np.zeros(len(rows), np.int32), np.arange(len(rows)))


def _ids(rows: Sequence[Row]) -> IdHashes:
    return IdHashes.of(
        *(pa.array(texts, pa.string()) for texts in ([row.group for row in rows], [f"e{row.event}" for row in rows]))
    )


def _times(rows: Sequence[Row]) -> np.ndarray:
    return np.array([row.minute * MINUTE_US for row in rows], np.int64)


def expected_pairs(answers: Sequence[Row], labels: Sequence[Row]) -> list[tuple[str, float, float]]:
    """Group, prediction and label of all pairs within the horizon; a label counts if none of its event came in twice
    that time before. labels: in the order of their arrival.
    """
    frame = pd.DataFrame([(row.event, row.minute, row.value) for row in labels], columns=["event", "at", "label"])
    before = frame.groupby("event")["at"].shift()
    firsts = frame[~(frame["at"] - before <= 120)]
    made = pd.DataFrame(
        [(r.event, r.group, r.minute, r.value) for r in answers], columns=["event", "g", "made", "value"]
    )
    both = made.merge(firsts, on="event")
    both = both[(both["made"] - both["at"]).abs() <= 60]
    return sorted(both[["g", "value", "label"]].itertuples(index=False, name=None))


def pairs(joined: pa.Table) -> list[tuple[str, float, float]]:
    return [(row["group_key"], row["prediction"], row[LABEL]) for row in joined.to_pylist()]
