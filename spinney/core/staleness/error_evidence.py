"""Evidence that the losses of a champion have risen: a sequential test per group, with state.

Each loss becomes a conformal p-value against the champion's losses so far (`LossSamples.shares_above`) and then a
score: standard normal and independent while a group's losses are exchangeable. Three bets on raised scores,
exp(tilt · score - tilt² / 2), have an expected value of 1 then. Each multiplies a Shiryaev-Roberts sum that grows by
the elapsed time / patience, so that the expected value of the sums' mean is at most the elapsed time / patience. A
group that is stale from a mean of 1 on, and whose sums then start anew, has at most one false alarm per `patience` on
average: at any rate of labels, for any distribution of the losses, however often it is looked at.

Sources: Vovk et al. 2021, "Retrain or not retrain: conformal test martingales for change-point detection"; Shin,
Ramdas and Rinaldo 2022, "E-detectors: a nonparametric framework for sequential change detection".

A score is lowered where other groups' scores have risen too, or where the group's previous score was high and scores
of the shard tend to repeat. Corrections never raise a score, so the bound holds whatever they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from spinney.core.errors import Corrupt
from spinney.core.staleness.group_state import NEVER
from spinney.core.staleness.loss_samples import KNOTS, Floats, Floats32, LossSamples, Positions
from spinney.core.state_codec import REMEDY, join_sections, split_sections

LIMIT = 1.0
"""Evidence from which on an error has risen."""

TILTS = np.array([0.5, 1.0, 2.0])
"""Bets on a small, a medium and a large rise of the scores, in standard deviations."""

MAX_SUM = 1e6
"""Bound of a sum. While a group with a raised error waits for its refit, its sums would grow without end."""

EARLIER_LOSSES = 200.0
"""Losses that those of a group's earlier champions count for at most once it has a new one."""

VOTES = 64
"""Number of groups, those with the newest labels, whose median score is the common change."""

MIN_VOTES = 8
"""With fewer groups there is no common change: a group would count too much in it."""

PAIR_MEMORY, PRIOR_PAIRS = 4_000.0, 250.0
"""Pairs of scores behind the autocorrelation, and how many of 0 it is shrunk by."""

MAX_AUTOCORRELATION = 0.9

_SCORES = np.linspace(-6.0, 6.0, 2_401)
_TAILS = np.array([NormalDist().cdf(score) for score in _SCORES])
_STEP, _MIX_1, _MIX_2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class CountedLosses:
    """Rows with losses of champions, in the order in which they are counted.

    at: position of each row's group, shape (n_rows,). lengths: number of losses of each row, at least 1. losses: of all
    rows one after the other, each finite and at least 0, shape (lengths.sum(),). times: event times, microseconds.
    is_evidence: whether a row counts as evidence, or only for the sample.
    """

    at: Positions
    lengths: npt.NDArray[np.int64]
    losses: Floats
    times: npt.NDArray[np.int64]
    is_evidence: npt.NDArray[np.bool_]

    def blocks(self, key_shares: Floats) -> Iterator[tuple[Positions, Floats]]:
        """Yield rows of distinct groups, and one loss of each, until all losses were yielded.

        The losses of one row come in an order that depends on neither their values nor the batch: stored in ascending
        order, they would look like a rise. key_shares: see `ErrorEvidence.counted`.
        """
        rows = np.repeat(np.arange(len(self.at)), self.lengths)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        if len(rows) > len(self.at):
            shuffled = np.lexsort((random_numbers(key_shares[self.at[rows]], place), rows))
            losses = self.losses[shuffled]
        else:
            losses = self.losses
        run = _runs_of_distinct_groups(self.at)[rows]
        order = np.lexsort((rows, place, run))
        starts = np.flatnonzero((np.diff(run[order], prepend=-1) != 0) | (np.diff(place[order], prepend=-1) != 0))
        for block in np.split(order, starts)[1:]:
            yield rows[block], losses[block]


