"""`spinney load` of a history as a whole command: seconds, rows a second, peak memory of its processes.

The history is one Parquet file of G groups × R rows × 8 features, its rows in the order of time, so that each group's
are scattered over the whole file. Each run loads it into a new fleet, then 1,000 other rows into the same fleet. The
peer copies the same file into a Delta table and does nothing else: by Polars where that is installed, else by pyarrow
and delta-rs. Memory is the sum of PSS over a process and all that it started, sampled five times a second (Linux; null
elsewhere).

Run: ``python benchmarks/load.py``, or ``--groups 1000 --rows 10 --runs 1`` for a quick look; ``--json`` for all
figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = tuple(f"x{at}" for at in range(8))
FEW = 1_000
PART_ROWS = 1_000_000
ROW_GROUP_ROWS = 250_000
FIRST = 1_700_000_000
SAMPLES_PER_SECOND = 5

TEXT = """\
[fleet]
name = "load"
group = ["shop"]
event_id = "sale"
event_time = "at"
target = "sold"
features = {features}
[fleet.columns]
shop = "string"
{columns}
[kafka]
events = "sales"
[storage]
root = "{root}"
"""

SPINNEY = "from spinney.cli import main; main()"
PEER_BY_POLARS = "import sys, polars; polars.scan_parquet(sys.argv[1]).collect().write_delta(sys.argv[2])"
PEER_BY_PYARROW = (
    "import sys, pyarrow.dataset as ds; from deltalake import write_deltalake; "
    "write_deltalake(sys.argv[2], ds.dataset(sys.argv[1]).scanner(batch_readahead=2).to_reader())"
)


@dataclass(frozen=True)
class Used:
    """Cost of a command. cpu_s: user and system seconds; peak_mb: of it and its descendants together."""

    wall_s: float
    cpu_s: float
    peak_mb: float | None


@dataclass(frozen=True)
class Run:
    """The costs of one run."""

    spinney: Used
    few: Used
    peer: Used


def write_history(file: Path, groups: int, rows: int, first: int = 0) -> None:
    """Write groups × rows rows, a row of every group after the other. first: number of the first row of a group."""
    random = np.random.default_rng(first)
    shops = pa.array([f"shop-{at:07}" for at in range(groups)])
    writer = None
    per_part = max(1, PART_ROWS // groups)
    for start in range(first, first + rows, per_part):
        count = min(per_part, first + rows - start)
        group = np.tile(np.arange(groups), count)
        row = np.repeat(np.arange(start, start + count), groups)
        columns = {
            "shop": shops.take(pa.array(group)),
            "sale": pa.array(np.char.add(np.char.add(group.astype("U8"), "-"), row.astype("U8"))),
            "at": pa.array((FIRST + 60 * row + group % 60) * 1_000_000, pa.timestamp("us", "UTC")),
            **{name: random.normal(size=len(group)) for name in (*FEATURES, "sold")},
        }
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    if writer is not None:
        writer.close()


def used(command: list[str], log: Path) -> tuple[Used, str]:
    """Run a command. Returns its cost and its output. Raises RuntimeError: it failed."""
    began = time.monotonic()
    with log.open("wb") as err:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err)
    peaks = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, peaks))
    watcher.start()
    said = process.stdout.read() if process.stdout is not None else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode} of {command}:\n{log.read_text()[-2000:]}")
    return Used(wall, usage.ru_utime + usage.ru_stime, max(peaks) or None), said.decode()


def _watch(process: subprocess.Popen[bytes], peaks: list[float]) -> None:
    while process.returncode is None:
        peaks.append(sum(_pss_mb(pid) for pid in _tree(process.pid)))
        time.sleep(1 / SAMPLES_PER_SECOND)


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if Path("/proc").is_dir() else []:
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def _pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def peer() -> tuple[str, str]:
    """Return name -> script of each peer."""
    try:
        return f"polars {version('polars')}", PEER_BY_POLARS
    except PackageNotFoundError:
        return f"pyarrow {version('pyarrow')} and deltalake {version('deltalake')}", PEER_BY_PYARROW


def run_once(place: Path, history: Path, few: Path, rows: int) -> Run:
    """Load the history into a new fleet, and measure each command."""
    root, config = place / "root", place / "fleet.toml"
    names = ", ".join(f'"{name}"' for name in FEATURES)
    columns = "\n".join(f'{name} = "double"' for name in (*FEATURES, "sold"))
    config.write_text(TEXT.format(features=f"[{names}]", columns=columns, root=root))
    command = [sys.executable, "-c", SPINNEY, "load", "--json", "--config", str(config)]
    ours, said = used([*command, str(history)], place / "load.log")
    if json.loads(said)["added"] != {"events": rows, "dead_letters": 0}:
        raise RuntimeError(f"expected {rows} events; got {said}")
    again, said = used([*command, str(few)], place / "few.log")
    if json.loads(said)["added"] != {"events": FEW, "dead_letters": 0}:
        raise RuntimeError(f"expected {FEW} events; got {said}")
    theirs, _ = used([sys.executable, "-c", peer()[1], str(history), str(place / "peer")], place / "peer.log")
    for folder in (root, place / "peer"):
        shutil.rmtree(folder)
    return Run(ours, again, theirs)


def machine() -> str:
    """Return cores and memory as text."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def summary(runs: list[Run], rows: int) -> dict[str, Any]:
    """Return medians and the values of all runs."""
    wall = median(run.spinney.wall_s for run in runs)
    peaks = [run.spinney.peak_mb for run in runs if run.spinney.peak_mb]
    return {
        "rows": rows,
        "seconds": wall,
        "rows_per_second": rows / wall,
        "cpu_seconds": median(run.spinney.cpu_s for run in runs),
        "peak_mb": max(peaks, default=None),
        "seconds_few": median(run.few.wall_s for run in runs),
        "peer": peer()[0],
        "seconds_peer": median(run.peer.wall_s for run in runs),
        "ratio": median(run.spinney.wall_s / run.peer.wall_s for run in runs),
        "cpu_ratio": median(run.spinney.cpu_s / run.peer.cpu_s for run in runs),
        "runs": [asdict(run) for run in runs],
        "versions": {name: version(name) for name in ("pyarrow", "deltalake", "numpy")}
        | {"python": sys.version.split()[0]},
        "machine": machine(),
    }


