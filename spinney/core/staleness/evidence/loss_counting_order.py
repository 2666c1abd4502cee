"""The order in which a batch's losses of champions are counted.

Two orders matter. A group's own losses come one after the other, since each is compared with those before it. The part
that all groups have in common is updated after each *block*: a run of losses of distinct groups, in the order of time.
There are many blocks. So whatever depends on one group alone is computed in *turns* instead, the n-th losses of all
groups together: there are only as many turns as the busiest group has losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinney.core.staleness.evidence.loss_samples import Floats, Positions

MAX_LOSSES = 16_384
"""Number of losses that are counted together, unless one block has more: each holds a copy of its sample, 200 bytes."""

_STEP, _MIX_1, _MIX_2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class OrderedLosses:
    """Single losses of champions in the order in which they are counted, one value per loss.

    at: position of its group. losses: finite, at least 0. times: event times, microseconds. is_evidence: whether it is
    tested for a rise, or only joins the sample that later losses are compared with. starts: the first loss of each
    block, ascending.
    """

    at: Positions
    losses: Floats
    times: npt.NDArray[np.int64]
    is_evidence: npt.NDArray[np.bool_]
    starts: Positions

    @property
    def _ends(self) -> Positions:
        return np.append(self.starts, len(self.at))[1:]

    @property
    def blocks(self) -> list[slice]:
        """The losses of each block, whose groups are distinct."""
        return [slice(start, end) for start, end in zip(self.starts.tolist(), self._ends.tolist(), strict=True)]

    def turns(self) -> list[Positions]:
        """Return the first loss of each group, the second of each that has one, and so on, as indices into the losses.

        The groups of a turn are distinct.
        """
        by_group = np.argsort(self.at, kind="stable")
        begins = np.flatnonzero(np.diff(self.at[by_group], prepend=-1))
        lengths = np.diff(begins, append=len(self.at))
        numbers = np.arange(len(self.at)) - np.repeat(begins, lengths)
        by_turn = by_group[np.argsort(numbers, kind="stable")]
        return np.split(by_turn, np.cumsum(np.bincount(numbers))[:-1]) if len(self.at) else []

    def pieces(self, most: int | None = None) -> Iterator[OrderedLosses]:
        """Yield the losses in pieces of whole blocks, of at most `most` losses or one block. None: MAX_LOSSES."""
        most = MAX_LOSSES if most is None else most
        ends, first = self._ends, 0
        while first < len(self.starts):
            begin = int(self.starts[first])
            after = max(int(np.searchsorted(ends, begin + most, "right")), first + 1)
            place = slice(begin, int(ends[after - 1]))
            columns = (self.at[place], self.losses[place], self.times[place], self.is_evidence[place])
            yield OrderedLosses(*columns, self.starts[first:after] - begin)
            first = after


@dataclass(frozen=True)
class CountedLosses:
    """Rows of health, each with one or more losses of its group's champion, in the order in which they are counted.

    at: position of each row's group, shape (n_rows,). lengths: number of losses of each row, at least 1. losses: of all
    rows one after the other, each finite and at least 0, shape (lengths.sum(),). times: event times, microseconds.
    is_evidence: whether a row's losses are tested for a rise; if not, they only join the sample that later losses are
    compared with.
    """

    at: Positions
    lengths: npt.NDArray[np.int64]
    losses: Floats
    times: npt.NDArray[np.int64]
    is_evidence: npt.NDArray[np.bool_]

    def ordered(self, key_shares: Floats) -> OrderedLosses:
        """Return the single losses in order: a block has one loss of each row of a run of distinct groups.

        The losses of one row come in an order that depends on neither their values nor the batch: stored in ascending
        order, they would look like a rise. key_shares: see `ErrorEvidence.counted`.
        """
        run, losses = _runs_of_distinct_groups(self.at), self.losses
        if len(losses) == len(self.at):
            starts = np.flatnonzero(np.diff(run, prepend=-1))
            return OrderedLosses(self.at, losses, self.times, self.is_evidence, starts)
        rows = np.repeat(np.arange(len(self.at)), self.lengths)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        losses = losses[np.lexsort((random_numbers(key_shares[self.at[rows]], place), rows))]
        order = np.lexsort((rows, place, run[rows]))
        run, place, rows = run[rows[order]], place[order], rows[order]
        starts = np.flatnonzero((np.diff(run, prepend=-1) != 0) | (np.diff(place, prepend=-1) != 0))
        return OrderedLosses(self.at[rows], losses[order], self.times[rows], self.is_evidence[rows], starts)


def _runs_of_distinct_groups(at: Positions) -> Positions:
    """Number rows, keeping their order, so that no group occurs twice in a run of equal numbers."""
    order = np.argsort(at, kind="stable")
    repeats = np.flatnonzero(np.diff(at[order]) == 0)
    previous = np.full(len(at), -1)
    previous[order[repeats + 1]] = order[repeats]
    newest_repeated = np.maximum.accumulate(previous)  # a run ends where a group of the run comes again
    runs = np.zeros(len(at), dtype=np.int64)
    start = 0
    while (start := int(np.searchsorted(newest_repeated, start))) < len(at):
        runs[start] = 1
    return np.cumsum(runs)


def random_numbers(key_shares: Floats, counts: npt.NDArray[np.int64]) -> Floats:
    """Return a number in (0, 1) for each pair of a group's fixed number and a count, by SplitMix64."""
    bits = (key_shares * 2.0**53).astype(np.uint64) + (counts.astype(np.uint64) + np.uint64(1)) * _STEP
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    return np.asarray((((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53)
