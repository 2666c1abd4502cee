"""Recorded events with their labels, from which the rows of any group at any time are cut as slices of arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spinney.core.errors import ContractError
from spinney.core.features.encoding import NULL_TIME, Integers, to_microseconds
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.training_set import TrainingSet, concatenated_ranges, select_training_set

if TYPE_CHECKING:
    from spinney.core.config import Config

MICROSECOND = timedelta(microseconds=1)
OBSERVED_AT = "observed_at"

_EVERYTHING = timedelta(days=200 * 365)
_AFTER_ALL = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class LabelTiming:
    """When labels may be used, in microseconds.

    label_delay: rows older than this are mature. health_horizon: labels that arrive later than this after their event
    do not count for the judge; None: every label counts.
    """

    label_delay: int
    health_horizon: int | None = None

    @classmethod
    def from_config(cls, config: Config) -> LabelTiming:
        """Return the timing of a configuration. Labels inside events have no horizon."""
        horizon = None if config.record_schema.has_label_in_event else config.kafka.label_horizon // MICROSECOND
        return cls(config.fleet.label_delay // MICROSECOND, horizon)


@dataclass(frozen=True)
class History:
    """Labelled events, each group's adjacent and sorted by time.

    rows: of all groups. known_at: shape (n_rows,): when each label was known, microseconds, never before its event.
    """

    rows: TrainingSet
    known_at: Integers
    timing: LabelTiming

    @classmethod
    def of(cls, frame: pd.DataFrame, recipe: Recipe, timing: LabelTiming) -> History:
        """Make a history of rows in any order.

        frame: group_key, event_id, event_time, label, the features of the recipe and, if it is known, observed_at.
        Rows without a label are left out, and of a group's rows with the same id all but the earliest. A label without
        observed_at is known `label_delay` after its event. Raises ContractError for a missing column or a value of
        another type, and if no row has a label.
        """
        keys = sorted(set(frame["group_key"][frame["label"].notna()]))
        whole = replace(recipe, window=_EVERYTHING, window_rows=max(1, len(frame)))
        rows = select_training_set(frame, keys, whole, _AFTER_ALL)
        if not len(rows.times):
            raise ContractError("history: expected events with a label; got none. Check fleet.target and the rows")
        return cls(rows, np.maximum(_known_at(frame, rows, timing), rows.times), timing)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.rows.keys)

    @cached_property
    def group_of_row(self) -> Integers:
        """The position of each row's group, shape (n_rows,)."""
        return np.repeat(np.arange(self.n_groups), np.diff(self.rows.starts))

    def answered_within(self, begin: int, end: int) -> Integers:
        """Return the positions of the rows whose event time is in (begin, end], in order of time; microseconds."""
        return _within(self._by_time, self._sorted_times, begin, end)

    def known_within(self, begin: int, end: int) -> Integers:
        """Return the positions of the rows whose label the judge first knows in (begin, end]; microseconds."""
        positions = _within(self._by_known_at, self._sorted_known_at, begin, end)
        if self.timing.health_horizon is None:
            return positions
        waited = self.known_at[positions] - self.rows.times[positions]
        return positions[waited <= self.timing.health_horizon]

    def training_set(self, groups: Integers, clock: int, recipe: Recipe) -> TrainingSet:
        """Return the rows that a round at this clock would fit for these groups.

        groups: positions, shape (n_groups,). They are the mature rows whose label is known, within the window of the
        recipe.
        """
        times = self._sorted_times
        oldest, newest = clock - recipe.window // MICROSECOND, clock - self.timing.label_delay
        first = self._rows_per_group(int(np.searchsorted(times, oldest, "left")))
        last = self._rows_per_group(int(np.searchsorted(times, newest, "right")))
        starts = self.rows.starts[groups]
        begins, stops = starts + first[groups], starts + np.maximum(first, last)[groups]
        places, owner = concatenated_ranges(begins, stops), np.repeat(np.arange(len(groups)), stops - begins)
        is_known = self.known_at[places] <= clock
        if not is_known.all():
            places, owner = places[is_known], owner[is_known]
        sizes = np.bincount(owner, minlength=len(groups))
        from_end = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(places))
        if (is_beyond := from_end > recipe.window_rows).any():
            places, sizes = places[~is_beyond], np.minimum(sizes, recipe.window_rows)
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows, keys = self.rows, tuple(self.rows.keys[g] for g in groups.tolist())
        of_rows = rows.columns.take(places), bounds, rows.times[places], rows.ids[places], rows.labels[places]
        return TrainingSet(keys, *of_rows, None if rows.lineage is None else rows.lineage[places])

    def _rows_per_group(self, oldest: int) -> Integers:
        """Return each group's number of rows among the `oldest` rows of the history, shape (n_groups,)."""
        counts = np.bincount(self.group_of_row[self._by_time[:oldest]], minlength=self.n_groups)
        return counts.astype(np.int64)

    @cached_property
    def _by_time(self) -> Integers:
        return np.argsort(self.rows.times, kind="stable")

    @cached_property
    def _by_known_at(self) -> Integers:
        return np.argsort(self.known_at, kind="stable")

    @cached_property
    def _sorted_times(self) -> Integers:
        return self.rows.times[self._by_time]

    @cached_property
    def _sorted_known_at(self) -> Integers:
        return self.known_at[self._by_known_at]


def _within(order: Integers, ordered: Integers, begin: int, end: int) -> Integers:
    """The part of `order` whose values are in (begin, end]. ordered: the values in that order."""
    first, last = np.searchsorted(ordered, [begin, end], "right")
    return order[first:last]


def _known_at(frame: pd.DataFrame, rows: TrainingSet, timing: LabelTiming) -> Integers:
    """Return when the label of each row of `rows` was known, microseconds, shape (n_rows,).

    Of several copies of an event the earliest time counts. A label without a time of its own is known `label_delay`
    after its event.
    """
    without = rows.times + timing.label_delay
    if OBSERVED_AT not in frame:
        return without
    observed = to_microseconds(frame[OBSERVED_AT])
    # A copy without the label says nothing of when the label was known.
    given = (observed != NULL_TIME) & frame["label"].notna().to_numpy(dtype=np.bool_)
    order = np.argsort(observed[given], kind="stable")[::-1]  # a mapping keeps the last: the earliest
    names = ("group_key", "event_id")
    keys, ids = (frame[name].to_numpy(dtype=object)[given][order].tolist() for name in names)
    times = to_microseconds(frame["event_time"])[given][order].tolist()
    first = dict(zip(zip(keys, ids, times, strict=True), observed[given][order].tolist(), strict=True))
    owners = np.repeat(np.array(rows.keys, dtype=object), np.diff(rows.starts)).tolist()
    wanted = zip(owners, rows.ids.tolist(), rows.times.tolist(), without.tolist(), strict=True)
    return np.array([first.get((key, id_, at), default) for key, id_, at, default in wanted], dtype=np.int64)
