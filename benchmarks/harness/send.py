"""Send events to a topic in a process of its own: ``python -m harness.send SERVERS TOPIC GROUPS RECORDS``.

Without ``--rate`` as fast as the broker takes them (50,000 records/s and more on one core). With ``--turn N`` it sends
the load of `benchmarks/freshness.py`: each second N groups get all the events that make them stale, the groups turned
before are asked again every three seconds, and the other groups share the rest of the rate. Prints what was sent.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from confluent_kafka import Producer

from harness.fleet import FEATURES, LabelModel, group_id, group_key

RECORDS_A_BLOCK = 10_000
SLICES_A_SECOND = 50
SECONDS_BETWEEN_PROBES = 3
VALUE = '{"gid":"%s","id":"%s","t":"%s",' + ",".join(f'"{name}":%r' for name in FEATURES) + ',"y":%r}'

Block = tuple[list[int], list[str]]
"""The groups and event ids of a load, in the order of sending."""


def uniform(groups: int, records: int, prefix: str, block: int) -> Iterator[Block]:
    """Groups drawn at random; the ids are `prefix` and a running number."""
    random = np.random.default_rng(len(prefix) + groups)
    for first in range(0, records, block):
        count = min(block, records - first)
        yield random.integers(0, groups, count).tolist(), [f"{prefix}{n}" for n in range(first, first + count)]


@dataclass(frozen=True)
class Turning:
    """Each second `turn` new groups get `rows` events each, the last with the id ``turned-GROUP``.

    After `seconds` no further group turns; the probes go on until the last one has had `probe_seconds` of them.
    """

    groups: int
    seconds: int
    rate: int
    turn: int
    rows: int
    probe_seconds: int

    def blocks(self) -> Iterator[Block]:
        """One for each second."""
        random, turned = np.random.default_rng(self.groups), self.turn * self.seconds
        if turned >= self.groups:
            raise SystemExit(f"{turned} groups would turn stale; expected fewer than the {self.groups} that there are")
        for second in range(self.seconds + self.probe_seconds):
            chosen, ids = self._turned(second)
            rest = max(0, self.rate - len(chosen))
            chosen += random.integers(turned, self.groups, rest).tolist()
            ids += [f"rest-{second}-{n}" for n in range(rest)]
            yield chosen, ids

    def _turned(self, second: int) -> Block:
        """The events of the groups that turn now, and of those that did before."""
        new = self._of(second)
        chosen = [group for _ in range(self.rows) for group in new]
        ids = [f"turn-{second}-{n}" for n in range(len(chosen) - len(new))] + [f"turned-{group}" for group in new]
        for ago in range(SECONDS_BETWEEN_PROBES, self.probe_seconds + 1, SECONDS_BETWEEN_PROBES):
            chosen += self._of(second - ago)
            ids += [f"probe-{second}-{group}" for group in self._of(second - ago)]
        return chosen, ids

    def _of(self, second: int) -> range:
        """The groups that turn in a second."""
        return range(second * self.turn, (second + 1) * self.turn) if 0 <= second < self.seconds else range(0)


def values(label_model: LabelModel, block: Block, random: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Yield (key, value) of each record of a block, with the current time."""
    groups, ids = block
    x = random.normal(size=(len(groups), len(FEATURES))).round(4)
    y = label_model.labels(np.array(groups), x, random.normal(size=len(groups))).round(4).tolist()
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for group, name, row, label in zip(groups, ids, x.tolist(), y, strict=True):
        yield group_key(group), VALUE % (group_id(group), name, now, *row, label)


def send(producer: Producer, topic: str, label_model: LabelModel, blocks: Iterator[Block], rate: float) -> int:
    """rate: records a second; 0: as fast as possible. Returns how many were acknowledged. Raises RuntimeError."""
    random, sent, failed = np.random.default_rng(label_model.seed), 0, []
    began = time.monotonic()
    a_slice = max(1, round(rate / SLICES_A_SECOND)) if rate else 0

    def told(error: object, _: object) -> None:
        if error is not None:
            failed.append(str(error))

    for block in blocks:
        for key, value in values(label_model, block, random):
            while True:
                try:
                    producer.produce(topic, key=key, value=value, on_delivery=told if sent % 1000 == 0 else None)
                    break
                except BufferError:
                    producer.poll(0.05)
            sent += 1
            if a_slice and sent % a_slice == 0:
                producer.poll(0)
                time.sleep(max(0.0, began + sent / rate - time.monotonic()))
        producer.poll(0)
    left = producer.flush(60)
    if left or failed:
        raise RuntimeError(f"topic {topic}: {left} of {sent} records not acknowledged; {failed[:1]}")
    return sent


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers")
    parser.add_argument("topic")
    parser.add_argument("groups", type=int)
    parser.add_argument("records", type=int, help="with --turn: seconds in which groups turn stale")
    parser.add_argument("--rate", type=float, default=0.0, help="records a second [no limit]")
    parser.add_argument("--prefix", default="e", help="of the event ids [e]")
    parser.add_argument("--turn", type=int, default=0, help="groups a second that turn stale")
    parser.add_argument("--rows", type=int, default=25, help="events that make a group stale [25]")
    parser.add_argument("--probe-seconds", type=int, default=90, help="how long a turned group is asked again [90]")
    asked = parser.parse_args(arguments)
    settings = {"bootstrap.servers": asked.servers, "enable.idempotence": True, "linger.ms": 5}
    producer = Producer({**settings, "queue.buffering.max.messages": 500_000})
    if asked.turn:
        rate, probes = round(asked.rate), asked.probe_seconds
        blocks = Turning(asked.groups, asked.records, rate, asked.turn, asked.rows, probes).blocks()
    else:
        # A paced block is a fifth of a second, so that no record's time is older than that.
        block = max(1, round(asked.rate / 5)) if asked.rate else RECORDS_A_BLOCK
        blocks = uniform(asked.groups, asked.records, asked.prefix, block)
    began = time.monotonic()
    sent = send(producer, asked.topic, LabelModel(asked.groups), blocks, asked.rate)
    print(json.dumps({"sent": sent, "seconds": round(time.monotonic() - began, 3)}))


if __name__ == "__main__":
    main()
