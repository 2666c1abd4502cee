"""Who was retrained and why, what state the groups are in, and how soon a new champion answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from demo.tables import Tables
from schemas.vocabulary import Decision, ModelStatus, Staleness
from spinney.core.features.encoding import Floats
from spinney.core.reporting.status import State
from spinney.fleet import GroupStatus

ANSWERING = (Decision.PROMOTED.value, Decision.UNPROVEN.value)
BINS = 24
"""Bars of a distribution."""


def groups(standings: Sequence[GroupStatus]) -> dict[str, Any]:
    """Groups by state, each state in its place, those without any group too."""
    found = Counter(each.state for each in standings)
    return {"total": len(standings), "by_state": {state.value: found[state] for state in State}}


def retrained(tables: Tables) -> dict[str, Any]:
    """Groups retrained by the stream: how often, for which reason, on which day of event time, with what result."""
    attempts = tables.of_stream(tables.models)
    fitted = attempts[attempts["status"] == ModelStatus.FITTED.value]
    asked = tables.verdicts.loc[tables.verdicts["decision"] == Staleness.FIT.value, ["round_id", "group_key", "policy"]]
    why = fitted.merge(asked.drop_duplicates(["round_id", "group_key"]), on=["round_id", "group_key"], how="left")
    why["policy"] = why["policy"].fillna("unknown")
    day = pd.to_datetime(why["clock"].fillna(why["fitted_at"]), utc=True).dt.strftime("%Y-%m-%d")
    by_day = why.groupby([day, "policy"]).size().unstack(fill_value=0) if len(why) else pd.DataFrame()
    decided = tables.of_stream(tables.promotions)["decision"].value_counts()
    others = attempts.loc[attempts["status"] != ModelStatus.FITTED.value, "status"].value_counts()
    return {
        "fits": len(fitted),
        "groups": int(fitted["group_key"].nunique()),
        "by_reason": counts(why["policy"].value_counts()),
        "by_day": [
            {"day": str(name), "reasons": {str(key): int(value) for key, value in row.items()}}
            for name, row in by_day.iterrows()
        ],
        "by_decision": counts(decided),
        "not_fitted": counts(others),
        "before_the_stream": int((tables.models["status"] == ModelStatus.FITTED.value).sum()) - len(fitted),
    }


def freshness(tables: Tables) -> dict[str, Any]:
    """From the moment a group was found stale, by the wall clock, to its new champion's first answer.

    A champion answers when the group's next event comes; those still waiting for one are counted, not timed.
    """
    promoted = tables.of_stream(tables.promotions)
    promoted = promoted[promoted["decision"].isin(ANSWERING)]
    asked = tables.verdicts[tables.verdicts["decision"] == Staleness.FIT.value]
    asked = asked[["round_id", "group_key", "stale_since"]].drop_duplicates(["round_id", "group_key"])
    first = (
        tables.predictions.groupby(["group_key", "model_id"])["scored_at"].min().rename("first_answer").reset_index()
    )
    joined = promoted.merge(asked, on=["round_id", "group_key"], how="left")
    joined = joined.merge(first, on=["group_key", "model_id"], how="left")
    seconds = _seconds(joined["first_answer"], joined["stale_since"])
    return {
        "promoted": len(joined),
        "answered": int(joined["first_answer"].notna().sum()),
        "no_event_yet": int(joined["first_answer"].isna().sum()),
        "stale_to_answer": spread(seconds),
        "stale_to_promoted": spread(_seconds(joined["decided_at"], joined["stale_since"])),
        "histogram": histogram(seconds),
    }


def budget(tables: Tables) -> dict[str, Any]:
    """Seconds on the wall clock that the stream's rounds were allowed, expected to take, and took."""
    rounds = tables.rounds[tables.rounds["round_id"].isin(tables.streamed)]
    stages: dict[str, float] = {}
    for text in rounds["seconds"].dropna():
        for stage, seconds in json.loads(text).items():
            stages[stage] = stages.get(stage, 0.0) + float(seconds)
    return {
        "rounds": len(rounds),
        "allowed_seconds": float(rounds["budget_seconds"].fillna(0).sum()),
        "predicted_seconds": float(rounds["predicted_seconds"].fillna(0).sum()),
        "used_seconds": sum(stages.values()),
        "deferred": int(rounds["deferred"].fillna(0).sum()),
        "stages": stages,
    }


def spread(seconds: Floats) -> dict[str, float | int | None]:
    """Median, 95th percentile and greatest: values that occurred, none between two of them. None without any."""
    if not len(seconds):
        return {"n": 0, "p50": None, "p95": None, "max": None}
    middle, high = np.quantile(seconds, [0.5, 0.95], method="inverted_cdf")
    return {"n": len(seconds), "p50": float(middle), "p95": float(high), "max": float(seconds.max())}


def histogram(values: Floats) -> list[dict[str, float | int]]:
    """Equal bins from 0 to the 99th percentile; what is beyond is in the last."""
    if not len(values):
        return []
    top = float(np.quantile(values, 0.99, method="inverted_cdf")) or 1.0
    found, edges = np.histogram(np.clip(values, 0.0, top), bins=BINS, range=(0.0, top))
    return [
        {"from": float(low), "to": float(high), "count": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], found, strict=True)
    ]


def counts(series: pd.Series) -> dict[str, int]:
    """value_counts as plain values, the most frequent first, equals by name."""
    pairs: Iterable[tuple[str, int]] = ((str(name), int(count)) for name, count in series.items())
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _seconds(until: pd.Series, since: pd.Series) -> Floats:
    difference = pd.to_datetime(until, utc=True) - pd.to_datetime(since, utc=True)
    return np.asarray(difference.dropna().dt.total_seconds(), dtype=np.float64)
