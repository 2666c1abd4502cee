"""Compare the fleet's answers with those of the same fleet refitted in turn, daily, weekly and never.

The other strategies are replayed here with the same recipe and code. In turn: with as many fits as the fleet, always of
the groups that have waited longest. Each refit uses only what was known at its time: rows whose event is older than
`label_delay` and whose label had arrived. All are evaluated on the same events: those of the stream that have a label,
are mature at its end, and were answered by all. The replay has no gate: a refit always replaces the model before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from demo.error_recovery import Recovery, measure_recovery
from demo.refits_in_turn import RefitSchedule, fit_in_turn
from spinney.core import keys
from spinney.core.features.encoding import Floats

FLEET = "fleet"
IN_TURN = "in_turn"
REFIT_INTERVALS: Mapping[str, timedelta | None] = {
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "never": None,
}
"""Interval of the refits of all groups at once; None: only one fit, at the start of the stream."""

STRATEGIES = (FLEET, IN_TURN, *REFIT_INTERVALS)
WORST_GROUPS = 10
WORST_GROUPS_MIN_ROWS = 10


class FittedModels(Protocol):
    """Fitted models by id."""

    def answer(self, frame: pd.DataFrame, ids: Sequence[str | None]) -> npt.NDArray[Any]:
        """Return one answer per row of the frame, by the model of the row's id; None where the id is None."""
        ...


class Fitter(Protocol):
    """Fits models for groups and keeps them."""

    def fit(self, rows: pd.DataFrame, clock: datetime) -> Mapping[str, str]:
        """Fit the groups of a frame. Returns group (or parent) key -> model id of each that could be fitted.

        rows: mature rows: group_key, event_id, event_time, features, label. clock: time of the refit.
        """
        ...

    @property
    def fitted(self) -> FittedModels:
        """All models fitted so far."""
        ...


@dataclass(frozen=True)
class StreamWindow:
    """Start and end of the stream, the age of a mature row, and the injected change. Times are UTC."""

    start: datetime
    end: datetime
    label_delay: timedelta
    change_at: datetime | None = None
    injected: frozenset[str] = frozenset()


@dataclass(frozen=True)
class GroupHierarchy:
    """The key columns of a group, and those of each parent that may answer for it, nearest first."""

    group: tuple[str, ...]
    parents: tuple[tuple[str, ...], ...] = ()

    def chain(self, group_key: str) -> tuple[str, ...]:
        """Return the group's key and its parents' keys, nearest first."""
        return (group_key, *keys.ancestors(self.group, self.parents, group_key))


@dataclass(frozen=True)
class RefitComparison:
    """The losses of all strategies.

    frame: a row per evaluated event: group_key, event_id, event_time, label, and a column of losses per strategy.
    left_out: events with a label that were not evaluated, because a strategy had no answer. refits: strategy -> fits
    of groups after the start, without parents.
    """

    frame: pd.DataFrame
    left_out: int
    refits: Mapping[str, int]


LossFunction = Callable[[pd.Series, npt.NDArray[Any]], Floats]
"""Takes (labels, answers), and returns the fleet's loss of each row; NaN without an answer."""


def refit_times(window: StreamWindow, every: timedelta | None) -> tuple[datetime, ...]:
    """Return the times at which a fleet is refitted: at the start, then at this interval until the end; None: only the
    start.
    """
    times = [window.start]
    while every is not None and times[-1] + every < window.end:
        times.append(times[-1] + every)
    return tuple(times)


def mature(rows: pd.DataFrame, window: StreamWindow, now: datetime) -> pd.DataFrame:
    """Return the rows that may be fitted at `now`: old enough, with a label that had arrived by then."""
    known = rows["label"].notna() & (rows["label_at"] <= now)
    return rows[known & (rows["event_time"] + window.label_delay <= now)]


