"""The cost of read-only commands, each as a whole process, start of Python included.

The tables are those of two weekly rounds with a few decisions by people (tests/support/many_groups.py). `bare` is what
someone would write by hand for the first line: read the same columns by deltalake and pandas, keep each group's newest
promotion, print three. It knows nothing of epochs, pins, withdrawals, verdicts or failed attempts.

Seconds are the median and the range of the runs; CPU seconds are the child's own and suffer less from what else runs.
Peak memory is the largest resident set of any run.

Measured on 2 cores beside other work, 50,000 groups, 2,500,000 events:

    command            seconds        range   CPU s   x bare   peak MB   CPU s before
    bare                  1.11  1.07 –  3.50    1.02     1.00       373
    --help                0.13  0.11 –  0.15    0.09     0.09        19
    fleet --limit 3       1.39  1.16 –  2.07    1.06     1.04       334           10.0
    fleet --json          2.79  2.60 –  3.52    2.42     2.36       480           11.7
    why KEY               0.59  0.58 –  0.94    0.56     0.55       162            5.2

Run: ``python benchmarks/read_only_commands.py``; ``--groups 1000 --runs 1`` for a quick look; ``--json`` for all
figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from spinney.core import keys

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
MAKE = """\
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
from many_groups import write_fleet
write_fleet(Path(sys.argv[2]), int(sys.argv[3]), events=int(sys.argv[4]))
"""
"""Run in a process of its own, since a child's reported peak memory is never below that of its parent."""

SPINNEY = "from spinney.cli import main; main()"
BARE = """\
import json, os, sys
import pandas as pd
from deltalake import DeltaTable
names = ["group_key", "model_id", "decision", "trained_through", "fitted_at", "rows", "challenger_loss"]
tables = [DeltaTable(f"root/tables/promotions/{part}") for part in ("stream", "batch", "people")]
parts = [table.to_pandas(columns=names) for table in tables]
rows = pd.concat([part for part in parts if len(part)])
newest = rows[rows["decision"] == "promoted"].sort_values(["group_key", "trained_through", "fitted_at"])
newest = newest.drop_duplicates("group_key", keep="last")
events = DeltaTable("root/tables/events").to_pandas(columns=["group_key"])["group_key"].unique()
print(newest.head(3).to_string(), len(events), flush=True)
os._exit(0)  # a thread of deltalake's file system that returns while the interpreter ends aborts the process
"""
PACKAGES = ("deltalake", "pandas", "pyarrow")


def commands(groups: int) -> dict[str, list[str]]:
    """Return name -> command, to be run in the folder of fleet.toml."""
    some = keys.encode([f"s{min(123, groups - 1):06}"])
    spinney = {
        "--help": ["--help"],
        "fleet --limit 3": ["fleet", "--limit", "3"],
        "fleet --json": ["fleet", "--json"],
        "why KEY": ["why", some],
    }
    return {"bare": ["-c", BARE], **{name: ["-c", SPINNEY, *asked] for name, asked in spinney.items()}}


def run_once(arguments: Sequence[str], folder: Path) -> dict[str, float]:
    """Run one process. Returns seconds, CPU seconds and peak MB. Raises SystemExit: it failed."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen([sys.executable, *arguments], cwd=folder, stdout=said, stderr=errors)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        took = time.perf_counter() - began
        if child.returncode:
            errors.seek(0)
            raise SystemExit(f"{arguments}: expected exit 0, got {child.returncode}: {errors.read().decode()[-2000:]}")
        written = said.seek(0, os.SEEK_END)
    kilobytes = used.ru_maxrss / 1024 if sys.platform == "darwin" else used.ru_maxrss
    return {
        "seconds": took, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": kilobytes / 1024,
        "output_kb": written / 1024,
    }  # fmt: skip


def measured(folder: Path, groups: int, runs: int) -> list[dict[str, Any]]:
    """Measure all commands in turn, so that other load on the machine affects all of them alike."""
    asked = commands(groups)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
    for _ in range(runs):
        for name, arguments in asked.items():
            found[name].append(run_once(arguments, folder))
    return [{"command": name, **summary(seconds)} for name, seconds in found.items()]


def summary(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the median of each measure."""
    seconds = [run["seconds"] for run in runs]
    return {
        "seconds": round(statistics.median(seconds), 3),
        "seconds_range": [round(min(seconds), 3), round(max(seconds), 3)],
        "cpu_seconds": round(statistics.median(run["cpu_seconds"] for run in runs), 3),
        "peak_mb": round(max(run["peak_mb"] for run in runs)),
        "output_kb": round(runs[-1]["output_kb"]),
    }


def show(results: Sequence[Mapping[str, Any]]) -> None:
    """Print the results as a table."""
    print(f"{'command':<16} {'seconds':>8} {'range':>14} {'CPU s':>7} {'x bare':>7} {'peak MB':>8}")
    bare = results[0]["cpu_seconds"]
    for result in results:
        least, most = result["seconds_range"]
        times = f"{result['seconds']:8.2f} {least:6.2f} – {most:5.2f} {result['cpu_seconds']:7.2f}"
        print(f"{result['command']:<16} {times} {result['cpu_seconds'] / bare:7.2f} {result['peak_mb']:8,}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=50_000)
    parser.add_argument("--events", type=int, default=50, help="rows of `events` per group")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = [sys.executable, "-c", MAKE, str(SUPPORT), folder, str(asked.groups), str(asked.events)]
        subprocess.run(made, check=True)
        results = measured(Path(folder), asked.groups, asked.runs)
    if asked.json:
        machine = {"python": platform.python_version(), "platform": platform.platform(), "cpus": os.cpu_count()}
        versions = {name: metadata.version(name) for name in PACKAGES}
        said = {"groups": asked.groups, "events": asked.groups * asked.events, "runs": asked.runs}
        print(json.dumps({**said, "results": results, "machine": machine, "versions": versions}, indent=2))
    else:
        show(results)


if __name__ == "__main__":
    main()
