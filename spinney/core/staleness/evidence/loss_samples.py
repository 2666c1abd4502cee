"""A compressed sample of the losses that each group's champion has had so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

KNOTS = 24
"""Knots of a sample. Up to this many losses are stored exactly."""

TIE = np.float32(1e-6)
"""Relative difference up to which a loss is equal to a knot.

Equal errors may give losses that differ in their last bits: a loss was rounded to float32 once, or several times if the
fleet's loss changed since. A continuous loss comes so near a knot once in ten thousand times, and counts as any tie.
"""

BY_RANK_ALONE = float("inf")
"""A `tail_index` with which the size of a loss above all others is ignored."""

MAX_WEIGHT = 2_048
"""Greatest weight of a knot, in losses: a float16 cannot count further. More losses change its value, not its weight.
"""


@dataclass(frozen=True)
class LossSamples:
    """One sample per group: knots at ascending losses, and how many losses each knot represents.

    values: shape (n_groups, KNOTS), inf where a knot is not used. weights: of the same shape, 0 there.

    A full sample merges two neighbouring knots when a loss is added: those that represent the smallest share of the
    losses at least as large as theirs. Shares of large losses are therefore known with the same relative precision
    however many losses there were. This is the t-digest (Dunning 2021, "The t-digest: efficient estimates of
    distributions") with a scale for the upper tail.
    """

    values: Floats32
    weights: Floats32

    @classmethod
    def empty(cls, groups: int) -> LossSamples:
        """Return the samples of so many groups that have no losses yet."""
        shape = (groups, KNOTS)
        return cls(np.full(shape, np.inf, dtype=np.float32), np.zeros(shape, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def counts(self) -> Floats:
        """Number of losses that each group has had, shape (n_groups,)."""
        return np.asarray(self.weights.sum(axis=1, dtype=np.float64))

    @property
    def means(self) -> Floats:
        """The mean loss of each group, shape (n_groups,); NaN without losses."""
        sums = (np.where(self.weights > 0, self.values, 0.0) * self.weights).sum(axis=1, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(sums / self.counts)

    def take(self, at: Positions) -> LossSamples:
        """Return the samples of the groups at these positions, as a copy."""
        return LossSamples(self.values[at], self.weights[at])

    def shares_above(self, losses: Floats, randoms: Floats, tail_index: float = 1.0) -> Floats:
        """Return the smoothed conformal p-value of one loss per group, raised for losses just above all earlier ones.

        It is (losses above + randoms · (equal losses + 1)) / (losses + 1). If a group's losses are exchangeable, its
        p-values are independent and uniform, whatever the distribution of the losses (Vovk, Gammerman and Shafer 2005,
        "Algorithmic learning in a random world"). Between merged knots it is interpolated; losses are at least 0.

        The p-value of a loss above all earlier ones is randoms / (losses + 1): by chance it may be very small although
        the loss is hardly larger than others were. So its random number is at least (largest / loss) ** tail_index,
        which is uniform if the share of losses above x falls as x ** -tail_index. P-values only rise by this, so there
        are no more false alarms than without it, whatever the tail is.

        losses, randoms: shape (n_groups,); randoms are uniform in (0, 1). tail_index: above 0.
        """
        stored = self.nearest_ties(losses)
        loss = stored[:, None]
        weights = self.weights.astype(np.float64)  # their sums are exact
        above = (weights * (self.values > loss)).sum(axis=1)
        equal = (weights * (self.values == loss)).sum(axis=1)
        above += self._mass_above_left_knot(stored.astype(np.float64))
        randoms = np.maximum(randoms, self._largest_by(stored) ** tail_index)
        return np.asarray((above + randoms * (equal + 1.0)) / (weights.sum(axis=1) + 1.0))

    def _largest_by(self, losses: Floats32) -> Floats:
        """Return each group's largest loss divided by a new one that is larger, 0 where none is."""
        largest = np.where(self.weights > 0, self.values, np.float32(0)).max(axis=1).astype(np.float64)
        return np.asarray(np.divide(largest, losses, out=np.zeros(len(largest)), where=losses > largest))

    def _mass_above_left_knot(self, losses: Floats) -> Floats:
        """Correct the count of losses above: half of a knot's losses lie on each side, evenly up to the next.

        A knot of one loss lies exactly at its value. Left of the first knot is 0.
        """
        right = (self.values <= losses.astype(np.float32)[:, None]).sum(axis=1)
        first = np.arange(0, self.values.size, KNOTS)
        left, right = first + np.maximum(right - 1, 0), first + np.minimum(right, KNOTS - 1)
        (value_left, weight_left), (value_right, weight_right) = (
            (self.values.ravel()[place], self.weights.ravel()[place]) for place in (left, right)
        )
        is_first, is_last = value_left > losses, value_right <= losses
        low = np.where(is_first, 0.0, value_left)
        high = np.where(is_last, np.inf, value_right)
        spread_low = np.where(is_first, 0.0, np.maximum(weight_left - 1, 0) / 2)
        spread_high = np.maximum(weight_right - 1, 0) / 2
        has_width = np.isfinite(high) & (high > low) & (losses > low)
        place = np.where(has_width, (losses - low) / np.where(has_width, high - low, 1.0), 0.0)
        part_above = spread_low * (1 - place) - spread_high * place
        return np.where(has_width, part_above, 0.0)

    def nearest_ties(self, losses: Floats | Floats32) -> Floats32:
        """Return one loss per group as it is stored: the value of the nearest knot if both are equal except for
        rounding.

        losses: shape (n_groups,), finite and at least 0.
        """
        loss = losses.astype(np.float32)
        right = (self.values < loss[:, None]).sum(axis=1)
        first = np.arange(0, self.values.size, KNOTS)
        values = self.values.ravel()
        below, above = (values[first + np.clip(place, 0, KNOTS - 1)] for place in (right - 1, right))
        nearest = np.where(np.abs(loss - below) < np.abs(above - loss), below, above)
        return np.where(np.abs(nearest - loss) <= TIE * loss, nearest, loss)

    def start(self, at: Positions, losses: Floats) -> None:
        """Replace the samples of the groups at these positions, in place.

        losses: shape (len(at), any number), at least 0; inf where a group has fewer losses than others.
        """
        values = np.sort(losses.astype(np.float32), axis=1)
        weights = np.isfinite(values).astype(np.float32)
        while values.shape[1] > KNOTS:
            values, weights = _with_one_less(values, weights)
        self.values[at], self.weights[at] = np.inf, 0
        self.values[at, : values.shape[1]] = values
        self.weights[at, : values.shape[1]] = weights

    def limit(self, at: Positions, most: npt.NDArray[np.int64] | float) -> None:
        """Reduce the weight of the losses of the groups at these positions to `most` losses, in place.

        Losses whose stored weight has become 0 after dozens of these calls are dropped.

        most: one number for all groups, or one for each, shape (len(at),). Smaller weights stay.
        """
        values, weights = self.values[at], self.weights[at]
        shares = np.minimum(most / np.maximum(weights.sum(axis=1), 1), 1)
        weights = _as_stored(weights * shares[:, None].astype(np.float32))
        self.values[at], self.weights[at] = _without_unused(values, weights)

    def add(self, at: Positions, losses: Floats) -> None:
        """Add one loss for each of the distinct groups at these positions, in place.

        losses: shape (len(at),), finite and at least 0.
        """
        self._add_to(self.take(at), at, losses)

    def add_in_turns(self, at: Positions, losses: Floats, turns: Sequence[Positions]) -> LossSamples:
        """Add losses one after the other, in place. Returns, for each loss in order, the sample as it was before the
        loss.

        at: position of each loss's group. turns: arrays of indices into the losses, each of distinct groups.
        """
        shape = (len(at), KNOTS)
        met = LossSamples(np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32))
        for turn in turns:
            samples = self.take(at[turn])
            met.values[turn], met.weights[turn] = samples.values, samples.weights
            self._add_to(samples, at[turn], losses[turn])
        return met

    def _add_to(self, samples: LossSamples, at: Positions, losses: Floats) -> None:
        """Store at these positions the samples with one loss each added."""
        loss = samples.nearest_ties(losses)
        place = (samples.values <= loss[:, None]).sum(axis=1)
        values, weights = (
            _inserted(rows, new, place) for rows, new in ((samples.values, loss), (samples.weights, np.float32(1)))
        )
        values, weights = _with_one_less(values, weights)
        self.values[at], self.weights[at] = values, _as_stored(weights)


