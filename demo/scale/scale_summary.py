"""The summary of a demo at scale: an object of plain values for JSON. Pure.

Times of events and predictions are Kafka's own timestamps.

Keys (stable: names and meanings do not change):

fleet           name, groups, changed, as_busy (that do not change and have as many events), features, seed
history         rows, rows_per_group, write_seconds, load_seconds, rows_per_second (of the load)
weekly          groups, fitted, seconds, groups_per_second, stages (seconds)
stream          seconds, lead_in_seconds, rate (asked), busy_rate; sent, stored, answered (events); repeated_answers
                (records of the topic of predictions beyond the first of each event);
                sent_per_second, answered_per_second, finished_per_second (stored, answered and judged)
latency         event to prediction, after the lead-in: n, p50, p95, p99, max (s); growth (s a minute), after_the_last;
                lead_in: p50, p99; line: second, p50, p95
unanswered      events that were sent and not answered yet: most, at_the_end (of sending); line: second, events
memory          peak_mb, line: second, MB; None where there is no /proc
errors          changed, as_busy, others: before, old_model, new_model (mean loss; of a fit that was due after the
                change) and their rows; line: second, means
refits          changed, as_busy, others, earlier: groups, refitted, promoted, by_policy (fits); changed: fits that were
                due after the change; earlier: those of the same groups that were due before it, which are false
                alarms; examples: policy, kind, group_key, says, story; evidence_seconds: from the change until each
                changed group had enough events to judge by; to_stale, to_answer: seconds from the change: n, p50, p95,
                max; histogram of the latter
retrained       see `demo.run_summary`; so freshness, budget, batches, groups
reconciliation  adds_up; checks: see `demo.run_summary`
wall_seconds    of the whole command; acts: name -> seconds
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from demo import retraining_summary, run_summary
from demo.fleet_tables import FleetTables
from demo.reconcile import SetCheck, check_round_counts, compare_sets, event_ids
from demo.scale.synthetic_fleet import FEATURES, ROWS_PER_GROUP, Floats, group_key
from demo.scale.topic_times import TopicTimes
from demo.scale.traffic_plan import EVENTS_PER_SECOND, SLICES_PER_SECOND, TrafficPlan
from schemas.vocabulary import ModelStatus, Staleness
from spinney.core.errors import StoreError

FORMAT = 1
KINDS = ("changed", "as_busy", "others")
BEFORE_CHANGE = "earlier"
"""Kind of a fit of a changed group that was due before the change."""

BIN_SECONDS = 3
EXAMPLES = 3


@dataclass(frozen=True)
class ScaleRun:
    """The results of a demo at scale.

    tables: only the stream's events and predictions; all rows of the other tables.
    loaded: rows of the history that are stored.
    sent, answered: of each event, by Kafka.
    finished_at: when all was stored, answered and judged, seconds since the epoch.
    batches: as `run_summary.summarize_batches` takes them. memory: (seconds since the epoch, MB).
    by_state: groups at the end. weekly: the weekly round as it was recorded. seconds: history, load, weekly.
    """

    traffic: TrafficPlan
    tables: FleetTables
    loaded: int
    sent: TopicTimes
    answered: TopicTimes
    acknowledged: int
    finished_at: float
    batches: Sequence[Mapping[str, Any]]
    memory: Sequence[tuple[float, float]]
    by_state: Mapping[str, int]
    weekly: Mapping[str, Any]
    seconds: Mapping[str, float]

    @property
    def changed_at(self) -> float:
        """Time of the first event after the change, seconds since the epoch."""
        return float(np.nanmin(self.sent.at[self.traffic.events_before :]))


def summarize_scale_run(run: ScaleRun) -> dict[str, Any]:
    """Return the summary without `refits.examples`, `acts` and `wall_seconds`; its keys are listed above."""
    traffic, tables = run.traffic, run.tables
    answers = answered_events(run)
    return {
        "format": FORMAT,
        "fleet": {
            "name": "scale",
            "groups": traffic.groups,
            "changed": len(traffic.changed),
            "as_busy": len(traffic.unchanged),
            "features": len(FEATURES),
            "seed": traffic.seed,
        },
        "history": _history(run),
        "weekly": _weekly(run),
        "stream": _stream(run),
        "latency": _latency(run),
        "unanswered": _unanswered(run),
        "memory": _memory(run),
        "errors": summarize_errors(answers, run),
        "refits": summarize_refits(answers, run),
        "groups": {"total": sum(run.by_state.values()), "by_state": dict(run.by_state)},
        "retrained": retraining_summary.summarize_retraining(tables),
        "freshness": retraining_summary.summarize_freshness(tables),
        "budget": retraining_summary.summarize_budget(tables),
        "batches": run_summary.summarize_batches(run.batches),
        "reconciliation": reconcile_run(run),
    }


def group_kinds(traffic: TrafficPlan) -> npt.NDArray[np.str_]:
    """Return the kind of each group, by its number."""
    result = np.full(traffic.groups, "others", dtype="<U8")
    result[traffic.changed] = "changed"
    result[traffic.unchanged] = "as_busy"
    return result


def answered_events(run: ScaleRun) -> pd.DataFrame:
    """Return a row per answered event: number, group_key, kind, model_id, loss, new_model.

    new_model: whether a champion of the stream answered whose fit was due after the change.
    """
    frame = run.tables.predictions.drop_duplicates("event_id")
    number = frame["event_id"].str[1:].astype("int64").to_numpy()
    fitted = stream_fits(run)
    new = fitted.loc[fitted["promoted"] & fitted["after_change"], "model_id"]
    return pd.DataFrame(
        {
            "number": number,
            "group_key": frame["group_key"].to_numpy(),
            "kind": group_kinds(run.traffic)[run.traffic.group[number]],
            "model_id": frame["model_id"].to_numpy(),
            "loss": (frame["prediction"] - frame["label"]).abs().to_numpy(dtype=np.float64),
            "new_model": frame["model_id"].isin(set(new)).to_numpy() & (number >= run.traffic.events_before),
        }
    )


def _history(run: ScaleRun) -> dict[str, Any]:
    rows, seconds = run.traffic.groups * ROWS_PER_GROUP, run.seconds["load"]
    return {
        "rows": rows,
        "rows_per_group": ROWS_PER_GROUP,
        "write_seconds": run.seconds["history"],
        "load_seconds": seconds,
        "rows_per_second": rows / seconds,
    }


def _weekly(run: ScaleRun) -> dict[str, Any]:
    groups, seconds = int(run.weekly["groups_in"]), run.seconds["weekly"]
    stages = {str(name): float(value) for name, value in run.weekly["seconds"].items()}
    return {
        "groups": groups,
        "fitted": int(run.weekly["fitted"]),
        "seconds": seconds,
        "groups_per_second": groups / seconds,
        "stages": stages,
    }


def _stream(run: ScaleRun) -> dict[str, Any]:
    traffic, began = run.traffic, float(np.nanmin(run.sent.at))
    stored, answers = (len(set(event_ids(frame))) for frame in (run.tables.events, run.tables.predictions))
    return {
        "seconds": traffic.seconds,
        "lead_in_seconds": traffic.lead_in_seconds,
        "rate": EVENTS_PER_SECOND,
        "busy_rate": traffic.busy_rate,
        "sent": run.acknowledged,
        "stored": stored,
        "answered": answers,
        "repeated_answers": run.answered.repeated,
        # The events of a slice are sent at its beginning: the last one is as long as the others.
        "sent_per_second": run.acknowledged / (float(np.nanmax(run.sent.at)) - began + 1 / SLICES_PER_SECOND),
        "answered_per_second": answers / (float(np.nanmax(run.answered.at)) - began),
        "finished_per_second": stored / (run.finished_at - began),
    }


def _latency(run: ScaleRun) -> dict[str, Any]:
    before = run.traffic.events_before
    seconds = run.answered.at - run.sent.at
    known = ~np.isnan(seconds)
    late = known & (np.arange(len(seconds)) >= before)
    at = run.sent.at - run.changed_at
    return {
        **percentiles(seconds[late]),
        "growth": least_squares_slope(at[late], seconds[late]) * 60,
        "after_the_last": float(np.nanmax(run.answered.at) - np.nanmax(run.sent.at)),
        "lead_in": percentiles(seconds[known & ~late]),
        "line": [
            [second, *map(float, np.quantile(part, [0.5, 0.95], method="inverted_cdf"))]
            for second, part in split_by_bin(at[known], seconds[known])
        ],
    }


def percentiles(seconds: Floats) -> dict[str, float | int | None]:
    """Return percentiles without interpolation; None without values."""
    if not len(seconds):
        return {"n": 0, "p50": None, "p95": None, "p99": None, "max": None}
    middle, high, highest = np.quantile(seconds, [0.5, 0.95, 0.99], method="inverted_cdf")
    return {
        "n": len(seconds),
        "p50": float(middle),
        "p95": float(high),
        "p99": float(highest),
        "max": float(seconds.max()),
    }


def split_by_bin(at: Floats, values: Floats) -> list[tuple[int, Floats]]:
    """Return (start of the bin in s, values in it) for every bin of BIN_SECONDS, in order."""
    bins = np.floor(at / BIN_SECONDS).astype(np.int64)
    return [(int(one) * BIN_SECONDS, values[bins == one]) for one in np.unique(bins)]


def least_squares_slope(x: Floats, y: Floats) -> float:
    """Return the slope of the least-squares line; 0 if x is constant."""
    if not len(x):
        return 0.0
    centred = x - x.mean()
    spread = float((centred * centred).sum())
    return float((centred * y).sum()) / spread if spread else 0.0


def _unanswered(run: ScaleRun) -> dict[str, Any]:
    """Return the number of unanswered events at every second until the last answer."""
    sent, answered = (np.sort(times.at[~np.isnan(times.at)]) for times in (run.sent, run.answered))
    ends = float(max(sent[-1], answered[-1])) if len(answered) else float(sent[-1])
    at = np.append(np.arange(sent[0], ends, 1.0), sent[-1])
    behind = np.searchsorted(sent, at, "right") - np.searchsorted(answered, at, "right")
    line = [[second - run.changed_at, int(events)] for second, events in zip(at[:-1], behind[:-1], strict=True)]
    return {"most": int(behind.max()), "at_the_end": int(behind[-1]), "line": run_summary.sample_evenly(line)}


def _memory(run: ScaleRun) -> dict[str, Any] | None:
    if not run.memory:
        return None
    line = [[at - run.changed_at, mb] for at, mb in run.memory]
    return {"peak_mb": max(mb for _, mb in run.memory), "line": run_summary.sample_evenly(line)}


def summarize_errors(answers: pd.DataFrame, run: ScaleRun) -> dict[str, Any]:
    """Return the mean loss by kind of group: before the change, after it by the old model, and by a new one."""
    after = answers["number"] >= run.traffic.events_before
    parts = {"before": ~after, "old_model": after & ~answers["new_model"], "new_model": after & answers["new_model"]}
    result: dict[str, Any] = {}
    for kind in KINDS:
        of_kind = answers["kind"] == kind
        losses = {name: answers.loc[of_kind & part, "loss"].dropna() for name, part in parts.items()}
        result[kind] = {name: float(loss.mean()) if len(loss) else None for name, loss in losses.items()}
        result[kind]["rows"] = {name: len(loss) for name, loss in losses.items()}
    at = run.sent.at[answers["number"].to_numpy()] - run.changed_at
    loss = answers["loss"].to_numpy()
    lines = {}
    for kind in KINDS:
        known = (answers["kind"] == kind).to_numpy() & ~np.isnan(loss)
        lines[kind] = [[second, float(part.mean())] for second, part in split_by_bin(at[known], loss[known])]
    return {**result, "line": lines}


def summarize_refits(answers: pd.DataFrame, run: ScaleRun) -> dict[str, Any]:
    """Return the stream's refits by kind and policy, and the times from the change until they were due and answered."""
    fitted, kind = stream_fits(run), group_kinds(run.traffic)
    result: dict[str, Any] = {}
    for name in (*KINDS, BEFORE_CHANGE):
        of_kind = fitted[fitted["kind"] == name]
        result[name] = {
            "groups": int((kind == ("changed" if name == BEFORE_CHANGE else name)).sum()),
            "refitted": int(of_kind["group_key"].nunique()),
            "promoted": int(of_kind.loc[of_kind["promoted"], "group_key"].nunique()),
            "by_policy": retraining_summary.plain_counts(of_kind["policy"].value_counts()),
        }
    changed = answers[(answers["kind"] == "changed") & answers["new_model"]]
    answered_at = pd.Series(run.answered.at[changed["number"].to_numpy()]).groupby(changed["group_key"].to_numpy())
    stale = fitted.loc[fitted["kind"] == "changed"].groupby("group_key")["stale_since"].min().dropna()
    stale_at = stale.map(lambda moment: moment.timestamp()).to_numpy(dtype=np.float64)
    to_answer = answered_at.min().dropna().to_numpy(dtype=np.float64) - run.changed_at
    return {
        **result,
        "evidence_seconds": run.traffic.evidence_seconds,
        "to_stale": retraining_summary.quantiles(stale_at - run.changed_at),
        "to_answer": retraining_summary.quantiles(to_answer),
        "histogram": retraining_summary.histogram(to_answer),
    }


