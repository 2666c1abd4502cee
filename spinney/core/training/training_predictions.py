"""A model's predictions on its own training rows, as few numbers: the reference for the drift of later ones."""

from __future__ import annotations

import numpy as np

from spinney.core.even_spacing import is_evenly_spaced
from spinney.core.features.encoding import Floats, Integers

MAX_TRAINING_PREDICTIONS = 32
"""Predictions that are stored with a model, 4 bytes each. Evenly spaced ranks keep the distribution's shape."""


def spread_predictions(values: Floats, counts: Integers) -> list[Floats]:
    """Return the predictions of each group, ascending: MAX_TRAINING_PREDICTIONS at most, of evenly spaced ranks.

    values: shape (n_rows,), those of each group adjacent. counts: rows of each group, shape (n_groups,).
    """
    group = np.repeat(np.arange(len(counts)), counts)
    ordered = values[np.lexsort((values, group))]
    rank = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_kept = is_evenly_spaced(rank, counts[group], MAX_TRAINING_PREDICTIONS)
    kept = np.bincount(group[is_kept], minlength=len(counts))
    return np.split(ordered[is_kept], np.cumsum(kept)[:-1]) if len(counts) else []
