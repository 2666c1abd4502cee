"""Write the models of a sample in the tasks that fit them, as a batch does, without storing them.

A task writes its files into a temporary folder and returns their bytes, from which the driver's gate reads. So a sample
costs as much as a batch of its size. The task also reports the peak memory of its worker process.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from spinney.retraining.fitting.model_writer import ModelWriter

SAMPLE_DDL = "contents binary, worker_peak bigint, child_peak bigint"
_REPORT = pa.schema([("contents", pa.binary()), ("worker_peak", pa.int64()), ("child_peak", pa.int64())])

RUSAGE_UNIT_BYTES = 1024 if sys.platform != "darwin" else 1
_RESET_PEAK = "5"
"""Written to `clear_refs`, this makes Linux reset the peak resident memory to the present value."""


@dataclass(frozen=True)
class SampleWriter:
    """Writes the models of a sample. It is pickled and sent to Spark's workers.

    constants, shards: as for ModelWriter. is_peak_reset: whether to report the peak memory of the task only (Linux). If
    not, it is the peak since the worker started, which may have run larger tasks before.
    """

    constants: Mapping[str, Any]
    shards: int
    is_peak_reset: bool

    def write(self, fitted: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the models. Yields rows of SAMPLE_DDL: one for each file, and one with the peaks in bytes.

        worker_peak: of this process. child_peak: of the worker process that fits for it, which begins as a copy of this
        one.
        """
        if self.is_peak_reset:
            reset_peak()
        with tempfile.TemporaryDirectory(prefix="spinney-sample-") as folder:
            for _ in ModelWriter(Path(folder), self.constants, self.shards).write(fitted):
                pass
            files = [file.read_bytes() for file in sorted(Path(folder).iterdir())]
        rows = [*({"contents": contents} for contents in files), peaks()]
        yield pa.RecordBatch.from_pylist(rows, schema=_REPORT)


def reset_peak() -> None:
    """Set this process' peak resident memory to the present value; does nothing if the system cannot."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")


def peaks() -> dict[str, int]:
    """Return the peak resident memory of this process, since `reset_peak`, and of its ended children, in bytes."""
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * RUSAGE_UNIT_BYTES
    return {"worker_peak": _own_peak(), "child_peak": child}


def _own_peak() -> int:
    """Return the peak resident memory of this process in bytes.

    On Linux it is read from /proc. `getrusage` would include the parent's memory if another program started this
    process, and cannot be reset.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RUSAGE_UNIT_BYTES
