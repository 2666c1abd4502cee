"""The numbers of a whole fleet: states, age and error as bands, the queue, rounds, decisions, the worst groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from schemas.vocabulary import Staleness
from spinney.core import timestamps
from spinney.core.champions.fleet_champion_selection import integer_values
from spinney.core.champions.promotion import CHAMPION_COLUMNS
from spinney.core.reporting.champion_age import champion_ages, clock_at
from spinney.core.reporting.fleet_summary import Summary, summarize_fleet
from spinney.core.reporting.incumbent_comparison import IncumbentComparison, measure_for
from spinney.core.reporting.incumbent_comparison import summarize as summarize_comparison
from spinney.core.reporting.loss_names import error_label
from spinney.core.reporting.quantile_bands import NO_BANDS, QuantileBands, make_bands, regular_moments, round_step
from spinney.core.reporting.retrain_queue import QUEUE_COLUMNS, RetrainQueue, describe_queue
from spinney.core.reporting.retraining_gain import RetrainingGain
from spinney.core.reporting.round_progress import RoundProgress
from spinney.page_data.rounds_under_way import read_rounds_under_way
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.lookup import InShards, NotBefore
from spinney.tables.readers import error_history, fit_metrics, fleet_clock
from spinney.tables.readers.incremental_gain import IncrementalGain

WINDOW = timedelta(days=30)
"""Length of the period that the bands show: ages by the wall clock, errors by event time."""

TIMES = 30
"""Number of times at which the bands have a value."""

DAY = timedelta(days=1)
SHOWN = 20
"""Largest number of queued groups, decisions and worst groups in the figures."""

ROWS_IN_MEMORY, ROWS_AT_ONCE = 1_000_000, 25_000
"""Rows of `promotions` read at a time, and those whose ages are computed at a time, in four times the memory."""

INTERVALS_AT_ONCE = 4
"""Intervals of event time whose errors are in memory: a row of 40 bytes for each group in each interval."""

_DECISION = (
    "decided_at", "group_key", "decision", "model_id", "reason", "challenger_loss", "champion_loss", "rows_compared",
    "by", "round_id",
)  # fmt: skip


@dataclass(frozen=True)
class FleetFigures:
    """The figures of a fleet. The field names are those of the page's JSON.

    at: when the figures were read, by the wall clock. clock: the fleet's clock then; None before the first event.
    error_label: what the error measures. age: of champions, in seconds. error: mean loss per group and interval of
    event time. budget_seconds: of `[budget]`, the predicted seconds that a streaming round may take. under_way: rounds
    that are retraining groups, at most one of the stream and one of batches. decisions: of the last day, by kind.
    """

    at: datetime
    clock: datetime | None
    summary: Summary
    error_label: str
    age: QuantileBands
    error: QuantileBands
    queue: RetrainQueue
    budget_seconds: float
    under_way: tuple[RoundProgress, ...]
    decisions: Mapping[str, int]
    latest_decisions: tuple[dict[str, Any], ...]


def read_summary(
    store: FleetStore, statuses: pa.Table, incumbent: IncumbentComparison, gain: RetrainingGain | None
) -> Summary:
    """Return the summary of a fleet. statuses: from `Fleet.table`. gain: from `Fleet.gain`. Raises StoreError."""
    champions = statuses.column("model_id").drop_null().combine_chunks()
    fits, losses = fit_metrics.read_fit_measures(store, champions), charter.losses_of(store)
    summary = summarize_fleet(store.fleet.name, losses.now, statuses, fits, incumbent, gain)
    return replace(summary, begun_anew=losses.begun_anew)


def read_fleet_figures(
    kept: IncrementalGain,
    label_horizon: timedelta,
    budget_seconds: float,
    statuses: pa.Table,
    now: datetime,
    before: FleetFigures | None = None,
) -> FleetFigures:
    """Return the figures of a fleet.

    kept: the fleet's gain from retraining, which is read step by step. label_horizon: of `[kafka]`. budget_seconds: of
    `[budget]`. statuses: from `Fleet.table`. before: an earlier reading; without it the gain is read from the
    beginning. Raises StoreError.
    """
    store, fleet = kept.store, kept.store.fleet
    no_incumbent = summarize_comparison(measure_for(str(fleet.task), str(fleet.loss))[0], [])
    clock = fleet_clock.read_fleet_clock(store)
    decisions, latest = _read_decisions(store, now - DAY)
    gain = kept.read(now, again=before is None)
    return FleetFigures(
        at=now,
        clock=clock,
        summary=_shortened(read_summary(store, statuses, no_incumbent, gain)),
        error_label=error_label(charter.losses_of(store)),
        age=_read_ages(store, clock, now, NO_BANDS if before is None else before.age),
        error=_read_errors(store, label_horizon, NO_BANDS if before is None else before.error),
        queue=describe_queue(statuses, _read_newest_stale_verdicts(store), SHOWN),
        budget_seconds=budget_seconds,
        under_way=read_rounds_under_way(store, now),
        decisions=decisions,
        latest_decisions=latest,
    )


def _shortened(summary: Summary) -> Summary:
    return replace(summary, worst=summary.worst[:SHOWN])


def _read_newest_stale_verdicts(store: FleetStore) -> pa.Table:
    """The newest verdict of each group among those that called it stale, with QUEUE_COLUMNS.

    Aggregated while they are read: a million verdicts with their reasons would take 510 MB, their newest take 12 MB.
    """
    others = [name for name in QUEUE_COLUMNS if name not in ("group_key", "judged_at")]
    newest = ", ".join(f"last_value({name} ORDER BY judged_at) AS {name}" for name in others)
    where = f"WHERE decision IN ('{Staleness.FIT.value}', '{Staleness.DEFERRED.value}') GROUP BY group_key"
    columns, what = [*QUEUE_COLUMNS, "decision"], f"group_key, max(judged_at) AS judged_at, {newest}"
    kinds = arrow_schema(store.contract(tables.VERDICTS))
    found = lookup.select(store, tables.VERDICTS, columns, what, where).select(QUEUE_COLUMNS)
    return found.cast(pa.schema([kinds.field(name) for name in QUEUE_COLUMNS]))


def _read_ages(store: FleetStore, clock: datetime | None, now: datetime, known: QuantileBands) -> QuantileBands:
    """The ages of champions at regular moments of the wall clock.

    known: the bands of an earlier reading, whose past moments do not change.
    """
    first = lookup.earliest_time(store, tables.PROMOTIONS, "decided_at")
    if first is None or clock is None:
        return NO_BANDS
    began, ends = max(first, now - WINDOW), max(first, now)
    times = regular_moments(began, ends, round_step(began, ends, TIMES))
    new = tuple(time for time in times if time not in known.times[:-1])
    return known.followed_by(_read_ages_at(store, new, clock)).at(times)


def _read_ages_at(store: FleetStore, times: tuple[datetime, ...], clock: datetime) -> QuantileBands:
    moments = np.array([timestamps.to_microseconds(time) for time in times], dtype=np.int64)
    clocks = _clocks(store, moments, clock)
    by_moment: list[list[npt.NDArray[np.float64]]] = [[] for _ in moments]
    for promotions in _promotions(store):
        for found, ages in zip(by_moment, champion_ages(promotions, moments, clocks), strict=True):
            found.append(ages)
    bands = NO_BANDS
    for time, found in zip(times, by_moment, strict=True):  # one after the other: sorted together they take 70 MB
        ages = np.concatenate(found)
        bands = bands.followed_by(make_bands((time,), np.zeros(len(ages), dtype=np.int64), ages))
    return bands


def _clocks(store: FleetStore, moments: npt.NDArray[np.int64], clock: datetime) -> npt.NDArray[np.int64]:
    """The fleet's clock at moments of the wall clock, the last of which is now. clock: the fleet's now."""
    if store.fleet.clock == "wall":
        return moments
    pairs = [
        lookup.select(
            store,
            base,
            [at, "clock"],
            f"{at} AS seen_at, max(clock) AS clock",
            f"WHERE clock IS NOT NULL GROUP BY {at}",
        )
        for base, at in ((tables.PROMOTIONS, "decided_at"), (tables.VERDICTS, "judged_at"))
    ]
    known = pa.concat_tables(pairs, promote_options="permissive")
    seen_at, clocks = (integer_values(known, name) for name in ("seen_at", "clock"))
    newest = timestamps.to_microseconds(clock)
    return clock_at(moments, np.append(seen_at, moments[-1]), np.append(clocks, newest))


def _promotions(store: FleetStore) -> Iterator[pa.Table]:
    """Yield the promotions of all groups, without parents, about ROWS_AT_ONCE at a time; all rows of a group together.

    Up to ROWS_IN_MEMORY are read in one pass.
    """
    shards = store.fleet.shards
    passes = min(shards, 1 + lookup.count_rows(store, tables.PROMOTIONS) // ROWS_IN_MEMORY)
    for index in range(passes):
        first, end = (shards * place // passes for place in (index, index + 1))
        rows = lookup.read_where(store, tables.PROMOTIONS, ("shard", *CHAMPION_COLUMNS), InShards(first, end - 1))
        rows = rows.filter(pc.invert(pc.starts_with(rows.column("group_key"), "{")))
        pieces = min(end - first, 1 + rows.num_rows // ROWS_AT_ONCE)
        piece_of = (integer_values(rows, "shard") - first) * pieces // (end - first)
        for piece in range(pieces):
            yield rows.filter(pa.array(piece_of == piece)).select(CHAMPION_COLUMNS)


def _read_errors(store: FleetStore, settled_after: timedelta, known: QuantileBands) -> QuantileBands:
    """The mean errors between successive regular moments of event time, each shown at the later moment.

    settled_after: how long an earlier reading may still change; events and labels that come later are left out. known:
    the bands of an earlier reading.
    """
    ends = error_history.read_time_range(store)
    if ends is None:
        return NO_BANDS
    first, last = max(ends[0], ends[1] - WINDOW), ends[1]
    step = round_step(first, last, TIMES)
    times = regular_moments(first, last, step)
    settled = {time for time in known.times[:-1] if time <= last - settled_after}
    kept = next(place for place, time in enumerate(times) if time not in settled or place == len(times) - 1)
    new = times[kept:]
    after = times[kept - 1] if kept else _multiple_before(times[0], step)
    bands = known
    for place in range(0, len(new), INTERVALS_AT_ONCE):
        some = new[place : place + INTERVALS_AT_ONCE]
        bands = bands.followed_by(_read_error_bands(store, after + step * place, step, some))
    return bands.at(times)


def _read_error_bands(
    store: FleetStore, after: datetime, step: timedelta, times: tuple[datetime, ...]
) -> QuantileBands:
    """The mean errors in intervals of this length after a moment. times: of each interval."""
    sums = error_history.read_error_history(store, after, step, len(times))
    mean = pc.divide(sums.column("loss"), pc.cast(sums.column("labelled"), pa.float64()))
    return make_bands(times, np.asarray(sums.column("bucket")), np.asarray(mean))


def _multiple_before(moment: datetime, step: timedelta) -> datetime:
    """The last whole multiple of the step since 1970 that is before a moment."""
    width = step // timedelta(microseconds=1)
    return timestamps.from_microseconds((timestamps.to_microseconds(moment) - 1) // width * width)


def _read_decisions(store: FleetStore, since: datetime) -> tuple[dict[str, int], tuple[dict[str, Any], ...]]:
    """Return the number of decisions of each kind since `since`, and the newest decisions, however old."""
    recent = str(NotBefore("decided_at", since))
    columns, grouped = ["decision", "decided_at"], f"WHERE {recent} GROUP BY decision ORDER BY n DESC, decision"
    counted = lookup.select(store, tables.PROMOTIONS, columns, "decision, count(*) AS n", grouped).to_pylist()
    newest = lookup.read_newest(store, tables.PROMOTIONS, _DECISION, "decided_at", SHOWN)
    return {row["decision"]: row["n"] for row in counted}, tuple(lookup.to_dicts(newest))
