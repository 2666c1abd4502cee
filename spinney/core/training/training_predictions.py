"""A model's predictions on its own training rows, reduced to a few numbers: a reference for the drift of later ones."""

from __future__ import annotations

import numpy as np

from spinney.core.even_spacing import is_evenly_spaced
from spinney.core.features.encoding import Floats, Integers

MAX_TRAINING_PREDICTIONS = 32
"""Largest number of predictions stored with a model, 4 bytes each. Their ranks are evenly spaced, so that they keep the
shape of the distribution.
"""


def spread_predictions(values: Floats, counts: Integers) -> list[Floats]:
    """Return the predictions of each group, ascending: MAX_TRAINING_PREDICTIONS at most, of evenly spaced ranks.

    values: shape (n_rows,), those of each group adjacent. counts: rows of each group, shape (n_groups,).
    """
    begins, spread = np.cumsum(counts) - counts, [np.empty(0)] * len(counts)
    for size in np.unique(counts[counts > 0]).tolist():  # groups of one size are sorted together
        alike, ranks = np.flatnonzero(counts == size), np.arange(size)
        ordered = np.sort(values[begins[alike, None] + ranks], axis=1, kind="stable")
        kept = ordered[:, is_evenly_spaced(ranks, size, MAX_TRAINING_PREDICTIONS)]
        for group, of_group in zip(alike.tolist(), kept, strict=True):
            spread[group] = of_group
    return spread
