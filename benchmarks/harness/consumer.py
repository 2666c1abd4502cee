"""A hand-written scorer: one confluent-kafka loop, weights and the mean absolute error of each group in dicts.

What somebody writes in an afternoon: no state that outlives the process, no deduplication, no tables, no validation.
``python -m harness.consumer SERVERS EVENTS PREDICTIONS GROUPS`` works off the topic and prints (seconds, rows).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Producer

from harness.broker import records
from harness.fleet import FEATURES, LabelModel, group_id

try:
    import orjson

    loads, dumps = orjson.loads, orjson.dumps
except ImportError:
    loads, dumps = json.loads, json.dumps

SMOOTHING = 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    words = sys.argv[1:] if arguments is None else arguments
    servers, events, predictions, groups = *words[:3], int(words[3])
    label_model = LabelModel(groups)
    weights = {group_id(group): row for group, row in enumerate(label_model.weights.tolist())}
    constants = {group_id(group): group % 7.0 for group in range(groups)}
    errors: dict[str, float] = {}
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "queue.buffering.max.messages": 500_000})
    began, count = time.perf_counter(), 0
    for _, value in records(servers, events):
        event: dict[str, Any] = loads(value)
        group = event["gid"]
        answer = constants[group] + sum(w * event[name] for w, name in zip(weights[group], FEATURES, strict=True))
        errors[group] = errors.get(group, 0.0) * (1 - SMOOTHING) + abs(answer - event["y"]) * SMOOTHING
        message = dumps({"event_id": event["id"], "group_key": group, "prediction": answer, "error": errors[group]})
        while True:
            try:
                producer.produce(predictions, key=group, value=message)
                break
            except BufferError:
                producer.poll(0.05)
        count += 1
        if count % 10_000 == 0:
            producer.poll(0)
    producer.flush(60)
    print(json.dumps([time.perf_counter() - began, count]))


if __name__ == "__main__":
    main()