def _as_stored(weights: Floats32) -> Floats32:
    """Return weights rounded to float16, as in the encoded state, so that decoding a state in between changes no
    result.
    """
    return weights.astype(np.float16).astype(np.float32)


def _without_unused(values: Floats32, weights: Floats32) -> tuple[Floats32, Floats32]:
    """Return the knots that represent losses before those that do not, which become inf with the weight 0."""
    is_used = (weights > 0) & np.isfinite(values)  # earlier versions stored nan after merging two knots of weight 0
    values, weights = np.where(is_used, values, np.float32(np.inf)), np.where(is_used, weights, np.float32(0))
    order = np.argsort(~is_used, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(weights, order, axis=1)


def _inserted(rows: Floats32, value: Floats32 | np.float32, place: Positions) -> Floats32:
    """Return rows with one more column: `value` is inserted at `place` in each row, and later values
    move to the right.
    """
    width = rows.shape[1]
    out = np.empty((len(rows), width + 1), dtype=np.float32)
    out[:, 1:] = rows
    np.copyto(out[:, :-1], rows, where=np.arange(width) < place[:, None])
    out.ravel()[np.arange(0, out.size, width + 1) + place] = value
    return out


def _with_one_less(values: Floats32, weights: Floats32) -> tuple[Floats32, Floats32]:
    """Return rows with one column less.

    If the last column is used, two neighbours are merged; otherwise the last column is dropped.
    """
    full = np.flatnonzero(weights[:, -1] > 0)
    if not len(full):
        return values[:, :-1], weights[:, :-1]
    value, weight = values[full], weights[full]
    at_least = np.cumsum(weight[:, ::-1], axis=1)[:, ::-1]
    shares = (weight[:, :-1] + weight[:, 1:]) / at_least[:, :-1]
    shares[value[:, :-1] == value[:, 1:]] = 0  # nothing is lost
    left = shares.argmin(axis=1)
    rows = np.arange(len(full))
    total = weight[rows, left] + weight[rows, left + 1]
    low, high = value[rows, left], value[rows, left + 1]
    mean = low + (high - low) * (weight[rows, left + 1] / total)  # exact where both are equal, so that ties stay ties
    is_after = np.arange(values.shape[1] - 1) > left[:, None]
    merged = []
    for matrix, known, new in ((values, value, mean), (weights, weight, np.minimum(total, MAX_WEIGHT))):
        out = matrix[:, :-1].copy()
        short = np.where(is_after, known[:, 1:], known[:, :-1])
        short[rows, left] = new
        out[full] = short
        merged.append(out)
    return merged[0], merged[1]
