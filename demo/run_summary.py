"""The summary of a demo: an object of plain values for JSON, from the tables, the ledger and the clocks.

Keys (stable: names and meanings do not change):

fleet           name, target, loss, group (columns), groups
span            history_from, start, end (event time), days, wall_seconds
events          records, distinct, duplicates, dead (sent); stored, stored_twice, loaded (in the table)
dead_letters    reason -> records found
outcomes        records, distinct, duplicates (sent); stored, loaded, matched, unmatched (in the table)
predictions     rows, by_answer: own, parent, global, none -> rows
reconciliation  adds_up; checks: name, says, expected, found, missing, unexpected, twice, examples, adds_up
groups          total; by_state: see `spinney.core.reporting.group_status.State`
retrained       fits (with those of parents), fits_of_parents, groups, by_reason, by_day, by_decision, not_fitted,
                before_the_stream
found_by_error  changed, found (by error_rise), hours: n, p50, p95, max (event time); others: not_risen, refitted,
                unnoticed, see `found_by_error`, None if `worth` is; other_alarms; None without a change
freshness       promoted, answered, no_event_yet; stale_to_answer, stale_to_promoted: n, p50, p95, max (s); histogram
gain            see `spinney.core.reporting.retraining_gain.RetrainingGain`; says: in a sentence; None without any
intervals       of the groups that did not change, see `interval_coverage`; None without any, or without `worth`
budget          rounds, allowed_seconds, predicted_seconds, used_seconds, deferred, stages
batches         query -> batches, rows, seconds (n, p50, p95, max), rows_per_second, phases (mean s), line
worth           see `refit_comparison.summarize_comparison`; None if it was not evaluated
life            one group: group_key, injected, points, rounds; None without worth
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from demo import retraining_summary
from demo.fleet_tables import FleetTables
from demo.found_by_error import InjectedChange, summarize_found_by_error
from demo.interval_coverage import summarize_intervals
from demo.ledger import Ledger
from demo.reconcile import event_ids, reconcile
from demo.refit_comparison import FLEET, RefitComparison, StreamWindow, summarize_comparison
from demo.scenario import Scenario
from schemas.vocabulary import Decision
from spinney.core.config import Config
from spinney.fleet import GroupStatus

FORMAT = 1
MAX_POINTS = 400
"""Largest number of points in a line of a chart."""


@dataclass(frozen=True)
class DemoRun:
    """The results of a demo.

    statuses: the status of every group. batches: one mapping per micro-batch: query, batch_id, rows, seconds, phases
    (name -> seconds). comparison: with other refit strategies; None leaves this part of the summary out.
    """

    tables: FleetTables
    statuses: Sequence[GroupStatus]
    ledger: Ledger
    batches: Sequence[Mapping[str, Any]]
    wall_seconds: float
    comparison: RefitComparison | None = None


def stream_window(scenario: Scenario, label_delay: timedelta, injected: frozenset[str]) -> StreamWindow:
    """Return the stream's window as `refit_comparison` takes it. injected: keys of the changed groups."""
    return StreamWindow(scenario.stream_start, scenario.stream_end, label_delay, scenario.change_at, injected)


def summarize_run(run: DemoRun, scenario: Scenario, config: Config, injected: frozenset[str]) -> dict[str, Any]:
    """Return the summary; its keys are listed above."""
    tables, fleet = run.tables, config.fleet
    window = stream_window(scenario, config.fleet.label_delay, injected)
    return {
        "format": FORMAT,
        "fleet": {
            "name": fleet.name,
            "target": fleet.target,
            "loss": fleet.loss,
            "group": list(fleet.group),
            "groups": int(tables.events["group_key"].nunique()),
        },
        "span": {
            "history_from": scenario.history_start.isoformat(),
            "start": scenario.stream_start.isoformat(),
            "end": scenario.stream_end.isoformat(),
            "days": scenario.stream.days,
            "wall_seconds": run.wall_seconds,
        },
        "events": _events(tables, run.ledger),
        "dead_letters": retraining_summary.plain_counts(tables.dead_letters["reason"].value_counts()),
        "outcomes": _outcomes(tables, run.ledger),
        "predictions": {
            "rows": len(tables.predictions),
            "by_answer": retraining_summary.plain_counts(tables.predictions["answered_by"].value_counts()),
        },
        "reconciliation": reconcile(tables, run.ledger),
        "groups": retraining_summary.count_groups_by_state(run.statuses),
        "retrained": retraining_summary.summarize_retraining(tables),
        "found_by_error": _found_by_error(run, scenario, injected),
        "freshness": retraining_summary.summarize_freshness(tables),
        "gain": retraining_summary.summarize_gain(tables),
        "intervals": _intervals(run, config, injected),
        "budget": retraining_summary.summarize_budget(tables),
        "batches": summarize_batches(run.batches),
        "injected_says": scenario.injected.says if scenario.injected else "",
        "worth": None if run.comparison is None else summarize_comparison(run.comparison, window, scenario.unit),
        "life": None if run.comparison is None else group_timeline(run.comparison, tables, injected),
    }


