"""Parts of the summary about retraining: fits and reasons, states of groups, freshness and budget."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from demo.fleet_tables import FleetTables
from schemas.tables import MODELS, PROMOTIONS, VERDICTS
from schemas.vocabulary import Decision, ModelStatus, Staleness
from spinney.core.features.encoding import Floats
from spinney.core.keys import is_parent
from spinney.core.reporting import retraining_gain
from spinney.core.reporting.group_status import State
from spinney.fleet import GroupStatus
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.readers.fit_metrics import parse_watched

PROMOTED = (Decision.PROMOTED.value, Decision.UNPROVEN.value)
BINS = 24
"""Number of bins in a histogram."""


def count_groups_by_state(statuses: Sequence[GroupStatus]) -> dict[str, Any]:
    """Return the number of groups in each state, in the order of the states; states without a group have 0."""
    counts = Counter(status.state for status in statuses)
    return {"total": len(statuses), "by_state": {state.value: counts[state] for state in State}}


def summarize_retraining(tables: FleetTables) -> dict[str, Any]:
    """Return the stream's fits by reason, day of event time and decision."""
    attempts = tables.streamed_rows(tables.models)
    fitted = attempts[attempts["status"] == ModelStatus.FITTED.value]
    due = tables.verdicts.loc[tables.verdicts["decision"] == Staleness.FIT.value, ["round_id", "group_key", "policy"]]
    why = fitted.merge(due.drop_duplicates(["round_id", "group_key"]), on=["round_id", "group_key"], how="left")
    why["policy"] = why["policy"].fillna("unknown")
    day = pd.to_datetime(why["clock"].fillna(why["fitted_at"]), utc=True).dt.strftime("%Y-%m-%d")
    by_day = why.groupby([day, "policy"]).size().unstack(fill_value=0) if len(why) else pd.DataFrame()
    decided = tables.streamed_rows(tables.promotions)["decision"].value_counts()
    others = attempts.loc[attempts["status"] != ModelStatus.FITTED.value, "status"].value_counts()
    return {
        "fits": len(fitted),
        "fits_of_parents": int(fitted["group_key"].map(is_parent).sum()),
        "groups": int(fitted["group_key"].nunique()),
        "by_reason": plain_counts(why["policy"].value_counts()),
        "by_day": [
            {"day": str(name), "reasons": {str(key): int(value) for key, value in row.items()}}
            for name, row in by_day.iterrows()
        ],
        "by_decision": plain_counts(decided),
        "not_fitted": plain_counts(others),
        "before_the_stream": int((tables.models["status"] == ModelStatus.FITTED.value).sum()) - len(fitted),
    }


def summarize_freshness(tables: FleetTables) -> dict[str, Any]:
    """Return the wall-clock seconds from when a group was found stale to the first answer of its new champion.

    A champion first answers at the group's next event. Champions without an event yet are counted, not timed.
    """
    promoted = tables.streamed_rows(tables.promotions)
    promoted = promoted[promoted["decision"].isin(PROMOTED)]
    due = tables.verdicts[tables.verdicts["decision"] == Staleness.FIT.value]
    due = due[["round_id", "group_key", "stale_since"]].drop_duplicates(["round_id", "group_key"])
    first = (
        tables.predictions.groupby(["group_key", "model_id"])["scored_at"].min().rename("first_answer").reset_index()
    )
    joined = promoted.merge(due, on=["round_id", "group_key"], how="left")
    joined = joined.merge(first, on=["group_key", "model_id"], how="left")
    seconds = _seconds(joined["first_answer"], joined["stale_since"])
    return {
        "promoted": len(joined),
        "answered": int(joined["first_answer"].notna().sum()),
        "no_event_yet": int(joined["first_answer"].isna().sum()),
        "stale_to_answer": quantiles(seconds),
        "stale_to_promoted": quantiles(_seconds(joined["decided_at"], joined["stale_since"])),
        "histogram": histogram(seconds),
    }


def summarize_budget(tables: FleetTables) -> dict[str, Any]:
    """Return the wall-clock seconds that the stream's rounds were allowed, predicted to take, and took."""
    rounds = tables.rounds[tables.rounds["round_id"].isin(tables.stream_rounds)]
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


def summarize_gain(tables: FleetTables) -> dict[str, Any] | None:
    """Return the fields of RetrainingGain, and `says`: the same in a sentence. None if no drawn group was compared.

    Only groups that the stream's rounds drew at random count.
    """
    is_drawn = tables.verdicts["numbers"].str.contains(retraining_gain.DRAWN, regex=False, na=False)
    drawn, promotions, attempts = (
        pa.Table.from_pandas(frame, pa.schema([arrow_schema(contract).field(name) for name in names]), False)
        for frame, contract, names in (
            (tables.verdicts[is_drawn.astype(bool)], VERDICTS, retraining_gain.VERDICT_COLUMNS),
            (tables.promotions, PROMOTIONS, retraining_gain.PROMOTION_COLUMNS),
            (tables.models, MODELS, ("group_key", "metrics")),
        )
    )
    champions = retraining_gain.drawn_champions(drawn, promotions)
    gain = retraining_gain.measure_gain(champions, parse_watched(attempts))
    return None if gain is None else {**asdict(gain), "says": str(gain)}


def quantiles(seconds: Floats) -> dict[str, float | int | None]:
    """Return median, 95th percentile and maximum, without interpolation; None without values."""
    if not len(seconds):
        return {"n": 0, "p50": None, "p95": None, "max": None}
    middle, high = np.quantile(seconds, [0.5, 0.95], method="inverted_cdf")
    return {"n": len(seconds), "p50": float(middle), "p95": float(high), "max": float(seconds.max())}


def histogram(values: Floats) -> list[dict[str, float | int]]:
    """Return bins of equal width from 0 to the 99th percentile; the last one has all greater values."""
    if not len(values):
        return []
    top = float(np.quantile(values, 0.99, method="inverted_cdf")) or 1.0
    bin_counts, edges = np.histogram(np.clip(values, 0.0, top), bins=BINS, range=(0.0, top))
    return [
        {"from": float(low), "to": float(high), "count": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], bin_counts, strict=True)
    ]


def plain_counts(series: pd.Series) -> dict[str, int]:
    """Return `value_counts` as plain values, the most frequent first; equal counts are sorted by name."""
    pairs: Iterable[tuple[str, int]] = ((str(name), int(count)) for name, count in series.items())
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _seconds(until: pd.Series, since: pd.Series) -> Floats:
    difference = pd.to_datetime(until, utc=True) - pd.to_datetime(since, utc=True)
    return np.asarray(difference.dropna().dt.total_seconds(), dtype=np.float64)