def compare_refits(
    rows: pd.DataFrame,
    answers: pd.Series,
    window: StreamWindow,
    hierarchy: GroupHierarchy,
    tools: tuple[Fitter, LossFunction],
    fleet_fits: int,
) -> RefitComparison:
    """Replay the other strategies and return the losses of all on the same events.

    rows: history and stream: group_key, event_id, event_time, features, label, label_at. answers: the fleet's own
    predictions (or maps of probabilities), indexed by (group_key, event_id). fleet_fits: number of its
    fits of groups, without parents.
    """
    fitter, loss_function = tools
    stream = rows[(rows["event_time"] >= window.start) & (rows["event_time"] < window.end)]
    stream = mature(stream, window, window.end).reset_index(drop=True)
    schedules = _fit_schedules(rows, stream, window, hierarchy, fitter, fleet_fits)
    index = pd.MultiIndex.from_frame(stream[["group_key", "event_id"]])
    answered = {FLEET: answers.reindex(index).to_numpy(dtype=object)}
    for name, schedule in schedules.items():
        answered[name] = _replay_answers(stream, schedule, hierarchy, fitter.fitted)
    frame = stream[["group_key", "event_id", "event_time", "label"]].copy()
    for name in STRATEGIES:
        frame[name] = loss_function(stream["label"], answered[name])
    whole = np.isfinite(frame[list(STRATEGIES)].to_numpy(dtype=float)).all(axis=1)
    refits = {FLEET: fleet_fits} | {name: _count_refits(schedule) for name, schedule in schedules.items()}
    return RefitComparison(frame[whole].reset_index(drop=True), int((~whole).sum()), refits)


def _fit_schedules(
    rows: pd.DataFrame,
    stream: pd.DataFrame,
    window: StreamWindow,
    hierarchy: GroupHierarchy,
    fitter: Fitter,
    fleet_fits: int,
) -> dict[str, RefitSchedule]:
    """Fit the models of every strategy but the fleet."""
    fits = _fit_all(rows, stream, window, hierarchy, fitter)
    is_old_at = rows["event_time"] + window.label_delay
    known_at = is_old_at.where(is_old_at > rows["label_at"], rows["label_at"])
    known_at = known_at.set_axis(rows["group_key"])[rows["label"].notna().to_numpy()]

    def fit_groups(at: datetime, group_keys: Sequence[str]) -> Mapping[str, str]:
        known = mature(rows, window, at)
        return fitter.fit(known[known["group_key"].isin(group_keys)], at)

    in_turn: RefitSchedule = {window.start: fits[window.start]}
    in_turn |= fit_in_turn(known_at, (window.start, window.end), fleet_fits, fit_groups)
    for at in refit_times(window, REFIT_INTERVALS["daily"])[1:]:
        parents = {key: model_id for key, model_id in fits[at].items() if keys.is_parent(key)}
        in_turn[at] = {**in_turn[at], **parents}
    periodic = {name: {at: fits[at] for at in refit_times(window, every)} for name, every in REFIT_INTERVALS.items()}
    return {IN_TURN: in_turn, **periodic}


def _fit_all(
    rows: pd.DataFrame, stream: pd.DataFrame, window: StreamWindow, hierarchy: GroupHierarchy, fitter: Fitter
) -> dict[datetime, Mapping[str, str]]:
    """Fit at every time at which a strategy refits all groups: the groups, then the parents that are needed."""
    times = sorted({at for every in REFIT_INTERVALS.values() for at in refit_times(window, every)})
    fits: dict[datetime, Mapping[str, str]] = {}
    parents: set[str] = set()
    for at in times:
        known = mature(rows, window, at)
        own = fitter.fit(known, at)
        if at == window.start:
            orphans = sorted(set(stream["group_key"]) - set(own))
            parents = {parent for group_key in orphans for parent in hierarchy.chain(group_key)[1:]}
        fits[at] = {**fitter.fit(_as_parent_rows(known, parents, hierarchy), at), **own}
    return fits


def _count_refits(schedule: RefitSchedule) -> int:
    """Return the number of groups fitted after the start, without parents."""
    return sum(not keys.is_parent(key) for at in sorted(schedule)[1:] for key in schedule[at])


