"""The groups that wait for a round: how many, why, since when, and what their fits will cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinney.core import timestamps
from spinney.core.champions.fleet_champion_selection import integer_values
from spinney.core.reporting.group_status import State

QUEUE_COLUMNS = ("group_key", "policy", "reason", "stale_since", "predicted_ms", "judged_at")
"""Columns of `verdicts` that are read."""


@dataclass(frozen=True)
class QueuedGroup:
    """A stale group. stale_since: wall clock. predicted_ms: cost of its fit; None where it was not predicted."""

    group_key: str
    policy: str | None
    reason: str | None
    stale_since: datetime | None
    predicted_ms: float | None


@dataclass(frozen=True)
class RetrainQueue:
    """The stale groups of a fleet.

    by_policy: number of groups per policy that called them stale. predicted_seconds: sum of the predicted fits.
    longest_waiting: some of them, the longest waiting first.
    """

    groups: int
    by_policy: Mapping[str, int]
    predicted_seconds: float
    longest_waiting: tuple[QueuedGroup, ...]


def describe_queue(statuses: pa.Table, verdicts: pa.Table, limit: int) -> RetrainQueue:
    """Return the queue. statuses: as `derive_statuses` returns them. verdicts: rows with QUEUE_COLUMNS.

    limit: largest number of groups in `longest_waiting`.
    """
    is_stale = pc.equal(statuses.column("state"), State.STALE.value)
    stale = statuses.column("group_key").filter(is_stale).combine_chunks()
    # By key, so that groups that wait equally long keep their places: a query returns its rows in any order.
    of_stale = verdicts.filter(pc.is_in(verdicts.column("group_key"), value_set=stale)).sort_by("group_key")
    newest = of_stale.take(pa.array(_newest_rows(of_stale)))
    since = integer_values(newest, "stale_since")
    longest = np.argsort(np.where(since > 0, since, np.iinfo(np.int64).max), kind="stable")[:limit]
    policies = Counter(name or "unknown" for name in newest.column("policy").to_pylist())
    return RetrainQueue(
        groups=len(stale),
        by_policy=dict(policies.most_common()),
        predicted_seconds=float(pc.sum(newest.column("predicted_ms")).as_py() or 0) / 1e3,
        longest_waiting=tuple(_queued(newest, since, int(row)) for row in longest),
    )


def _newest_rows(verdicts: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The newest verdict of each group, in the order of the groups' keys."""
    codes = np.asarray(verdicts.column("group_key").combine_chunks().dictionary_encode().indices, dtype=np.int64)
    order = np.lexsort((integer_values(verdicts, "judged_at"), codes))
    is_last = np.append(codes[order][1:] != codes[order][:-1], True) if len(order) else np.zeros(0, np.bool_)
    return np.asarray(order[is_last], dtype=np.int64)


def _queued(newest: pa.Table, since: np.ndarray[tuple[int], np.dtype[np.int64]], row: int) -> QueuedGroup:
    key, policy, reason, predicted_ms = (
        newest.column(name)[row].as_py() for name in ("group_key", "policy", "reason", "predicted_ms")
    )
    at = int(since[row])
    return QueuedGroup(key, policy, reason, timestamps.from_microseconds(at) if at else None, predicted_ms)
