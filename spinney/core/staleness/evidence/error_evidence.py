"""Evidence that the losses of a champion have risen: a sequential test per group, with state.

Each loss becomes a conformal p-value against the champion's losses so far (`LossSamples.shares_above`) and then a
score: standard normal and independent while a group's losses are exchangeable. Three bets on raised scores,
exp(tilt · score - tilt² / 2), have an expected value of 1 then. Each multiplies a Shiryaev-Roberts sum that grows by
the elapsed time / patience, so that the expected value of the sums' mean is at most the elapsed time / patience. A
group that is stale from a mean of 1 on, and whose sums then restart, has at most one false alarm per `patience` on
average: at any rate of labels, for any distribution of the losses, however often it is evaluated.

Sources: Vovk et al. 2021, "Retrain or not retrain: conformal test martingales for change-point detection"; Shin,
Ramdas and Rinaldo 2022, "E-detectors: a nonparametric framework for sequential change detection".

A score is lowered where other groups' scores have risen too, or where the group's previous score was high and scores
of the shard tend to repeat. Corrections never raise a score, so the bound holds whatever they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from spinney.core.errors import Corrupt
from spinney.core.staleness.evidence.loss_counting_order import CountedLosses, OrderedLosses, random_numbers
from spinney.core.staleness.evidence.loss_samples import KNOTS, Floats, Floats32, LossSamples, Positions
from spinney.core.staleness.evidence.score_corrections import ScoreCorrections
from spinney.core.staleness.group_state import NEVER
from spinney.core.state_codec import REMEDY, join_sections, split_sections

LIMIT = 1.0
"""Evidence from which on an error has risen."""

TILTS = np.array([0.5, 1.0, 2.0])
"""Bets on a small, a medium and a large rise of the scores, in standard deviations."""

MAX_SUM = 1e6
"""Bound of a sum. While a group with a raised error waits for its refit, its sums would grow without end."""

EARLIER_LOSSES = 200.0
"""Greatest weight, in losses, that the losses of a group's earlier champions have once it has a new champion."""

_SCORES = np.linspace(-6.0, 6.0, 2_401)
_TAILS = np.array([NormalDist().cdf(score) for score in _SCORES])


def tail_index_of(loss: str) -> float:
    """Return how fast a loss is taken to become rare: the share above x falls as x ** -index.

    1 for absolute errors, which is a heavier tail than that of any errors with a mean, and 0.5 for their squares, so
    that both losses give the same evidence. Other losses have the index 1.
    """
    return 0.5 if loss == "squared" else 1.0


@dataclass(frozen=True)
class ErrorEvidence:
    """The state of the tests of a shard's groups, in the order of its groups.

    samples: losses that each champion has had. sums: the statistic of each test, shape (n_groups, len(TILTS)). scores:
    the last score of each group; NaN before the first. counted_at: event time of its last counted label, or the time at
    which its first champion came, in microseconds; NEVER before. pairs: sums over pairs of successive scores of a
    group, for the autocorrelation.
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
        """Compare the losses of these groups' new champions with the losses of earlier champions from
        now on, in place.
        """
        self.samples.limit(at, EARLIER_LOSSES)

    def restart(self, at: Positions, references: Floats, clocks: npt.NDArray[np.int64], *, least: int = 0) -> None:
        """Compare the losses of these groups' new champions with their own held-out losses from now on, in place.

        Only the reference sample is replaced: the sums of evidence continue.

        references: the champions' losses on their held-out rows, at least 0, shape (len(at), any number); inf where a
        champion has fewer than others. clocks: the fleet's at the decisions, microseconds. least: if a champion has
        fewer losses, losses of earlier champions are added up to this number.
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
        """Set the sums of evidence of some groups to 0, in place. is_forgotten: shape (n_groups,)."""
        self.sums[is_forgotten] = 0

    def counted(self, rows: CountedLosses, key_shares: Floats, patience: int, tail_index: float = 1.0) -> ErrorEvidence:
        """Return the state with these losses, counted in place. patience: microseconds.

        key_shares: for each group a fixed number in [0, 1), the seed of its random numbers. tail_index: of the loss,
        see `LossSamples.shares_above`.
        """
        corrections = ScoreCorrections(self.scores, self.counted_at, self.pairs)
        for losses in rows.ordered(key_shares).pieces():
            turns = losses.turns()
            times, elapsed = self._advance_times(losses, turns, patience)
            met = self.samples.add_in_turns(losses.at, losses.losses, turns)
            random = random_numbers(key_shares[losses.at], met.counts.astype(np.int64))
            shares_above = met.shares_above(losses.losses, random, tail_index)
            scores = np.interp(-shares_above, -_TAILS[::-1], -_SCORES[::-1])
            blocks = (corrections.correct(losses.at[block], scores[block], times[block]) for block in losses.blocks)
            self._bet(losses, turns, np.concatenate(list(blocks)), elapsed)
            self.scores[losses.at] = scores  # of several of one group the last
        return replace(self, pairs=corrections.pairs)

    def _advance_times(
        self, losses: OrderedLosses, turns: Sequence[Positions], patience: int
    ) -> tuple[npt.NDArray[np.int64], Floats]:
        """Advance each group's time to its labels. patience: microseconds.

        Returns, for each loss, the event time in microseconds and the time since the group's last label divided by
        `patience`.
        """
        times, elapsed = np.empty_like(losses.times), np.empty(len(losses.at))
        for turn in turns:
            at = losses.at[turn]
            last = self.counted_at[at]
            times[turn] = now = np.maximum(last, losses.times[turn])
            elapsed[turn] = np.where(last == NEVER, 0, now - last) / patience
            self.counted_at[at] = now
        return times, elapsed

    def _bet(self, losses: OrderedLosses, turns: Sequence[Positions], scores: Floats, elapsed: Floats) -> None:
        """Update each group's Shiryaev-Roberts sums, which grow while its losses are larger than its earlier ones.

        Losses that only join the reference are passed over. scores: lowered by the common change and the repeated part.
        elapsed: time since the group's last label divided by `patience`.
        """
        bets = np.exp(TILTS * scores[:, None] - TILTS**2 / 2)
        for turn in turns:
            counted = turn[losses.is_evidence[turn]]
            at = losses.at[counted]
            self.sums[at] = np.minimum(bets[counted] * (self.sums[at] + elapsed[counted, None]), MAX_SUM)

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
        """Decode the result of `to_bytes`. Raises Corrupt for other bytes."""
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
