"""How fast `ingest` and `score` process a backlog, compared with the no-op query and a hand-written consumer.

A broker, a topic of events of many groups, a linear champion for each group. In turn, each a process of its own: the
no-op query (Kafka → from_json → to_json → Kafka with our session settings), `spinney stream --once --only ingest`,
`--only score`, a confluent-kafka loop. The rate is that of the batches after the first (which is JIT and start-up) up
to the beginning of the last. CPU is that of the whole process tree, start-up too, without the broker.

Targets: ingest ≥ 0.6 × no-op; score ≥ 0.5 × no-op, with deduplication, state, interval columns and all sinks.
Run: ``python benchmarks/stream.py --groups 50000 --records 1200000``
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.broker import make_topics, serving
from harness.commands import Commands, Spinney
from harness.fleet import LabelModel, Settings, write_champions
from harness.process_tree import Usage
from harness.results import Measure, arguments, show, work_folder

from schemas import tables
from schemas.contract import Contract
from spinney.core.config import Config
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import delta

Batches = list[tuple[float, int]]
"""(second at which it began, rows) of each batch."""


def rate_of(batches: Batches, whole_s: float) -> float:
    """Return rows per second from the start of the second batch to that of the last; of few batches, overall."""
    if len(batches) < 4:
        return sum(rows for _, rows in batches) / whole_s
    return sum(rows for _, rows in batches[1:-1]) / (batches[-1][0] - batches[1][0])


def batches_of(config: Config, table: Contract, timestamp: str) -> Batches:
    """Return the batches, from the times of arrival in the table."""
    columns = delta.read_table(FleetStore.of(config), table, ["batch_id", timestamp]).to_pydict()
    rows = Counter(columns["batch_id"])
    began = dict(zip(columns["batch_id"], columns[timestamp], strict=True))
    return [(began[batch].timestamp(), rows[batch]) for batch in sorted(rows)]


def expect(what: str, batches: Batches, records: int) -> None:
    """Raise RuntimeError if rows are missing or duplicated."""
    if (found := sum(rows for _, rows in batches)) != records:
        raise RuntimeError(f"{what}: expected {records} rows, found {found}")


class Backlog:
    """A fleet whose topic has `records` events, and the processes that read them."""

    def __init__(self, file: Path, commands: Commands, groups: int, records: int) -> None:
        self.config, self.spinney = read_config(file), commands(file)
        self.file, self.groups, self.records = file, groups, records
        self.noop_topic, self.consumer_topic = (f"{self.config.fleet.name}.{name}" for name in ("noop", "consumer"))
        make_topics(self.config, self.noop_topic, self.consumer_topic)
        write_champions(self.config, LabelModel(groups))

    def send(self) -> float:
        """Fill the topic. Returns records per second."""
        place = [self.config.kafka.bootstrap_servers, self.config.kafka.events]
        sent = json.loads(self.spinney.run_module("harness.send", *place, str(self.groups), str(self.records))[1])
        return float(sent["sent"] / sent["seconds"])

    def noop(self) -> tuple[float, Usage]:
        """Measure the no-op query. Returns rows per second and cost."""
        usage, printed = self.spinney.run_module("harness.noop", str(self.file), self.noop_topic)
        batches = json.loads(printed.splitlines()[-1])
        expect("the no-op query", batches, self.records)
        return rate_of(batches, usage.wall_s), usage

    def query(self, name: str, table: Contract, timestamp: str) -> tuple[float, Usage]:
        """Measure one of Spinney's queries, by the table that it fills. Returns rows per second and cost."""
        usage, _ = self.spinney.run("stream", "--once", "--only", name)
        batches = batches_of(self.config, table, timestamp)
        expect(f"query {name}", batches, self.records)
        return rate_of(batches, usage.wall_s), usage

    def consumer(self) -> float:
        """Measure the hand-written consumer. Returns rows per second."""
        place = [self.config.kafka.bootstrap_servers, self.config.kafka.events, self.consumer_topic]
        seconds, rows = json.loads(self.spinney.run_module("harness.consumer", *place, str(self.groups))[1])
        expect("the hand-written consumer", [(0.0, rows)], self.records)
        return float(rows / seconds)


def main(arguments_given: Sequence[str] | None = None, commands: Commands = Spinney) -> None:
    """Run the benchmark."""
    asked = arguments(__doc__ or "", {"groups": 50_000, "records": 1_200_000}).parse_args(arguments_given)
    noop, loop = "no-op query", "hand-written consumer"
    ingest = Measure("ingest, backlog", "events/s", "more", noop, "≥ 0.6 ×")
    score = Measure("score, backlog", "events/s", "more", noop, "≥ 0.5 ×")
    ingest_cpu = Measure("ingest, whole command", "CPU s", "less", noop)
    score_cpu = Measure("score, whole command", "CPU s", "less", noop)
    by_hand = Measure("score against the consumer", "events/s", "more", loop)
    sending = Measure("load generator", "records/s", "more", "", "> 20,000")
    queries = (
        ("ingest", tables.EVENTS, "ingested_at", ingest, ingest_cpu),
        ("score", tables.PREDICTIONS, "scored_at", score, score_cpu),
    )
    with work_folder() as place, serving(place, asked.bootstrap_servers) as servers:
        for turn in range(asked.runs):
            folder = place / f"run-{turn}"
            folder.mkdir()
            name = f"backlog-{uuid.uuid4().hex[:8]}"
            file = Settings(name, asked.groups, servers, spark=tuple(asked.spark)).write(folder)
            backlog = Backlog(file, commands, asked.groups, asked.records)
            sending.add(backlog.send())
            limit, usage_of_noop = backlog.noop()
            for name, table, timestamp, rate, cpu in queries:
                found, usage = backlog.query(name, table, timestamp)
                rate.add(found, peer=limit, peak_mb=usage.peak_mb)
                cpu.add(usage.cpu_s, peer=usage_of_noop.cpu_s)
            by_hand.add(score.values[-1], peer=backlog.consumer())
    show(asked, [ingest, score, ingest_cpu, score_cpu, by_hand, sending])


if __name__ == "__main__":
    main()