def stream_fits(run: ScaleRun) -> pd.DataFrame:
    """Return each fit of the stream: group_key, model_id, policy, reason, stale_since, after_change, promoted, kind.

    after_change: its group was found stale after the change. kind: of its group; BEFORE_CHANGE for a fit of a changed
    group that was due before the change.
    """
    attempts = run.tables.streamed_rows(run.tables.models)
    attempts = attempts.loc[attempts["status"] == ModelStatus.FITTED.value, ["round_id", "group_key", "model_id"]]
    verdicts = run.tables.verdicts[run.tables.verdicts["decision"] == Staleness.FIT.value]
    why = verdicts[["round_id", "group_key", "policy", "reason", "stale_since"]]
    fits = attempts.merge(why.drop_duplicates(["round_id", "group_key"]), on=["round_id", "group_key"], how="left")
    promotions = run.tables.streamed_rows(run.tables.promotions)
    promoted = promotions.loc[promotions["decision"].isin(retraining_summary.PROMOTED), "model_id"]
    kind = {group_key(number): str(one) for number, one in enumerate(group_kinds(run.traffic))}
    since = pd.to_datetime(fits["stale_since"], utc=True)
    after_change = since >= pd.Timestamp(run.changed_at, unit="s", tz="UTC")
    of_group = fits["group_key"].map(kind)
    return fits.assign(
        stale_since=since,
        after_change=after_change,
        promoted=fits["model_id"].isin(set(promoted)),
        kind=of_group.where((of_group != "changed") | after_change, BEFORE_CHANGE),
    )


