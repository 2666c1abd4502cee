"""The cost of a batch of `labels` while the index holds many predictions: join, add and store, without Spark.

The index is filled with the predictions of one horizon and the outcomes of two, at a rate at which they arrive. Then
batches follow, each of which has as many new predictions, and outcomes that come uniformly late within the horizon, so
that they are looked up all over the index. Each finds exactly its prediction, which is checked.

Milliseconds are CPU time of the driver, with the hashing of ids. *Longest* includes the merges of runs that fall due.
Memory is that of the process at its end: what it allocated, and pages of the index that are mapped, which the system
takes back when it needs them. Run: ``python benchmarks/late_labels.py --held 20000000``
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from harness.results import Measure, arguments, show, work_folder

from spinney.core.records.recent_ids import IdHashes
from spinney.core.timestamps import from_microseconds
from spinney.storage.label_index.arrived_rows import Arrived
from spinney.storage.label_index.label_index import LABEL, IndexShape, LabelIndex, ReadThrough

SECOND = 1_000_000
FILLED_AT_ONCE = 200_000
ANSWERS = pa.schema(
    [
        ("shard", pa.int32()),
        ("group_key", pa.string()),
        ("model_id", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("prediction", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Load:
    """Prediction number n is made n / rate seconds after the start, for one of some groups."""

    held: int
    groups: int
    rate: int

    @property
    def shape(self) -> IndexShape:
        """Of an index with the predictions of one horizon."""
        return IndexShape(timedelta(seconds=self.held / self.rate), ANSWERS, pa.float64())

    def time_us(self, numbers: np.ndarray) -> np.ndarray:
        """When these predictions are made."""
        return numbers * SECOND // self.rate

    def predictions(self, numbers: np.ndarray) -> Arrived:
        """Return the predictions with these numbers."""
        group, at_us = numbers % self.groups, self.time_us(numbers)
        columns = {
            "shard": pa.array((group % 64).astype(np.int32)),
            "group_key": self._keys(group),
            "model_id": pc.utf8_lpad(pa.array(group).cast(pa.string()), 64, "0"),
            "event_time": pa.array(at_us).cast(pa.timestamp("us", "UTC")),
            "prediction": pa.array(numbers.astype(np.float64)),
        }
        return Arrived(self._ids(numbers), at_us, pa.table(columns, schema=ANSWERS))

    def outcomes(self, numbers: np.ndarray, at_us: np.ndarray) -> Arrived:
        """Return the labels of these predictions. at_us: of their arrival."""
        return Arrived(self._ids(numbers), at_us, pa.table({LABEL: pa.array(numbers.astype(np.float64))}))

    def _ids(self, numbers: np.ndarray) -> IdHashes:
        names = pc.binary_join_element_wise("event-", pa.array(numbers).cast(pa.string()), "")
        return IdHashes.of(self._keys(numbers % self.groups), names)

    def _keys(self, groups: np.ndarray) -> pa.Array:
        return pc.binary_join_element_wise('["AA","', pa.array(groups).cast(pa.string()), '"]', "")


class Stream:
    """Batches of a load, by an index in a folder."""

    def __init__(self, load: Load, folder: Path) -> None:
        self.load, self.folder = load, folder
        self.index, self.batches, self.made = LabelIndex(folder, load.shape), 0, 0
        self.labelled: set[int] = set()
        self.random = np.random.default_rng(1)

    def fill(self) -> None:
        """Add the outcomes of two horizons, of events that nobody answered, and the predictions of the second one."""
        while self.made < 2 * self.load.held:
            numbers = np.arange(self.made, min(self.made + FILLED_AT_ONCE, 2 * self.load.held))
            outcomes = self._first(self.load.outcomes(-numbers, self.load.time_us(numbers)))
            self._add(numbers, self.load.predictions(numbers[numbers >= self.load.held]), outcomes)

    def batch(self, rows: int) -> tuple[float, float]:
        """Process a batch with as many predictions and as many outcomes. Returns its CPU and wall milliseconds."""
        numbers = np.arange(self.made, self.made + rows)
        now = self.load.time_us(numbers)
        late = self.random.choice(self.load.held - 2 * rows, rows, replace=False) + rows
        labelled = numbers[0] - late
        cpu, wall = time.process_time(), time.perf_counter()
        predictions = self.load.predictions(numbers)
        outcomes = self._first(self.load.outcomes(labelled, now))
        joined = self.index.join(predictions, outcomes)
        self._add(numbers, predictions, outcomes)
        took = (time.process_time() - cpu) * 1000, (time.perf_counter() - wall) * 1000
        assert joined.num_rows == rows - len(self.labelled.intersection(labelled.tolist()))  # first labels count
        self.labelled.update(labelled.tolist())
        assert joined["prediction"].equals(joined[LABEL])
        return took

    def _first(self, outcomes: Arrived) -> Arrived:
        places = (np.zeros(len(outcomes), np.int32), np.arange(len(outcomes)))
        return self.index.with_first(outcomes, places)

    def _add(self, numbers: np.ndarray, predictions: Arrived, outcomes: Arrived) -> None:
        self.index.add(predictions, outcomes)
        self.made += len(numbers)
        began = from_microseconds(int(self.load.time_us(numbers)[-1]))
        self.index.store(ReadThrough("c", self.batches, []), began)
        self.batches += 1


def memory_mb(kind: str) -> float:
    """Return the memory of this process, MB. kind: RssAnon or RssFile. NaN without Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(f"{kind}:"))
    return int(line.split()[1]) / 1024


def main(words: Sequence[str] | None = None) -> None:
    """Run the benchmark. words: of the command line."""
    sizes = {"held": 20_000_000, "groups": 50_000, "rate": 2_000, "rows": 4_000, "batches": 200}
    asked = arguments(__doc__ or "", sizes, needs_broker=False).parse_args(words)
    names = ("p50", "p95", "longest")
    cpu, wall = ([Measure(f"a batch, {kind}, {name}", "ms") for name in names] for kind in ("CPU", "wall"))
    size = Measure("files per prediction held", "bytes")
    filled = Measure("filling, per prediction and two outcomes", "µs CPU")
    memory = {kind: Measure(f"memory, {kind}", "MB") for kind in ("RssAnon", "RssFile")}
    for _ in range(asked.runs):
        with work_folder() as folder:
            stream, began = Stream(Load(asked.held, asked.groups, asked.rate), folder), time.process_time()
            stream.fill()
            filled.add((time.process_time() - began) * 1e6 / asked.held)
            took = np.array([stream.batch(asked.rows) for _ in range(asked.batches)])
            for measures, values in zip((cpu, wall), took.T, strict=True):
                for measure, value in zip(measures, np.quantile(values, [0.5, 0.95, 1.0]), strict=True):
                    measure.add(float(value))
            size.add(sum(file.stat().st_size for file in folder.iterdir()) / asked.held)
            for kind, measure in memory.items():
                measure.add(memory_mb(kind))
    show(asked, [*cpu, *wall, filled, size, *memory.values()])


if __name__ == "__main__":
    main()
