"""What the fleet was worth: its own answers beside those of the same fleet refitted daily, weekly and never.

The three others are replayed here with the same recipe and the same code, each refit knowing only what was known at
its moment: rows whose event is older than `label_delay` and whose label had come. All four are judged on the same
events: those of the stream whose label is known, that are mature at its end, and that all four have answered.
Nobody's gate is replayed: a refit of the others always takes the place of the model before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from demo.recovery import Recovery, recovery
from spinney.core import keys
from spinney.core.features.encoding import Floats

FLEET = "fleet"
EVERY: Mapping[str, timedelta | None] = {"daily": timedelta(days=1), "weekly": timedelta(days=7), "never": None}
"""The others: how often they are refitted; None: only once, at the stream's start."""

NAMES = (FLEET, *EVERY)
WORST = 10
WORST_FEWEST_ROWS = 10


class Fitted(Protocol):
    """Models by id, able to answer rows of which each has an id or None. One answer per row, None for nobody."""

    def answer(self, frame: pd.DataFrame, ids: Sequence[str | None]) -> npt.NDArray[Any]: ...


class Fitter(Protocol):
    """Fits the groups of a frame. Returns group (or parent) key -> id, for each that could be fitted.

    rows: mature rows: group_key, event_id, event_time, features, label. clock: the moment of the refit.
    """

    def fit(self, rows: pd.DataFrame, clock: datetime) -> Mapping[str, str]: ...

    @property
    def fitted(self) -> Fitted: ...


@dataclass(frozen=True)
class Span:
    """The stream's time, how old a row is when it is mature, and what was changed when. Times are UTC."""

    start: datetime
    end: datetime
    label_delay: timedelta
    change_at: datetime | None = None
    injected: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Family:
    """Who answers for a group without a model: names of the key columns, and of each parent, nearest first."""

    group: tuple[str, ...]
    parents: tuple[tuple[str, ...], ...] = ()

    def chain(self, group_key: str) -> tuple[str, ...]:
        return (group_key, *keys.ancestors(self.group, self.parents, group_key))


@dataclass(frozen=True)
class Compared:
    """One row per event judged: group_key, event_id, event_time, label, and a column of losses for each of NAMES.

    left_out: events with a label that were not judged, because one of the four had no answer.
    refits: groups fitted after the start, by each of the others.
    """

    frame: pd.DataFrame
    left_out: int
    refits: Mapping[str, int]


LossOf = Callable[[pd.Series, npt.NDArray[Any]], Floats]
"""(labels, answers) -> the fleet's loss of each row; NaN where there is no answer."""


def refit_times(span: Span, every: timedelta | None) -> tuple[datetime, ...]:
    """When a fleet is refitted: at the start, then every so often before the end."""
    times = [span.start]
    while every is not None and times[-1] + every < span.end:
        times.append(times[-1] + every)
    return tuple(times)


def mature(rows: pd.DataFrame, span: Span, now: datetime) -> pd.DataFrame:
    """The rows that may be fitted at `now`: old enough, and with a label that had come by then."""
    known = rows["label"].notna() & (rows["label_at"] <= now)
    return rows[known & (rows["event_time"] + span.label_delay <= now)]


def compare(
    rows: pd.DataFrame, answers: pd.Series, span: Span, family: Family, tools: tuple[Fitter, LossOf]
) -> Compared:
    """Return the losses of all four on the same events.

    rows: history and stream: group_key, event_id, event_time, features, label, label_at. answers: the fleet's own
    predictions (or maps of probabilities), indexed by (group_key, event_id).
    """
    fitter, loss_of = tools
    stream = rows[(rows["event_time"] >= span.start) & (rows["event_time"] < span.end)]
    stream = mature(stream, span, span.end).reset_index(drop=True)
    fits = _fits(rows, stream, span, family, fitter)
    index = pd.MultiIndex.from_frame(stream[["group_key", "event_id"]])
    answered = {FLEET: answers.reindex(index).to_numpy(dtype=object)}
    for name, every in EVERY.items():
        answered[name] = _replayed(stream, refit_times(span, every), fits, family, fitter.fitted)
    frame = stream[["group_key", "event_id", "event_time", "label"]].copy()
    for name in NAMES:
        frame[name] = loss_of(stream["label"], answered[name])
    whole = np.isfinite(frame[list(NAMES)].to_numpy(dtype=float)).all(axis=1)
    refits = {name: _refits(fits, refit_times(span, every)) for name, every in EVERY.items()}
    return Compared(frame[whole].reset_index(drop=True), int((~whole).sum()), refits)


