"""How many labels lay within the interval of their prediction."""

from __future__ import annotations

from typing import Any

import pandas as pd


def summarize_intervals(predictions: pd.DataFrame, labels: pd.DataFrame, nominal: float) -> dict[str, Any] | None:
    """Return the coverage of the prediction intervals; None if no prediction with a label has an interval.

    In the result, nominal: the share that should be covered. rows: predictions with a label. unbounded: share of these
    without an interval. covered: share of the others whose label is inside, ends included. width: their mean width.

    predictions: rows of that table. labels: group_key, event_id and label of the events to count.
    """
    first = predictions.drop_duplicates(["group_key", "event_id"])[["group_key", "event_id", "lower", "upper"]]
    rows = labels[["group_key", "event_id", "label"]].merge(first, on=["group_key", "event_id"])
    ends = rows[["lower", "upper"]].astype(float)
    is_bounded = ends.notna().all(axis=1)
    if not is_bounded.any():
        return None
    lower, upper = ends.loc[is_bounded, "lower"], ends.loc[is_bounded, "upper"]
    label = rows.loc[is_bounded, "label"].astype(float)
    return {
        "nominal": nominal,
        "rows": len(rows),
        "unbounded": float((~is_bounded).mean()),
        "covered": float(((lower <= label) & (label <= upper)).mean()),
        "width": float((upper - lower).mean()),
    }