def _as_parent_rows(rows: pd.DataFrame, parents: set[str], hierarchy: GroupHierarchy) -> pd.DataFrame:
    """Return the rows of these parents: a copy of each row, with the parent's key, for each parent
    that it belongs to.
    """
    chains = {group_key: hierarchy.chain(group_key)[1:] for group_key in rows["group_key"].unique()}
    copies = []
    for level in range(len(hierarchy.parents)):
        of = rows["group_key"].map({group_key: chain[level] for group_key, chain in chains.items()})
        needed = of.isin(parents)
        copies.append(rows[needed].assign(group_key=of[needed]))
    return pd.concat(copies, ignore_index=True) if copies else rows.iloc[0:0]


def _replay_answers(
    stream: pd.DataFrame,
    schedule: RefitSchedule,
    hierarchy: GroupHierarchy,
    fitted: FittedModels,
) -> npt.NDArray[Any]:
    """Answer each row by the newest model before it: the group's own, else that of its nearest parent."""
    answers = np.full(len(stream), None, dtype=object)
    champions: dict[str, str] = {}
    when, times = stream["event_time"], sorted(schedule)
    ends = [*times[1:], None]
    for start, end in zip(times, ends, strict=True):
        champions.update(schedule[start])
        in_period = ((when >= start) & ((when < end) if end is not None else True)).to_numpy(dtype=bool)
        part = stream[in_period]
        model_ids = {
            group_key: next((champions[key] for key in hierarchy.chain(group_key) if key in champions), None)
            for group_key in part["group_key"].unique()
        }
        answers[in_period] = fitted.answer(part, [model_ids[group_key] for group_key in part["group_key"]])
    return answers


def summarize_comparison(comparison: RefitComparison, window: StreamWindow, unit: str = "") -> dict[str, Any]:
    """Return the comparison as plain values: the part `worth` of the summary. unit: of the loss."""
    frame = comparison.frame
    natural = frame[~frame["group_key"].isin(window.injected)]
    return {
        "events": len(frame),
        "left_out": comparison.left_out,
        "groups": int(frame["group_key"].nunique()),
        "unit": unit,
        "mean_loss": _means(frame),
        "mean_loss_without_injected": _means(natural),
        "fits": dict(comparison.refits),
        "daily": _daily(frame),
        "daily_without_injected": _daily(natural),
        "injected": _injected(frame, window),
        "worst": _worst(frame, window),
    }


def _daily(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"day": str(day), "events": len(part), **{name: float(part[name].mean()) for name in STRATEGIES}}
        for day, part in frame.groupby(frame["event_time"].dt.strftime("%Y-%m-%d"))
    ]


def _means(frame: pd.DataFrame) -> dict[str, float | None]:
    return {name: float(frame[name].mean()) if len(frame) else None for name in STRATEGIES}


def _injected(frame: pd.DataFrame, window: StreamWindow) -> dict[str, Any] | None:
    if window.change_at is None:
        return None
    changed = frame[frame["group_key"].isin(window.injected)]
    recoveries: dict[str, Recovery] = {
        name: measure_recovery(changed["event_time"], changed[name].to_numpy(dtype=float), window.change_at, window.end)
        for name in STRATEGIES
    }
    return {
        "change_at": window.change_at.isoformat(),
        "groups": sorted(window.injected),
        "events_after": int((changed["event_time"] >= window.change_at).sum()),
        "before": {name: one.before for name, one in recoveries.items()},
        "hours_to_recover": {name: one.hours for name, one in recoveries.items()},
        "line": {name: [list(point) for point in one.line] for name, one in recoveries.items()},
    }


def _worst(frame: pd.DataFrame, window: StreamWindow) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [
        {
            "group_key": str(group_key),
            "events": len(part),
            "injected": str(group_key) in window.injected,
            **{name: float(part[name].mean()) for name in STRATEGIES},
        }
        for group_key, part in frame.groupby("group_key")
        if len(part) >= WORST_GROUPS_MIN_ROWS
    ]
    return sorted(groups, key=lambda one: -one[FLEET])[:WORST_GROUPS]
