"""Choose the runs of a slot to merge: size-tiered, as in log-structured merge trees (O'Neil et al. 1996).

A slot of n rows has log₄ n tiers. A row is written once for each tier, and each tier has at most three runs.
"""

from __future__ import annotations

from collections.abc import Sequence

FAN_IN = 4
"""Number of runs of a tier that are merged into one. The runs of one tier differ in size by less than this factor."""


def runs_to_merge(sizes: Sequence[int]) -> int:
    """Return how many of the newest runs of a slot are merged; 0 for none. sizes: rows of each run, oldest first."""
    merged = 0
    while merged < len(sizes):
        tier = _tier(sum(sizes[-merged:]) if merged else sizes[-1])
        older = sizes[: len(sizes) - merged]
        same = next((n for n, size in enumerate(reversed(older)) if _tier(size) > tier), len(older))
        if same + (merged > 0) < FAN_IN:
            break
        merged += same
    return merged


def runs_to_merge_at_last(sizes: Sequence[int]) -> int:
    """Return how many of the newest runs are merged in a slot that gets no more rows; 0 for none. sizes: oldest first.

    All are merged into one, unless the oldest is much larger than the others: it is not rewritten for a few late rows.
    """
    if len(sizes) < 2:
        return 0
    if FAN_IN * sum(sizes[1:]) >= sizes[0]:
        return len(sizes)
    return len(sizes) - 1 if len(sizes) > FAN_IN else 0


def _tier(rows: int) -> int:
    tier = 0
    while rows >= FAN_IN:
        tier, rows = tier + 1, rows // FAN_IN
    return tier
