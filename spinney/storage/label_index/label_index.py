"""The index by which late labels find their predictions, and predictions the labels that came before them."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spinney.core.errors import Corrupt
from spinney.core.records.first_labels import are_first
from spinney.core.records.recent_ids import Ints, Mask
from spinney.core.stored_formats import KEY, LABEL_INDEX
from spinney.core.timestamps import to_microseconds
from spinney.storage.atomic_files import replace_file
from spinney.storage.label_index.arrived_rows import Arrived, Sought
from spinney.storage.label_index.recent_rows import SUFFIX, RecentRows

MANIFEST = "manifest.json"
LABEL, IS_FIRST = "label", "is_first"
SLOTS = 16
"""Slots in the horizon. A row is forgotten up to one slot later than it could be."""

SHORTEST_SLOT = timedelta(minutes=1)
"""Shortest slot. With shorter ones, a backlog of several hours would be written into thousands of files at once."""

LONGEST_COMMIT = timedelta(hours=1)
"""Longest time that a writer of the tables is expected to take from the timestamp of a batch to its commit."""

CLOCK_SLACK = timedelta(minutes=10)
"""A writer's clock may be set back by at most this between two batches, or by half of the horizon if that is less."""

_PREDICTIONS, _OUTCOMES = "predictions", "outcomes"


@dataclass(frozen=True)
class IndexShape:
    """The horizon and the columns of an index.

    horizon: longest time between the arrivals of a prediction and of its label. answers: columns of predictions. label:
    type of the labels.
    """

    horizon: timedelta
    answers: pa.Schema
    label: pa.DataType

    @property
    def horizon_us(self) -> int:
        """The horizon in microseconds."""
        return self.horizon // timedelta(microseconds=1)

    @property
    def silence(self) -> timedelta:
        """How long before a batch the newest row of a table is assumed to have arrived, if no row says when."""
        return max(self.horizon, LONGEST_COMMIT)


@dataclass(frozen=True)
class ReadThrough:
    """How far a query has read. checkpoint: id of its checkpoint. ends: end offset of the batch in each source."""

    checkpoint: str
    batch_id: int
    ends: Sequence[str | None]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"checkpoint": self.checkpoint, "batch_id": self.batch_id, "ends": list(self.ends)}