def _found_by_error(run: DemoRun, scenario: Scenario, injected: frozenset[str]) -> dict[str, Any] | None:
    if scenario.change_at is None:
        return None
    losses = None if run.comparison is None else run.comparison.frame
    return summarize_found_by_error(run.tables, InjectedChange(injected, scenario.change_at), losses)


def _intervals(run: DemoRun, config: Config, injected: frozenset[str]) -> dict[str, Any] | None:
    if run.comparison is None:
        return None
    labels = run.comparison.frame
    labels = labels[~labels["group_key"].isin(injected)]
    return summarize_intervals(run.tables.predictions, labels, config.intervals.coverage)


def _events(tables: FleetTables, ledger: Ledger) -> dict[str, int]:
    stored = event_ids(tables.events)
    return {
        "records": ledger.event_records,
        "distinct": len(ledger.events),
        "duplicates": len(ledger.event_duplicates),
        "dead": len(ledger.dead),
        "stored": len(set(stored) - ledger.loaded_events),
        "stored_twice": len(stored) - len(set(stored)),
        "loaded": len(set(stored) & ledger.loaded_events),
    }


def _outcomes(tables: FleetTables, ledger: Ledger) -> dict[str, int]:
    stored, answered = set(event_ids(tables.outcomes)), set(event_ids(tables.predictions))
    streamed = stored - ledger.loaded_outcomes
    return {
        "records": ledger.outcome_records,
        "distinct": len(ledger.outcomes),
        "duplicates": len(ledger.outcome_duplicates),
        "stored": len(streamed),
        "loaded": len(stored & ledger.loaded_outcomes),
        "matched": len(streamed & answered),
        "unmatched": len(streamed - answered),
    }


def summarize_batches(progress: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the durations (s) of each query's batches, in the order in which the queries first appear."""
    by_query: dict[str, Any] = {}
    for query in dict.fromkeys(str(one["query"]) for one in progress):
        of_query = sorted((one for one in progress if one["query"] == query), key=lambda one: one["batch_id"])
        seconds = np.array([float(one["seconds"]) for one in of_query])
        rows = sum(int(one["rows"]) for one in of_query)
        phases = pd.DataFrame([dict(one.get("phases") or {}) for one in of_query]).fillna(0.0).mean()
        by_query[query] = {
            "batches": len(of_query),
            "rows": rows,
            "seconds": retraining_summary.quantiles(seconds),
            "rows_per_second": rows / float(seconds.sum()) if seconds.sum() > 0 else 0.0,
            "phases": {str(name): float(mean) for name, mean in phases.items()},
            "line": sample_evenly([[int(one["batch_id"]), float(one["seconds"])] for one in of_query]),
        }
    return by_query


def group_timeline(comparison: RefitComparison, tables: FleetTables, injected: frozenset[str]) -> dict[str, Any] | None:
    """Return each event's loss and each round of one group; None without any events.

    The group is the one with most events, of those with an injected change if there are any.
    """
    frame = comparison.frame
    candidates = frame[frame["group_key"].isin(injected)] if injected else frame
    if not len(candidates):
        return None
    sizes = candidates["group_key"].value_counts()
    group_key = min(sizes.index[sizes == sizes.max()])
    group_rows = frame[frame["group_key"] == group_key].sort_values("event_time")
    points = [
        [time.isoformat(), float(own), float(never)]
        for time, own, never in zip(group_rows["event_time"], group_rows[FLEET], group_rows["never"], strict=True)
    ]
    promotions = tables.streamed_rows(tables.promotions)
    is_about_challenger = promotions["decision"] != Decision.WITHDRAWN.value
    decided = promotions[(promotions["group_key"] == group_key) & is_about_challenger]
    fit_verdicts = tables.verdicts[(tables.verdicts["group_key"] == group_key) & (tables.verdicts["decision"] == "fit")]
    joined = decided.merge(
        fit_verdicts[["round_id", "policy", "reason"]], on="round_id", how="left", suffixes=("", "_why")
    )
    rounds = [
        {
            "at": row["clock"].isoformat(),
            "decision": str(row["decision"]),
            "policy": _text(row["policy"]),
            "reason": _text(row["reason_why"]),
            "gate": _text(row["reason"]),
        }
        for _, row in joined.sort_values("decided_at").iterrows()
        if pd.notna(row["clock"])
    ]
    kept = sample_evenly(points)
    return {"group_key": group_key, "injected": group_key in injected, "points": kept, "rounds": rounds}


def sample_evenly(points: list[Any]) -> list[Any]:
    """Return at most MAX_POINTS of the points, evenly spaced, with the first and the last."""
    if len(points) <= MAX_POINTS:
        return points
    return [points[at] for at in np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(int)]


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else str(value)
