"""The no-op query: Kafka → from_json → to_json → Kafka, with Spinney's session settings.

Its source has the client's own poll size, as in a query that nobody has tuned; ours reads larger polls
(`streaming/kafka_source.py`).

What any query of Spark has to pay, and so the limit that ours are measured against. ``python -m harness.noop
fleet.toml TOPIC`` works off the events topic in batches as large as ours and prints (timestamp, rows) of each batch;
with ``--every SECONDS`` it runs with that trigger until SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from spinney.cli.options import spark_session
from spinney.core.config import Config
from spinney.storage.config_file import read_config

RECORDS_A_BATCH = 200_000
"""Maximum records per batch, as in Spinney's queries."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("topic")
    parser.add_argument("--every", type=float, default=0.0, help="seconds; the trigger")
    asked = parser.parse_args(arguments)
    config = read_config(asked.config)
    if asked.every:
        stopping = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())
        query = start(config, asked.topic, {"processingTime": f"{asked.every} seconds"})
        while not stopping.wait(0.2) and query.isActive:
            continue
        query.stop()
    else:
        query = start(config, asked.topic, {"availableNow": True})
        query.awaitTermination()
        batches = [(_seconds(progress["timestamp"]), progress["numInputRows"]) for progress in query.recentProgress]
        print(json.dumps([batch for batch in batches if batch[1]]))


def start(config: Config, topic: str, trigger: dict[str, Any]) -> StreamingQuery:
    """Start the query at the beginning of the events topic. topic: of the answers."""
    fleet, servers = config.fleet, {"kafka.bootstrap.servers": config.kafka.bootstrap_servers}
    raw = (
        spark_session(config)
        .readStream.format("kafka")
        .options(**servers)
        .option("kafka.fetch.max.wait.ms", 50)
        .option("subscribe", config.kafka.events)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", RECORDS_A_BATCH)
        .load()
    )
    types = {**fleet.columns, fleet.event_id: "string", fleet.event_time: "timestamp"}
    parsed = F.from_json(F.col("value").cast("string"), ", ".join(f"{name} {kind}" for name, kind in types.items()))
    checkpoint = f"{config.storage.root}/checkpoints/{topic}"
    writer = raw.select("key", F.to_json(parsed).alias("value")).writeStream.format("kafka").options(**servers)
    return writer.option("topic", topic).option("checkpointLocation", checkpoint).trigger(**trigger).start()


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


if __name__ == "__main__":
    main()