@dataclass(frozen=True)
class ErrorEvidence:
    """The state of the tests of a shard's groups, in the order of its groups.

    samples: losses that each champion has had. sums: shape (n_groups, len(TILTS)). scores: the last score of each
    group; NaN before the first. counted_at: event time of its last counted label, or when its first champion came;
    microseconds, NEVER before. pairs: sums over pairs of successive scores of a group, for the autocorrelation.
    """

    samples: LossSamples
    sums: Floats32
    scores: Floats32
    counted_at: npt.NDArray[np.int64]
    pairs: tuple[float, float]

    @classmethod
    def empty(cls, groups: int = 0) -> ErrorEvidence:
        """Return the state of new groups, without evidence."""
        return cls(
            LossSamples.empty(groups),
            np.zeros((groups, len(TILTS)), dtype=np.float32),
            np.full(groups, np.nan, dtype=np.float32),
            np.full(groups, NEVER, dtype=np.int64),
            (0.0, 0.0),
        )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def evidence(self) -> Floats:
        """The evidence of each group, shape (n_groups,): its error has risen from LIMIT on."""
        return np.asarray(self.sums.mean(axis=1, dtype=np.float64))

    def resized(self, groups: int) -> ErrorEvidence:
        """Return a copy that can be written into, with new groups at the end."""
        new = ErrorEvidence.empty(groups - len(self))
        return ErrorEvidence(
            LossSamples(
                np.concatenate([self.samples.values, new.samples.values]),
                np.concatenate([self.samples.weights, new.samples.weights]),
            ),
            np.concatenate([self.sums, new.sums]),
            np.concatenate([self.scores, new.scores]),
            np.concatenate([self.counted_at, new.counted_at]),
            self.pairs,
        )

    def carry_on(self, at: Positions) -> None:
        """Compare new champions of these groups with the losses of earlier ones, in place."""
        self.samples.limit(at, EARLIER_LOSSES)

    def restart(self, at: Positions, references: Floats, clocks: npt.NDArray[np.int64], *, least: int = 0) -> None:
        """Compare new champions of these groups with their held-out losses, in place. The sums go on.

        references: the champions' losses on their held-out rows, at least 0, shape (len(at), any number); inf where a
        champion has fewer than others. clocks: the fleet's at the decisions, microseconds. least: losses of earlier
        champions make up for what a champion has less than this.
        """
        counts = np.isfinite(references).sum(axis=1)
        has_enough = counts >= least
        self.samples.start(at[has_enough], references[has_enough])
        at_few, few = at[~has_enough], np.sort(references[~has_enough], axis=1)[:, :least]
        self.samples.limit(at_few, least - counts[~has_enough])
        for losses in few.T:
            is_known = np.isfinite(losses)
            self.samples.add(at_few[is_known], losses[is_known])
        self.scores[at] = np.nan
        self.counted_at[at] = np.where(self.counted_at[at] == NEVER, clocks, self.counted_at[at])

    def forget(self, is_forgotten: npt.NDArray[np.bool_]) -> None:
        """Start the sums of some groups anew, in place. is_forgotten: shape (n_groups,)."""
        self.sums[is_forgotten] = 0

    def counted(self, rows: CountedLosses, key_shares: Floats, patience: int) -> ErrorEvidence:
        """Return the state with these losses, counted in place. patience: microseconds.

        key_shares: for each group a fixed number in [0, 1), the seed of its random numbers.
        """
        pairs = self.pairs
        for block, losses in rows.blocks(key_shares):
            at = rows.at[block]
            last = self.counted_at[at]
            now = np.maximum(last, rows.times[block])
            elapsed = np.where(last == NEVER, 0, now - last) / patience
            self.counted_at[at] = now
            scores = self._scored(at, losses, key_shares[at])
            corrected, pairs = self._corrected(at, scores, pairs)
            self.scores[at] = scores
            is_evidence = rows.is_evidence[block]
            self._bet(at[is_evidence], corrected[is_evidence], elapsed[is_evidence])
        return replace(self, pairs=pairs)

    def _scored(self, at: Positions, losses: Floats, key_shares: Floats) -> Floats:
        """Return the scores of one loss each of distinct groups, and add the losses to their samples."""
        sample = self.samples.take(at)
        shares_above = sample.shares_above(losses, random_numbers(key_shares, sample.counts.astype(np.int64)))
        self.samples.add(at, losses)
        return np.asarray(np.interp(-shares_above, -_TAILS[::-1], -_SCORES[::-1]))

    def _corrected(
        self, at: Positions, scores: Floats, pairs: tuple[float, float]
    ) -> tuple[Floats, tuple[float, float]]:
        """Return scores without the common change and what repeats of each group's last score; and the new `pairs`."""
        own = scores - self._common_change(at, scores)
        before = np.maximum(np.nan_to_num(self.scores[at].astype(np.float64)), 0.0)
        kept = (1 - 1 / PAIR_MEMORY) ** len(at)
        products = pairs[0] * kept + float((np.clip(own, -3, 3) * before).sum())
        squares = pairs[1] * kept + float((before**2).sum())
        autocorrelation = min(max(products / (squares + PRIOR_PAIRS), 0.0), MAX_AUTOCORRELATION)
        return own - autocorrelation * before, (products, squares)

    def _common_change(self, at: Positions, scores: Floats) -> float:
        """Return by how much the newest scores of all groups are raised: their median, at least 0."""
        votes = self.scores.astype(np.float64)
        times = np.where(np.isfinite(votes), self.counted_at, NEVER)
        votes[at], times[at] = scores, self.counted_at[at]
        known = np.flatnonzero(times != NEVER)
        if len(known) < MIN_VOTES:
            return 0.0
        voting = max(VOTES, len(at))
        if len(known) > voting:
            known = known[np.argpartition(times[known], -voting)[-voting:]]
        return max(float(np.median(votes[known])), 0.0)

    def _bet(self, at: Positions, scores: Floats, elapsed: Floats) -> None:
        """Update the Shiryaev-Roberts sums of distinct groups. elapsed: time since the last label / patience."""
        bets = np.exp(TILTS * scores[:, None] - TILTS**2 / 2)
        self.sums[at] = np.minimum(bets * (self.sums[at] + elapsed[:, None]), MAX_SUM)

    def to_bytes(self) -> bytes:
        """Encode as sections of plain numbers, little-endian."""
        arrays = (
            self.samples.values.astype("<f4"),
            self.samples.weights.astype("<f2"),
            self.sums.astype("<f4"),
            self.scores.astype("<f4"),
            self.counted_at.astype("<i8"),
            np.array(self.pairs, "<f8"),
        )
        return join_sections([array.tobytes() for array in arrays])

    @classmethod
    def from_bytes(cls, blob: bytes | memoryview) -> ErrorEvidence:
        """Decode what `to_bytes` encoded. Raises Corrupt for other bytes."""
        try:
            values, weights, sums, scores, counted_at, pairs = split_sections(blob)
            return cls(
                LossSamples(
                    np.frombuffer(values, "<f4").reshape(-1, KNOTS),
                    np.frombuffer(weights, "<f2").reshape(-1, KNOTS).astype(np.float32),
                ),
                np.frombuffer(sums, "<f4").reshape(-1, len(TILTS)),
                np.frombuffer(scores, "<f4"),
                np.frombuffer(counted_at, "<i8"),
                _pair(np.frombuffer(pairs, "<f8")),
            )
        except ValueError as error:
            raise Corrupt(f"state: expected the evidence of a shard's groups; got {error}. {REMEDY}") from error


def _pair(numbers: Floats) -> tuple[float, float]:
    first, second = numbers.tolist()
    return first, second


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
