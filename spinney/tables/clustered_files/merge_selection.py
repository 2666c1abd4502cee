"""Selects which files of a table to merge, so that few sorted runs remain and no row is rewritten often.

A run is a set of files that together are one sorted sequence of rows. New files are sorted into a run of level 0. Once
there are `tier` runs of one level, all of similar size, they are merged into one run of the next level: size-tiered
compaction, as in log-structured merge trees. In a table of n times the size of a level-0 run, a row is rewritten about
log(n) / log(tier) times, and at most (tier - 1) runs per level remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL_BYTES = 64 * 1024**2
"""Runs below LEVEL_BYTES × GROWTH have level 0. Each further level is GROWTH times as large."""

GROWTH = 8


@dataclass(frozen=True)
class Run:
    """Files that are one sorted sequence, in order. name: "" for files that are not sorted."""

    name: str
    paths: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class MergeRule:
    """When to merge.

    Unsorted files wait until there are `unsorted_files` or `unsorted_bytes` of them. tier: number of runs of one level
    that are merged into one; at least 2.
    """

    unsorted_files: int
    unsorted_bytes: int
    tier: int


GROWING = MergeRule(unsorted_files=200, unsorted_bytes=LEVEL_BYTES, tier=GROWTH)
"""For a partition that still grows. It waits for many files, since replaced files stay on disk for a week and a row
should be rewritten at most two or three times. Opening 200 small files takes half a second.
"""

AT_REST = MergeRule(unsorted_files=1, unsorted_bytes=0, tier=2)
"""For a partition that no longer grows, or on request: leaves at most one run per level."""


def choose_runs(unsorted: Run, runs: Sequence[Run], rule: MergeRule) -> list[Run]:
    """Return the runs to merge into one; empty when no merge is due. unsorted: may have no files."""
    chosen: list[Run] = []
    if unsorted.paths and (len(unsorted.paths) >= rule.unsorted_files or unsorted.bytes >= rule.unsorted_bytes):
        chosen.append(unsorted)
    rest = sorted(runs, key=lambda run: (run.bytes, run.name))
    while True:
        total = sum(run.bytes for run in chosen)
        peers = _peers(total if chosen else None, rest)
        if len(peers) + bool(chosen) < rule.tier or not peers:
            return chosen
        chosen += peers
        rest = [run for run in rest if run not in peers]


def _peers(total: int | None, rest: Sequence[Run]) -> list[Run]:
    """Return the runs of `rest` up to the level of `total` bytes.

    If `total` is None, return the runs up to the lowest level that has several; none if no level has.
    """
    if total is not None:
        return [run for run in rest if level_of(run.bytes) <= level_of(total)]
    levels = [level_of(run.bytes) for run in rest]
    crowded = [level for level in levels if levels.count(level) > 1]
    return [run for run in rest if level_of(run.bytes) <= min(crowded)] if crowded else []


def level_of(size: int) -> int:
    """Return the level of a run of `size` bytes."""
    found, limit = 0, LEVEL_BYTES * GROWTH
    while size >= limit:
        found, limit = found + 1, limit * GROWTH
    return found


def row_group_rows(shards: np.ndarray, rows: int) -> int:
    """Return the number of rows of the next row group of a sorted file, about `rows`.

    shards: shape (n_rows,), sorted: the shards of the rows at hand. The row group ends where a shard ends, if one ends
    between 0.5 and 1.5 times `rows`: with one shard per row group the key statistics are exact.
    """
    if len(shards) <= rows // 2:
        return len(shards)
    ends = np.flatnonzero(shards[1:] != shards[:-1]) + 1
    if len(shards) <= rows + rows // 2:
        ends = np.append(ends, len(shards))
    within = ends[(ends >= rows // 2) & (ends <= rows + rows // 2)]
    if not len(within):
        return min(rows, len(shards))
    below = within[within <= rows]
    return int(below[-1] if len(below) else within[0])
