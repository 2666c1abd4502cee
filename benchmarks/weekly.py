"""Cost of `retrain --all` compared with the prediction of `retrain --all --dry-run`: seconds, memory, bytes.

Both in a process of their own, both counted once Spark has started. A fleet of made-up groups is written to a temporary
folder. Run: ``python benchmarks/weekly.py --groups 5000 --rows 50 --estimator ridge``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from schemas import tables
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema

FEATURES = [f"x{n}" for n in range(8)]
START = datetime(2024, 5, 1, tzinfo=UTC)
TEXT = """
[fleet]
name = "benchmark"
group = ["device"]
event_id = "id"
event_time = "at"
target = "y"
features = {features}
[fleet.columns]
device = "string"
y = "double"
{columns}
[recipe]
estimator = "{estimator}"
min_rows = 10
[kafka]
events = "events"
[storage]
root = "{root}"
[tracking]
mode = "off"
"""
WRITTEN_AT_ONCE = 500_000


def written(folder: Path, groups: int, rows: int, estimator: str) -> Path:
    """Write a fleet's events. Returns its configuration."""
    columns = "\n".join(f'{name} = "double"' for name in FEATURES)
    text = TEXT.format(features=json.dumps(FEATURES), columns=columns, estimator=estimator, root=folder / "root")
    config = parse(text, "fleet.toml", {})
    delta.create_tables(FleetStore.of(config))
    at_once = max(1, WRITTEN_AT_ONCE // rows)
    for first in range(0, groups, at_once):
        _write(config, range(first, min(groups, first + at_once)), rows)
    file = folder / "fleet.toml"
    file.write_text(text)
    return file


def _write(config: Config, groups: range, rows: int) -> None:
    place = FleetStore.of(config).directory(tables.EVENTS)
    schema = arrow_schema(place.contract)
    random, count = np.random.default_rng(groups.start), len(groups) * rows
    devices = [f"d{n:06d}" for n in groups]
    names = [keys.encode([device]) for device in devices]
    shards = [keys.shard_of(name, config.fleet.shards) for name in names]
    features = {name: random.normal(size=count) for name in FEATURES}
    hours = np.tile(np.arange(rows), len(groups))
    columns = {
        "shard": np.repeat(shards, rows).astype(np.int32),
        "group_key": np.repeat(names, rows),
        "device": np.repeat(devices, rows),
        "event_id": [f"{n}" for n in range(count)],
        "event_time": [START + timedelta(hours=int(hour)) for hour in hours],
        "y": sum(features.values()) + random.normal(size=count),
        "topic": ["events"] * count,
        "kafka_partition": np.zeros(count, np.int32),
        "kafka_offset": np.arange(count),
        "ingested_at": [START] * count,
        "ingested_on": [START.date()] * count,
        "batch_id": np.zeros(count, np.int64),
        **features,
    }
    table = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
    write_deltalake(place.uri, table, mode="append")


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
    from batch.estimate import worker_peak_bytes
    from batch.weekly import retrain
    from spinney.cli.options import spark_session
    from spinney.spark.session import cores_of
    from spinney.storage.config_file import read_config

    config = read_config(file)
    spark = spark_session(config)
    parts = []
    began = time.perf_counter()
    retrain(config, spark=spark, show=lambda _, progress: parts.append(progress.done))
    seconds = time.perf_counter() - began
    kept = [Path(FleetStore.of(config).directory(base, "batch").uri) for base in (tables.MODELS, tables.PROMOTIONS)]
    size = sum(path.stat().st_size for folder in kept for path in folder.glob("*.parquet"))
    memory = cores_of(spark) * worker_peak_bytes(spark)
    return {"seconds": seconds, "parts": len(parts), "memory_bytes": memory, "table_bytes": size}


def alone(what: str, file: Path) -> dict[str, float]:
    """Run one size in a new process."""
    known = {**os.environ, signing_key.KEY: "only for this benchmark"}
    command = [sys.executable, __file__, what, str(file)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=known)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


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
        file = written(Path(folder), asked.groups, asked.rows, asked.estimator)
        expected, found = alone("said", file), alone("real", file)
    print(f"{asked.groups:,} groups of {asked.rows} rows, {asked.estimator}; said within {expected['took']:.0f} s")
    for name, unit, scale in (
        ("seconds", "s", 1),
        ("memory_bytes", "MB", 1e6),
        ("table_bytes", "MB", 1e6),
        ("parts", "", 1),
    ):
        ratio = expected[name] / found[name]
        print(
            f"{name:>13}: said {expected[name] / scale:8.1f} {unit}, was {found[name] / scale:8.1f}, ratio {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
