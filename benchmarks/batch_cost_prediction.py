"""Cost of `retrain --all` compared with the prediction of `retrain --all --dry-run`: seconds, memory, bytes.

A synthetic fleet is loaded into a temporary folder. Batch and prediction run in a process each, and both are timed from
when Spark has started. The batch writes all tables and reports to MLflow. Compared memory is that of the Python workers
as PSS, which divides shared pages among the processes (Linux only). CPU seconds and peak memory are those of the
process tree of the batch, including the start of Spark.

Run: ``python benchmarks/batch_cost_prediction.py --groups 5000 --rows 50 --estimator ridge``
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from harness.commands import OF_MODULES
from harness.fleet import LabelModel, Rows, Settings
from harness.process_tree import WORKERS, Usage, peak_mb, python, run

from schemas import tables
from spinney.core.config import parse
from spinney.storage.layout import FleetStore

INTERVAL_S = 0.25
"""Seconds between samples of memory: a task holds its most for about a second."""

COUNTS = ("groups_in", "fitted", "failed", "too_few_rows", "promoted", "unproven", "refused")
"""Columns of `rounds` that say what became of the groups."""


def loaded(folder: Path, groups: int, rows: int, estimator: str) -> Path:
    """Load a fleet's events as `spinney load` does, so that the table is clustered by group. Returns its configuration.

    A table in which each file has all shards is read whole by each task: a worst case that `spinney tidy` ends.
    """
    from batch.load import load

    file = Settings("weekly", groups).write(folder)
    file.write_text(file.read_text().replace('estimator = "ridge"', f"estimator = {json.dumps(estimator)}"))
    Rows(rows).write(LabelModel(groups), folder / "rows")
    load(parse(file.read_text(), "fleet.toml", {}), str(folder / "rows"))
    shutil.rmtree(folder / "rows")
    return file


def said(file: Path) -> dict[str, float]:
    """Return the prediction of the dry run."""
    from batch.estimate import estimate
    from spinney.cli.options import spark_session
    from spinney.storage.config_file import read_config

    config = read_config(file)
    spark = spark_session(config)
    began = time.perf_counter()
    found = estimate(config, spark=spark)
    return {**found.__dict__, "took": time.perf_counter() - began}


def real(file: Path) -> dict[str, float]:
    """Return the cost of the retraining."""
    from batch.weekly import retrain
    from spinney.cli.options import spark_session
    from spinney.storage.config_file import read_config

    config = read_config(file)
    spark = spark_session(config)
    parts = []
    began = time.perf_counter()
    done = retrain(config, spark=spark, show=lambda _, progress: parts.append(progress.done)) or {}
    seconds = time.perf_counter() - began
    kept = [Path(FleetStore.of(config).directory(base, "batch").uri) for base in (tables.MODELS, tables.PROMOTIONS)]
    size = sum(path.stat().st_size for folder in kept for path in folder.glob("*.parquet"))
    counts = {name: int(str(done[name])) for name in COUNTS}
    return {"seconds": seconds, "parts": len(parts), "table_bytes": size, **counts}


def alone(what: str, file: Path) -> tuple[dict[str, float], Usage]:
    """Run one size in a new process. Returns what it found, and the cost of its process tree."""
    command = python(__file__, what, str(file))
    usage = run(command, file.parent, name=what, environment=OF_MODULES, interval_s=INTERVAL_S)
    return json.loads((file.parent / f"{what}.out").read_text().splitlines()[-1]), usage


def main() -> None:
    """Run the benchmark."""
    if len(sys.argv) == 3 and sys.argv[1] in ("said", "real"):
        print(json.dumps({"said": said, "real": real}[sys.argv[1]](Path(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=5_000)
    parser.add_argument("--rows", type=int, default=50, help="of each group")
    parser.add_argument("--estimator", default="ridge")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = loaded(Path(folder), asked.groups, asked.rows, asked.estimator)
        (expected, _), (found, usage) = alone("said", file), alone("real", file)
    counts = {name: int(found[name]) for name in COUNTS}
    if not counts["groups_in"] == counts["fitted"] == asked.groups:
        raise SystemExit(f"batch_cost_prediction: expected {asked.groups} groups, all fitted; got {counts}")
    print(f"{asked.groups:,} groups of {asked.rows} rows, {asked.estimator}; said within {expected['took']:.0f} s")
    found["memory_bytes"] = peak_mb(usage.memory_by_kind.get(WORKERS, ())) * 1e6
    for name, unit, scale in (
        ("seconds", "s", 1),
        ("memory_bytes", "MB", 1e6),
        ("table_bytes", "MB", 1e6),
        ("parts", "", 1),
    ):
        was = found[name]
        compared = f"said {expected[name] / scale:8.1f} {unit}, was {was / scale:8.1f}"
        print(f"{name:>13}: {compared}, ratio {expected[name] / was if was else float('nan'):.2f}")
    low, high = (expected[f"memory_{end}_bytes"] / 1e6 for end in ("low", "high"))
    seconds = f"{expected['seconds_low']:.1f} to {expected['seconds_high']:.1f} s"
    print(f"{'range said':>13}: {seconds}, {low:,.0f} to {high:,.0f} MB")
    print(f"{'CPU':>13}: {usage.cpu_s:.0f} s, {usage.cpu_s / asked.groups * 1e3:.2f} ms a group")
    print(f"{'peak memory':>13}: {usage.peak_mb:,.0f} MB")
    print(", ".join(f"{name} {count:,}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
