"""Which files of a table to merge into sorted ones, so that few runs are left and no row is rewritten often.

A run is a set of files that are sorted as a whole: together they are one sorted sequence of rows. New files are sorted
into a run of their own (level 0). Runs of one level, all of similar size, are merged into one of the next level once
there are `tier` of them: size-tiered compaction of a log-structured merge tree. With n times the bytes of a level-0 run
in a table, a row is rewritten about log(n) / log(tier) times, and at most (tier - 1) runs per level remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL_BYTES = 64 * 1024**2
"""Runs below LEVEL_BYTES × GROWTH are level 0, each further level is GROWTH times as large."""

GROWTH = 8


@dataclass(frozen=True)
class Run:
    """Files that are one sorted sequence, in their order. name: "" for files that are not sorted."""

    name: str
    paths: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Rule:
    """When to merge. Unsorted files wait until there are so many, or so many bytes of them.

    tier: runs of one level that are merged into one, at least 2.
    """

    unsorted_files: int
    unsorted_bytes: int
    tier: int


WHILE_WRITTEN = Rule(unsorted_files=200, unsorted_bytes=LEVEL_BYTES, tier=GROWTH)
"""For a partition that still grows. 200 small files take half a second to open; replaced files stay on disk for a week,
so a row should not be rewritten more than two or three times."""

AT_REST = Rule(unsorted_files=1, unsorted_bytes=0, tier=2)
"""For a partition that grows no more, or when someone asked: one run a level at most."""


def choose(unsorted: Run, runs: Sequence[Run], rule: Rule) -> list[Run]:
    """What to merge into one new run; nothing when no merge is due. unsorted: may be without files."""
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
    """Runs of the level of what is chosen so far or below it; without that: of the lowest level with more than one."""
    if total is not None:
        return [run for run in rest if level(run.bytes) <= level(total)]
    levels = [level(run.bytes) for run in rest]
    crowded = [each for each in levels if levels.count(each) > 1]
    return [run for run in rest if level(run.bytes) <= min(crowded)] if crowded else []


def level(size: int) -> int:
    """The level of a run of so many bytes."""
    found, limit = 0, LEVEL_BYTES * GROWTH
    while size >= limit:
        found, limit = found + 1, limit * GROWTH
    return found


def row_group_rows(shards: np.ndarray, rows: int) -> int:
    """How many of these rows make the next row group of a sorted file: about `rows`.

    shards: the sorted shards of the rows that are there. The group ends where a shard ends, if one does between half
    and one and a half times `rows`: statistics of a row group of one shard tell its keys exactly.
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