def show(found: dict[str, Any]) -> None:
    """Print the results as a table."""
    of_peer = [run["peer"] for run in found["runs"]]
    print(f"{'':<24} {'seconds':>8} {'CPU s':>8} {'rows/s':>10} {'peak MB':>8}")
    peak = f"{found['peak_mb']:,.0f}" if found["peak_mb"] else "–"
    print(
        f"{'load, rows ' + format(found['rows'], ','):<24} {found['seconds']:>8.2f} {found['cpu_seconds']:>8.2f} "
        f"{found['rows_per_second']:>10,.0f} {peak:>8}"
    )
    print(f"{'load, rows ' + format(FEW, ','):<24} {found['seconds_few']:>8.2f}")
    cpu = median(run["cpu_s"] for run in of_peer)
    print(f"{'peer: copy to Delta':<24} {found['seconds_peer']:>8.2f} {cpu:>8.2f}")
    print(
        f"ratio to the peer ({found['peer']}): {found['ratio']:.2f} in seconds, {found['cpu_ratio']:.2f} in CPU seconds"
    )
    print(f"machine: {found['machine']}; versions: {found['versions']}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=50_000)
    parser.add_argument("--rows", type=int, default=50, help="of each group")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object: all runs, versions, machine")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spinney-benchmark-") as folder:
        place = Path(folder)
        history, few = place / "history.parquet", place / "few.parquet"
        write_history(history, asked.groups, asked.rows)
        write_history(few, FEW // 2, 2, first=500_000)
        rows = asked.groups * asked.rows
        found = summary([run_once(place, history, few, rows) for _ in range(asked.runs)], rows)
    if asked.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
