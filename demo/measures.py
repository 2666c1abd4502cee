"""The summary of a demo: one object of plain values, ready for JSON, from the tables, the ledger and the clocks.

Keys, none of which changes its meaning or its name:

fleet           name, target, loss, group (columns), groups
span            history_from, start, end (event time), days, wall_seconds
events          records, distinct, duplicates, dead (sent); stored, stored_twice, loaded (in the table)
dead_letters    reason -> records found
outcomes        records, distinct, duplicates (sent); stored, loaded, matched, unmatched (in the table)
predictions     rows, by_answer: own, parent, global, none -> rows
reconciliation  adds_up; checks: name, says, expected, found, missing, unexpected, twice, examples, adds_up
groups          total; by_state: see `spinney.core.reporting.status.State`
retrained       fits, groups, by_reason, by_day, by_decision, not_fitted, before_the_stream
freshness       promoted, answered, no_event_yet; stale_to_answer, stale_to_promoted: n, p50, p95, max (s); histogram
budget          rounds, allowed_seconds, predicted_seconds, used_seconds, deferred, stages
batches         query -> batches, rows, seconds (n, p50, p95, max), rows_per_second, phases (mean s), line
worth           see `worth.summary`; None when it was not evaluated
life            one group: group_key, injected, points, rounds; None without worth
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from demo import retraining
from demo.ledger import Ledger
from demo.reconcile import ids, reconcile
from demo.story import Story
from demo.tables import Tables
from demo.worth import FLEET, Compared, Span, summary
from spinney.core.config import Config
from spinney.fleet import GroupStatus

FORMAT = 1
POINTS = 400
"""At most so many points of a line."""


@dataclass(frozen=True)
class Run:
    """What a demo left behind.

    standings: every group as the fleet tells of it.
    batches: one mapping per micro-batch: query, batch_id, rows, seconds, phases (name -> seconds).
    compared: what it was worth; None leaves that part out.
    """

    tables: Tables
    standings: Sequence[GroupStatus]
    ledger: Ledger
    batches: Sequence[Mapping[str, Any]]
    wall_seconds: float
    compared: Compared | None = None


def span_of(story: Story, config: Config, injected: frozenset[str]) -> Span:
    """The stream's time as `worth` asks for it."""
    return Span(story.start, story.end, config.fleet.label_delay, story.change_at, injected)


def measure(run: Run, story: Story, config: Config, injected: frozenset[str]) -> dict[str, Any]:
    """Return the summary; its keys are listed above."""
    tables, fleet = run.tables, config.fleet
    span = span_of(story, config, injected)
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
            "history_from": story.since.isoformat(),
            "start": story.start.isoformat(),
            "end": story.end.isoformat(),
            "days": story.stream.days,
            "wall_seconds": run.wall_seconds,
        },
        "events": _events(tables, run.ledger),
        "dead_letters": retraining.counts(tables.dead_letters["reason"].value_counts()),
        "outcomes": _outcomes(tables, run.ledger),
        "predictions": {
            "rows": len(tables.predictions),
            "by_answer": retraining.counts(tables.predictions["answered_by"].value_counts()),
        },
        "reconciliation": reconcile(tables, run.ledger),
        "groups": retraining.groups(run.standings),
        "retrained": retraining.retrained(tables),
        "freshness": retraining.freshness(tables),
        "budget": retraining.budget(tables),
        "batches": batches(run.batches),
        "injected_says": story.injected.says if story.injected else "",
        "worth": None if run.compared is None else summary(run.compared, span, story.unit),
        "life": None if run.compared is None else life(run.compared, tables, injected),
    }


def _events(tables: Tables, ledger: Ledger) -> dict[str, int]:
    stored = ids(tables.events)
    return {
        "records": ledger.event_records,
        "distinct": len(ledger.events),
        "duplicates": len(ledger.event_duplicates),
        "dead": len(ledger.dead),
        "stored": len(set(stored) - ledger.loaded_events),
        "stored_twice": len(stored) - len(set(stored)),
        "loaded": len(set(stored) & ledger.loaded_events),
    }


def _outcomes(tables: Tables, ledger: Ledger) -> dict[str, int]:
    stored, answered = set(ids(tables.outcomes)), set(ids(tables.predictions))
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


def batches(progress: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Durations of each query's batches, in the order in which the queries first appear. Seconds."""
    found: dict[str, Any] = {}
    for query in dict.fromkeys(str(one["query"]) for one in progress):
        mine = sorted((one for one in progress if one["query"] == query), key=lambda one: one["batch_id"])
        seconds = np.array([float(one["seconds"]) for one in mine])
        rows = sum(int(one["rows"]) for one in mine)
        phases = pd.DataFrame([dict(one.get("phases") or {}) for one in mine]).fillna(0.0).mean()
        found[query] = {
            "batches": len(mine),
            "rows": rows,
            "seconds": retraining.spread(seconds),
            "rows_per_second": rows / float(seconds.sum()) if seconds.sum() > 0 else 0.0,
            "phases": {str(name): float(mean) for name, mean in phases.items()},
            "line": thin([[int(one["batch_id"]), float(one["seconds"])] for one in mine]),
        }
    return found


def life(compared: Compared, tables: Tables, injected: frozenset[str]) -> dict[str, Any] | None:
    """One group from day to day: each event's loss, and each round that retrained it, in its own words.

    The busiest of the groups with an injected change, or else the busiest of all.
    """
    frame = compared.frame
    candidates = frame[frame["group_key"].isin(injected)] if injected else frame
    if not len(candidates):
        return None
    sizes = candidates["group_key"].value_counts()
    group_key = min(sizes.index[sizes == sizes.max()])
    mine = frame[frame["group_key"] == group_key].sort_values("event_time")
    points = [
        [time.isoformat(), float(own), float(never)]
        for time, own, never in zip(mine["event_time"], mine[FLEET], mine["never"], strict=True)
    ]
    promotions = tables.of_stream(tables.promotions)
    decided = promotions[promotions["group_key"] == group_key]
    why = tables.verdicts[(tables.verdicts["group_key"] == group_key) & (tables.verdicts["decision"] == "fit")]
    joined = decided.merge(why[["round_id", "policy", "reason"]], on="round_id", how="left", suffixes=("", "_why"))
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
    kept = thin(points)
    return {"group_key": group_key, "injected": group_key in injected, "points": kept, "rounds": rounds}


def thin(points: list[Any]) -> list[Any]:
    """At most POINTS of them, evenly picked, the first and the last among them."""
    if len(points) <= POINTS:
        return points
    return [points[at] for at in np.linspace(0, len(points) - 1, POINTS).round().astype(int)]


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else str(value)
