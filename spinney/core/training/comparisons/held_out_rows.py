"""Choose which of a group's newest rows are held out, and which losses and predictions of models are stored as a
sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from spinney.core.even_spacing import is_evenly_spaced
from spinney.core.features.encoding import NULL_TIME, Floats, Integers
from spinney.core.training.fit_request import FitRequest

HELD_OUT_ONE_IN = 5
"""At most the newest 1 / HELD_OUT_ONE_IN of a group's rows are held out."""

_MICROSECOND = timedelta(microseconds=1)

MAX_LOSSES = 32
"""Largest number of losses, and of predictions, that are stored with a model, 4 bytes each. Losses and predictions of
its answers are compared with them.

They are spread evenly over the rows. The newest rows may all be from one day, and an event of that day would make the
intervals of all answers too wide or too narrow (decision 0033).
"""


REACH = 0.5
"""Share of a group's rows over which the prequential losses that are stored with a model are spread."""


def held_out_counts(rows: Integers, unseen: Integers, recent: Integers) -> Integers:
    """Return the number of held-out rows of each group, shape (n_groups,): its newest ones.

    All arguments have shape (n_groups,). rows: number of each group's rows. unseen: number of rows newer than its
    champion; 0 if it has no champion, or one that may have seen all rows. recent: from `recent_counts`.

    At most half of the unseen rows are held out. The measured challenger is fitted on all other rows of its window, and
    these include the rows that the champion was fitted on. So it differs from the champion only by newer data. Rows
    that are not `recent` are not held out: if rows lose half their weight in three days, a model is made for about
    three days, and a challenger without the newest week would not resemble the model that the fleet would serve.
    """
    largest = np.where(rows > 0, np.maximum(1, np.minimum(rows // HELD_OUT_ONE_IN, recent)), 0)
    return np.where(unseen > 0, np.minimum(largest, (unseen + 1) // 2), largest)


def recent_counts(group: Integers, times: Integers, groups: int, half_life: timedelta | None) -> Integers:
    """Return the number of rows of each group that are younger than `half_life`, counted from the group's newest row.

    Returns shape (groups,); all rows if `half_life` is None. group: index of each row's group, from 0. times: event
    times, microseconds. Both have shape (n_rows,).
    """
    if half_life is None:
        return np.bincount(group, minlength=groups)
    newest = np.full(groups, NULL_TIME, dtype=np.int64)
    np.maximum.at(newest, group, times)
    return np.bincount(group[newest[group] - times < half_life // _MICROSECOND], minlength=groups)


def unseen_counts(group: Integers, times: Integers, requests: Sequence[FitRequest]) -> Integers:
    """Return the number of rows of each group that are newer than its champion, shape (n_groups,).

    group, times: as in `recent_counts`. requests: one per group.
    """
    seen_until = np.array([seen_through(request) for request in requests], dtype=np.int64)
    return np.bincount(group[times > seen_until[group]], minlength=len(requests))


def seen_through(request: FitRequest) -> int:
    """Return the time of the newest row that the champion has seen, microseconds.

    If it is unknown, the greatest possible time, since the champion may have seen all rows.
    """
    return (
        np.iinfo(np.int64).max
        if request.champion_id is None or request.trained_through == NULL_TIME
        else request.trained_through
    )


def sample_evenly(own: Floats, earlier: Floats, rows: int) -> Floats:
    """Return the losses, or the predictions, to store with a model, oldest first: MAX_LOSSES at most, spread evenly.

    own: values of the measured challenger for its held-out rows. earlier: values of the champions before it, of the
    same recipe, on rows that they had not seen; oldest first. rows: number of the group's rows.

    Earlier values are added until there are as many as a fifth of the rows, so that a refit after a few new rows does
    not leave the group with a sample of one or two.
    """
    missing = max(rows // HELD_OUT_ONE_IN - len(own), 0)
    values = np.concatenate([earlier[max(len(earlier) - missing, 0) :], own]) if missing and len(earlier) else own
    if len(values) <= MAX_LOSSES:
        return values
    return values[is_evenly_spaced(np.arange(len(values)), len(values), MAX_LOSSES)]


def extend_sample(stored: Floats, unseen: Floats, rows: int) -> Floats:
    """Return the prequential losses to store with a model, oldest first: MAX_LOSSES at most, the newest ones.

    stored: those of its champion. unseen: the champion's losses on the rows that it had not seen. rows: number of the
    group's rows.

    Of `unseen`, evenly spaced ones are added, as many as make MAX_LOSSES over a share of REACH of the rows. So the
    sample has the same reach however often a group is refitted, and is not of one day.
    """
    most = max(2, math.ceil(MAX_LOSSES * len(unseen) / (REACH * rows)))
    added = unseen[is_evenly_spaced(np.arange(len(unseen)), len(unseen), min(most, MAX_LOSSES))]
    return np.concatenate([stored, added])[-MAX_LOSSES:]