def example_groups(run: ScaleRun) -> list[dict[str, str]]:
    """Return one refitted group for each of the most frequent pairs of policy and kind:
    policy, kind, group_key, says.
    """
    fitted = stream_fits(run)
    sizes = fitted.groupby(["policy", "kind"]).size().sort_values(ascending=False, kind="stable")
    examples = []
    for policy, name in list(sizes.index)[:EXAMPLES]:
        of_kind = fitted[(fitted["policy"] == policy) & (fitted["kind"] == name)].sort_values("group_key")
        one = of_kind.iloc[0]
        examples.append(
            {"policy": str(policy), "kind": str(name), "group_key": str(one["group_key"]), "says": str(one["reason"])}
        )
    return examples


def reconcile_run(run: ScaleRun) -> dict[str, Any]:
    """Return every check as plain values, and whether all hold. Ids are compared where there are any, else counts."""
    traffic, tables = run.traffic, run.tables
    sent = {(group_key(group), f"e{number}") for number, group in enumerate(traffic.group.tolist())}
    keys = {group_key(group) for group in range(traffic.groups)}
    first = tables.models[~tables.models["round_id"].isin(tables.stream_rounds)]
    fitted = first.loc[first["status"] == ModelStatus.FITTED.value, "group_key"]
    places = np.arange(traffic.events)
    checks = [
        compare_counts("history", "rows written = rows stored", traffic.groups * ROWS_PER_GROUP, run.loaded),
        compare_sets("weekly round", "every group has a model, one each", keys, fitted),
        compare_counts("sent", "events that were due = acknowledged by Kafka", traffic.events, run.acknowledged),
        compare_sets("in the topic", "sent = in the topic of events", set(places), np.repeat(places, run.sent.records)),
        compare_sets("events", "sent = stored, by group and id", sent, event_ids(tables.events)),
        compare_sets("predictions", "sent = answered, in the table", sent, event_ids(tables.predictions)),
        compare_sets("answers", "sent = answered, in the topic", set(places), places[~np.isnan(run.answered.at)]),
        compare_sets("dead letters", "none", set(), tables.dead_letters["reason"]),
        check_round_counts(tables.rounds),
    ]
    return {
        "adds_up": all(check.adds_up for check in checks),
        "checks": [check.to_json() for check in checks],
    }


def compare_counts(name: str, says: str, expected: int, found: int) -> SetCheck:
    """Return a check of two counts."""
    examples = () if expected == found else (f"{expected} expected, {found} found",)
    return SetCheck(name, says, expected, found, max(0, expected - found), max(0, found - expected), 0, examples)


def require_sets_add_up(summary: Mapping[str, Any]) -> None:
    """Raise StoreError if a check of the summary's reconciliation does not hold."""
    odd = [check for check in summary["reconciliation"]["checks"] if not check["adds_up"]]
    if odd:
        text = "; ".join(f"{check['name']} ({check['says']}): {', '.join(check['examples'])}" for check in odd)
        raise StoreError(f"the sets do not add up: {text}. The report has all of them")