class LabelIndex:
    """Predictions and outcomes of recent time, by the hashes of their ids.

    Rows are added in memory and in new files; `store` makes them part of the index that the next process opens.

    A prediction is kept until outcomes come that arrived more than the horizon after it. An outcome is kept until
    predictions come that arrived more than the horizon after it, and outcomes that arrived more than twice the horizon
    after it. The index relies on the rows of a table arriving in the order of their commits, up to CLOCK_SLACK.
    """

    def __init__(self, folder: Path, shape: IndexShape) -> None:
        """Make an empty index. folder: the folder for its files."""
        self._folder, self._shape = folder, shape
        slot_us = max(shape.horizon // SLOTS, SHORTEST_SLOT) // timedelta(microseconds=1)
        outcome = pa.schema([(LABEL, shape.label), (IS_FIRST, pa.bool_())])
        self._rows = {
            _PREDICTIONS: RecentRows(folder, _PREDICTIONS, shape.answers, slot_us),
            _OUTCOMES: RecentRows(folder, _OUTCOMES, outcome, slot_us),
        }
        self._newest_us: dict[str, int] = {}
        self._grown: set[str] = set()

    @classmethod
    def open(cls, folder: Path, shape: IndexShape, read: ReadThrough) -> LabelIndex | None:
        """Open the index as it was stored after a batch; None if there is none, or it is of another batch or horizon.

        Raises Corrupt if it is damaged, UnknownFormat.
        """
        file = folder / MANIFEST
        if not file.exists():
            return None
        index = cls(folder, shape)
        try:
            content = json.loads(file.read_bytes())
            LABEL_INDEX.check_object(content, file)
            if (content["read"], content["horizon_us"]) != (read.to_json(), shape.horizon_us):
                return None
            index._newest_us = dict(content["newest_us"])
            for name, rows in index._rows.items():
                rows.open_runs(content["runs"][name])
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{file}: expected the manifest of an index; got {error!r}") from error
        index._remove_other_files()  # a full disk may have stopped a process before it removed any
        return index

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def with_first(self, outcomes: Arrived, positions: tuple[Ints, Ints]) -> Arrived:
        """Return outcomes with the column IS_FIRST: whether no outcome of the same event arrived in twice the horizon
        before.

        outcomes: of the next batch. positions: their partitions and offsets in Kafka.
        """
        within_us = 2 * self._shape.horizon_us
        is_first = are_first(outcomes.ids, outcomes.at_us, positions, within_us)
        earlier = self._rows[_OUTCOMES].find(Sought(outcomes.ids, outcomes.at_us, within_us), [])
        is_first[earlier.wanted] = False
        return Arrived(outcomes.ids, outcomes.at_us, outcomes.rows.append_column(IS_FIRST, pa.array(is_first)))

    def join(self, predictions: Arrived, outcomes: Arrived) -> pa.Table:
        """Return the predictions that get their label with this batch: the label, the prediction or both are new.

        predictions, outcomes: of this batch; outcomes as `with_first` returns them. Returns the columns of predictions,
        and LABEL.
        """
        horizon_us, firsts = self._shape.horizon_us, outcomes.take(_mask(outcomes.rows[IS_FIRST]))
        unlabelled = Sought(firsts.ids, firsts.at_us, horizon_us)
        before = self._rows[_PREDICTIONS].find(unlabelled, self._shape.answers.names)
        labels = Sought(predictions.ids, predictions.at_us, horizon_us)
        labelled = self._rows[_OUTCOMES].find(labels, [LABEL, IS_FIRST])
        labelled = labelled.take(_mask(labelled.arrived.rows[IS_FIRST]))
        firsts_in_order = firsts.take(np.argsort(firsts.ids.keys, kind="stable"))
        here, there = predictions.ids.equal_in(firsts_in_order.ids)
        is_near = np.abs(predictions.at_us[here] - firsts_in_order.at_us[there]) <= horizon_us
        pairs = (
            (before.arrived, firsts.take(before.wanted)),
            (predictions.take(labelled.wanted), labelled.arrived),
            (predictions.take(here[is_near]), firsts_in_order.take(there[is_near])),
        )
        return pa.concat_tables([self._labelled(*pair) for pair in pairs])

    def _labelled(self, predictions: Arrived, outcomes: Arrived) -> pa.Table:
        """Return predictions with the labels of the same rows of `outcomes`."""
        rows = predictions.rows.select(self._shape.answers.names).cast(self._shape.answers)
        return rows.append_column(LABEL, outcomes.rows[LABEL].cast(self._shape.label))

    def add(self, predictions: Arrived | None, outcomes: Arrived | None) -> None:
        """Add rows. outcomes: as `with_first` returns them."""
        for name, arrived in ((_PREDICTIONS, predictions), (_OUTCOMES, outcomes)):
            if arrived is not None and len(arrived):
                self._rows[name].add(arrived)
                self._see(name, int(arrived.at_us.max()))
                self._grown.add(name)

    def store(self, read: ReadThrough, read_until: datetime, *, in_order: bool = True) -> None:
        """Store the index as it is after a batch, and forget rows that no later row can be joined with.

        read_until: a table that got no rows since the last call has been read up to this time, or a little before it:
        its unread rows arrive later. in_order: whether the other table's rows come in the order of their arrival; if
        not, nothing is forgotten.
        """
        for name in self._rows.keys() - self._grown:
            self._see(name, to_microseconds(read_until - self._shape.silence))
        self._grown = set()
        if in_order:
            self._forget()
        content = {
            KEY: LABEL_INDEX.version,
            "read": read.to_json(),
            "horizon_us": self._shape.horizon_us,
            "newest_us": self._newest_us,
            "runs": {name: rows.to_manifest() for name, rows in self._rows.items()},
        }
        replace_file(self._folder / MANIFEST, json.dumps(content).encode())
        self._remove_other_files()

    def _see(self, name: str, at_us: int) -> None:
        self._newest_us[name] = max(self._newest_us.get(name, at_us), at_us)

    def _forget(self) -> None:
        slack_us = min(CLOCK_SLACK, self._shape.horizon / 2) // timedelta(microseconds=1)
        horizon_us = self._shape.horizon_us
        newest = {name: at_us - slack_us for name, at_us in self._newest_us.items()}
        self._rows[_PREDICTIONS].forget(newest[_OUTCOMES] - horizon_us)
        self._rows[_OUTCOMES].forget(min(newest[_PREDICTIONS] - horizon_us, newest[_OUTCOMES] - 2 * horizon_us))

    def _remove_other_files(self) -> None:
        """Remove files that the manifest does not name: files of merged and forgotten runs, and of a killed process."""
        _remove_files(self._folder, {run.file.name for rows in self._rows.values() for run in rows.runs()})


def remove_leftovers(folder: Path) -> None:
    """Remove the files that a killed process left: those that the manifest does not name, if there is one."""
    manifest = folder / MANIFEST
    _remove_files(folder, manifest.read_text(errors="replace") if manifest.exists() else "")


def _remove_files(folder: Path, but: Container[str]) -> None:
    """Remove the files of runs, except those that `but` contains.

    but: a collection of file names, or a text with them.
    """
    for file in folder.glob(f"*{SUFFIX}"):
        if file.name not in but:
            file.unlink()


def _mask(column: pa.ChunkedArray) -> Mask:
    values: Mask = column.to_numpy()
    return values
