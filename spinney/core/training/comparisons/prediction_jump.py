"""The jump between a challenger's and its champion's predictions, in spreads of the champion's residuals.

If the labels of all rows become wrong, fitted and held-out rows alike, the challenger measures better on the held-out
rows, so the comparison of losses does not reveal it. But its predictions then jump from the champion's. The spread is
the median absolute deviation of the champion's residuals from their median: labels that are all shifted by the same
amount, and up to half of the rows with other labels, leave it as it was. It is at most the spread of the group's older
labels, so that labels in another unit do not widen it.

The model that is stored is fitted on the held-out rows too. If only these have wrong labels, the challenger that was
measured knows nothing of them and does not jump, but the stored one does. So the greater jump of both counts.
"""

from __future__ import annotations

import numpy as np

from spinney.core.features.encoding import Floats, Integers
from spinney.core.training.comparisons.baseline import group_medians

MIN_RESIDUALS = 20
"""Rows needed for the spread of residuals. With fewer rows the spread of the group's older labels is used alone."""

_NORMAL_CONSISTENCY = 1.4826
"""Median absolute deviations in a standard deviation of normal errors."""


def prediction_jumps(residuals: Floats, steps: Floats, counts: Integers, label_spreads: Floats) -> Floats:
    """Return the median step of each group, in spreads, shape (groups,); NaN without rows or with a spread of zero.

    residuals: label − the champion's prediction, and steps: the challenger's − the champion's prediction, both of shape
    (n_rows,), those of the first group first. counts: shape (groups,), rows of each group. label_spreads: shape
    (groups,), of the older labels.
    """
    return jumps_in_spreads(steps, counts, jump_spreads(residuals, counts, label_spreads))


def jump_spreads(residuals: Floats, counts: Integers, label_spreads: Floats) -> Floats:
    """Return the spread of each group, shape (groups,); NaN without rows or if it is zero. Arguments: see above."""
    out = np.full(len(counts), np.nan)
    present = np.flatnonzero(counts)
    if not len(present):
        return out
    sizes = counts[present]
    of_labels, of_residuals = label_spreads[present], group_spreads(residuals, sizes)
    either = np.where(of_labels > 0, np.minimum(of_labels, of_residuals), of_residuals)
    spreads = np.where(sizes >= MIN_RESIDUALS, either, of_labels)
    out[present] = np.where(spreads > 0, spreads, np.nan)
    return out


def jumps_in_spreads(steps: Floats, counts: Integers, spreads: Floats) -> Floats:
    """Return the median size of each group's steps, in spreads, shape (groups,). spreads: from `jump_spreads`."""
    out = np.full(len(counts), np.nan)
    present = np.flatnonzero(counts)
    if len(present):
        out[present] = group_medians(np.abs(steps), counts[present]) / spreads[present]
    return out


def group_spreads(numbers: Floats, sizes: Integers) -> Floats:
    """Return the median absolute deviation of each group's numbers from their median, scaled to a standard deviation.

    numbers: those of the first group first. sizes: numbers of each group, at least one.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow gives this group no spread
        middle = group_medians(numbers, sizes)
        deviations = np.abs(numbers - np.repeat(middle, sizes))
        return _NORMAL_CONSISTENCY * group_medians(deviations, sizes)