def _fits(
    rows: pd.DataFrame, stream: pd.DataFrame, span: Span, family: Family, fitter: Fitter
) -> dict[datetime, Mapping[str, str]]:
    """Fit at every moment that any of the others refits at; the groups first, then the parents that are needed."""
    times = sorted({at for every in EVERY.values() for at in refit_times(span, every)})
    fits: dict[datetime, Mapping[str, str]] = {}
    parents: set[str] = set()
    for at in times:
        known = mature(rows, span, at)
        own = fitter.fit(known, at)
        if at == span.start:
            orphans = sorted(set(stream["group_key"]) - set(own))
            parents = {parent for group_key in orphans for parent in family.chain(group_key)[1:]}
        fits[at] = {**fitter.fit(_as_parents(known, parents, family), at), **own}
    return fits


def _refits(fits: Mapping[datetime, Mapping[str, str]], times: Sequence[datetime]) -> int:
    """Groups fitted after the start; parents do not count."""
    return sum(not keys.is_parent(key) for at in times[1:] for key in fits[at])


def _as_parents(rows: pd.DataFrame, parents: set[str], family: Family) -> pd.DataFrame:
    """The rows once more for each of these parents that they belong to, under the parent's key."""
    chains = {group_key: family.chain(group_key)[1:] for group_key in rows["group_key"].unique()}
    copies = []
    for level in range(len(family.parents)):
        of = rows["group_key"].map({group_key: chain[level] for group_key, chain in chains.items()})
        needed = of.isin(parents)
        copies.append(rows[needed].assign(group_key=of[needed]))
    return pd.concat(copies, ignore_index=True) if copies else rows.iloc[0:0]


def _replayed(
    stream: pd.DataFrame,
    times: Sequence[datetime],
    fits: Mapping[datetime, Mapping[str, str]],
    family: Family,
    fitted: Fitted,
) -> npt.NDArray[Any]:
    """Answer each row with the newest model before it: the group's own, or else of its nearest parent."""
    answers = np.full(len(stream), None, dtype=object)
    champions: dict[str, str] = {}
    when = stream["event_time"]
    ends = [*times[1:], None]
    for begin, end in zip(times, ends, strict=True):
        champions.update(fits[begin])
        here = ((when >= begin) & ((when < end) if end is not None else True)).to_numpy(dtype=bool)
        part = stream[here]
        who = {
            group_key: next((champions[key] for key in family.chain(group_key) if key in champions), None)
            for group_key in part["group_key"].unique()
        }
        answers[here] = fitted.answer(part, [who[group_key] for group_key in part["group_key"]])
    return answers


def summary(compared: Compared, span: Span, unit: str = "") -> dict[str, Any]:
    """Return what it was worth as plain values: see `demo.measures` for the whole summary."""
    frame = compared.frame
    natural = frame[~frame["group_key"].isin(span.injected)]
    return {
        "events": len(frame),
        "left_out": compared.left_out,
        "groups": int(frame["group_key"].nunique()),
        "unit": unit,
        "mean_loss": _means(frame),
        "mean_loss_without_injected": _means(natural),
        "fits": dict(compared.refits),
        "daily": _daily(frame),
        "daily_without_injected": _daily(natural),
        "injected": _injected(frame, span),
        "worst": _worst(frame, span),
    }


def _daily(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"day": str(day), "events": len(part), **{name: float(part[name].mean()) for name in NAMES}}
        for day, part in frame.groupby(frame["event_time"].dt.strftime("%Y-%m-%d"))
    ]


def _means(frame: pd.DataFrame) -> dict[str, float | None]:
    return {name: float(frame[name].mean()) if len(frame) else None for name in NAMES}


def _injected(frame: pd.DataFrame, span: Span) -> dict[str, Any] | None:
    if span.change_at is None:
        return None
    changed = frame[frame["group_key"].isin(span.injected)]
    found: dict[str, Recovery] = {
        name: recovery(changed["event_time"], changed[name].to_numpy(dtype=float), span.change_at, span.end)
        for name in NAMES
    }
    return {
        "change_at": span.change_at.isoformat(),
        "groups": sorted(span.injected),
        "events_after": int((changed["event_time"] >= span.change_at).sum()),
        "before": {name: one.before for name, one in found.items()},
        "hours_to_recover": {name: one.hours for name, one in found.items()},
        "line": {name: [list(point) for point in one.line] for name, one in found.items()},
    }


def _worst(frame: pd.DataFrame, span: Span) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [
        {
            "group_key": str(group_key),
            "events": len(part),
            "injected": str(group_key) in span.injected,
            **{name: float(part[name].mean()) for name in NAMES},
        }
        for group_key, part in frame.groupby("group_key")
        if len(part) >= WORST_FEWEST_ROWS
    ]
    return sorted(groups, key=lambda one: -one[FLEET])[:WORST]
