"""Rows of health as columns. A shard gets some dozens of them at a time, for which pandas takes most of a tick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

Objects = npt.NDArray[np.object_]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RowColumns:
    """Arrays of one length, the columns of some rows."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def take(self, places: npt.NDArray[Any] | slice) -> Self:
        """Return some of the rows. places: positions, a mask or a slice."""
        return type(self)(*(getattr(self, field.name)[places] for field in fields(self)))

    @classmethod
    def concatenated(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of at least one part, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True)
class HealthRows(RowColumns):
    """Rows of `health`, in any order.

    group_key: None in a row that has only a time. model_id: None without a model. labelled: number of labelled rows.
    loss: their sum; NaN where there is none. losses: None, or the loss of each labelled row. drift: None, or
    predictions. last_event_time: microseconds.
    """

    group_key: Objects
    model_id: Objects
    labelled: Integers
    loss: Floats
    losses: Objects
    drift: Objects
    last_event_time: Integers

    @classmethod
    def empty(cls) -> HealthRows:
        """Return no rows, with all columns."""
        return cls.of_frame(pd.DataFrame())

    @classmethod
    def of_frame(cls, frame: pd.DataFrame) -> HealthRows:
        """Return the rows of a frame. Columns that it lacks are None, or 0 if they hold numbers."""
        columns = {name: frame[name].to_numpy() for name in HEALTH_COLUMNS if name in frame}
        return cls.of_columns(columns, len(frame))

    @classmethod
    def of_columns(cls, columns: dict[str, npt.NDArray[Any]], rows: int) -> HealthRows:
        """Return these columns with the types of this class. Missing columns are None, or 0 if they hold numbers."""
        dtypes = {"labelled": np.int64, "loss": np.float64, "last_event_time": np.int64}
        whole = []
        for name in HEALTH_COLUMNS:
            dtype: Any = dtypes.get(name, object)
            absent = None if dtype is object else 0
            whole.append(columns[name].astype(dtype) if name in columns else np.full(rows, absent, dtype))
        return cls(*whole)

    def of_groups(self) -> HealthRows:
        """Return the rows without those that have only a time."""
        is_of_group = np.array([key is not None for key in self.group_key.tolist()], dtype=np.bool_)
        return self if is_of_group.all() else self.take(is_of_group)

    @property
    def has_predictions(self) -> npt.NDArray[np.bool_]:
        """For each row, whether it has predictions."""
        return np.array([predictions is not None for predictions in self.drift.tolist()], dtype=np.bool_)


HEALTH_COLUMNS = tuple(field.name for field in fields(HealthRows))
