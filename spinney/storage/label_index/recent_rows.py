"""The rows of one table that arrived in recent time, in files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spinney.core.errors import Corrupt
from spinney.core.records.recent_ids import join_hashes
from spinney.storage.label_index.arrived_rows import Arrived, Found, Sought
from spinney.storage.label_index.merge_policy import runs_to_merge, runs_to_merge_at_last
from spinney.storage.label_index.runs import Run, merge_runs, write_run

SUFFIX = ".arrow"


@dataclass
class RecentRows:
    """Rows in slots by the time of their arrival. Each slot consists of runs.

    A slot is forgotten by leaving its files out of the manifest. This class only adds files; the code that stores the
    manifest removes the files that it does not name.

    folder: for the files. name: the first part of their names. schema: of the rows. slot_us: length of a slot,
    microseconds.
    """

    folder: Path
    name: str
    schema: pa.Schema
    slot_us: int
    slots: dict[int, list[Run]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.runs()))

    def runs(self) -> Iterator[Run]:
        """Return the runs of all slots."""
        return chain.from_iterable(self.slots.values())

    def find(self, sought: Sought, columns: Sequence[str]) -> Found:
        """Return the sought rows. columns: the columns of `arrived.rows` in the result."""
        order = np.argsort(sought.ids.keys, kind="stable")
        in_order = sought.take(order)
        found = [part for run in self._runs_near(sought) for part in run.find(in_order, columns)]
        if not found:
            schema, none = pa.schema([self.schema.field(name) for name in columns]), np.empty(0, np.int64)
            return Found(none, Arrived(sought.ids.take(none), none, schema.empty_table()))
        return Found(
            order[np.concatenate([part.wanted for part in found])],
            Arrived(
                join_hashes([part.arrived.ids for part in found]),
                np.concatenate([part.arrived.at_us for part in found]),
                pa.concat_tables([part.arrived.rows for part in found]),
            ),
        )

    def _runs_near(self, sought: Sought) -> Iterator[Run]:
        """Yield the runs of the slots in which sought rows may have arrived."""
        if len(sought.ids):
            first, last = sought.at_us.min() - sought.within_us, sought.at_us.max() + sought.within_us
            for slot, runs in self.slots.items():
                if first // self.slot_us <= slot <= last // self.slot_us:
                    yield from runs

    def add(self, arrived: Arrived) -> None:
        """Add rows, and merge runs that are due."""
        slots = arrived.at_us // self.slot_us
        for slot in np.unique(slots).tolist():
            runs = self.slots.setdefault(slot, [])
            runs.append(write_run(self._new_file(slot), arrived.take(slots == slot), self.schema))
            self._merge(slot, runs_to_merge(list(map(len, runs))))
        self._merge_one_past_slot()

    def forget(self, before_us: int) -> None:
        """Forget the slots whose rows all arrived before a time, microseconds."""
        self.slots = {slot: runs for slot, runs in self.slots.items() if (slot + 1) * self.slot_us > before_us}

    def to_manifest(self) -> list[dict[str, Any]]:
        """Return the runs as plain values."""
        return [
            {"slot": slot, "file": run.file.name, "rows": len(run), "bytes": run.bytes}
            for slot, runs in self.slots.items()
            for run in runs
        ]

    def open_runs(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Open the runs that `to_manifest` returned. Raises Corrupt: a file is not there, or not as it was written."""
        for entry in entries:
            file = self.folder / entry["file"]
            try:
                run = Run.open(file)
            except (OSError, pa.ArrowException) as error:
                raise Corrupt(f"{file}: expected a run of {entry['rows']} rows; got {error}") from error
            if (run.bytes, len(run), run.schema) != (entry["bytes"], entry["rows"], self.schema):
                raise Corrupt(f"{file}: expected {entry['rows']} rows in {entry['bytes']} bytes; got {len(run)} rows")
            self.slots.setdefault(int(entry["slot"]), []).append(run)

    def _merge_one_past_slot(self) -> None:
        """Merge the runs of one slot before the newest.

        Only one slot is merged per call, so that a batch never waits for several.
        """
        for slot in sorted(self.slots)[:-1]:
            if count := runs_to_merge_at_last(list(map(len, self.slots[slot]))):
                self._merge(slot, count)
                return

    def _merge(self, slot: int, count: int) -> None:
        if count:
            runs = self.slots[slot]
            runs[-count:] = [merge_runs(self._new_file(slot), runs[-count:])]

    def _new_file(self, slot: int) -> Path:
        return self.folder / f"{self.name}-{slot}-{uuid.uuid4().hex}{SUFFIX}"
