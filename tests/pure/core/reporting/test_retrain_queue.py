from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from spinney.core.reporting.retrain_queue import QUEUE_COLUMNS, describe_queue

START = datetime(2024, 5, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        (name, TIME if name in ("stale_since", "judged_at") else pa.string())
        for name in QUEUE_COLUMNS
        if name != "predicted_ms"
    ]
    + [("predicted_ms", pa.float64())]
)


def verdict(key: str, policy: str, at: int, since: int | None, ms: float | None) -> dict[str, Any]:
    stale_since = None if since is None else START + timedelta(hours=since)
    judged_at = START + timedelta(hours=at)
    return {
        "group_key": key, "policy": policy, "reason": f"{policy} of {key}", "stale_since": stale_since,
        "predicted_ms": ms, "judged_at": judged_at,
    }  # fmt: skip


def test_the_queue_has_the_stale_groups_by_their_newest_verdicts_the_longest_waiting_first() -> None:
    statuses = pa.table({"group_key": ["a", "b", "c", "d"], "state": ["stale", "fresh", "stale", "stale"]})
    rows = [
        verdict("a", "max_age", 5, 3, 40.0),
        verdict("a", "new_rows", 1, 1, 7.0),
        verdict("b", "max_age", 5, 0, 9.0),
        verdict("c", "max_age", 4, 2, 60.0),
        verdict("d", "error_rise", 4, None, None),
    ]
    queue = describe_queue(statuses, pa.Table.from_pylist(rows, schema=SCHEMA), limit=2)
    assert (queue.groups, queue.by_policy, queue.predicted_seconds) == (3, {"max_age": 2, "error_rise": 1}, 0.1)
    assert [(each.group_key, each.policy, each.stale_since) for each in queue.longest_waiting] == [
        ("c", "max_age", START + timedelta(hours=2)),
        ("a", "max_age", START + timedelta(hours=3)),
    ]
    assert queue.longest_waiting[0].reason == "max_age of c"


def test_groups_that_wait_equally_long_are_in_the_order_of_their_keys_however_they_were_read() -> None:
    keys = [f"s{n}" for n in range(9)]
    statuses = pa.table({"group_key": keys, "state": ["stale"] * 9})
    rows = [verdict(key, "max_age" if key < "s4" else "new_rows", 1, 1, 0.1) for key in keys]
    for read in (rows, rows[::-1], rows[4:] + rows[:4]):
        queue = describe_queue(statuses, pa.Table.from_pylist(read, schema=SCHEMA), limit=5)
        assert [each.group_key for each in queue.longest_waiting] == keys[:5]


def test_a_fleet_without_stale_groups_has_an_empty_queue() -> None:
    statuses = pa.table({"group_key": ["a"], "state": ["fresh"]})
    queue = describe_queue(statuses, pa.Table.from_pylist([verdict("a", "max_age", 1, 1, 1.0)], schema=SCHEMA), limit=9)
    assert (queue.groups, queue.by_policy, queue.predicted_seconds, queue.longest_waiting) == (0, {}, 0, ())
