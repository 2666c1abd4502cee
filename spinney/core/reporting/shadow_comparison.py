"""A recipe and its shadow on the same held-out rows, over all groups.

A group counts once, with its mean over the rows of all its attempts: attempts of the same group share rows, so they are
not independent.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ShadowComparison:
    """A recipe and its shadow. The field names are those of `spinney fleet --shadow --json`.

    estimator: of the shadow. groups, rows: compared. recipe_loss, shadow_loss: means over the groups; difference: their
    difference (shadow - recipe); standard_error: of the difference, None for one group. All None without a group. wins:
    groups in which the shadow's loss is lower. failed: groups in which the shadow gave no loss. error: one of its
    errors.
    """

    recipe_id: str
    shadow_recipe_id: str
    estimator: str
    groups: int
    rows: int
    recipe_loss: float | None
    shadow_loss: float | None
    difference: float | None
    standard_error: float | None
    wins: int
    failed: int
    error: str | None
    last_at: datetime


def compare_with_shadow(attempts: Iterable[Mapping[str, Any]]) -> list[ShadowComparison]:
    """Return one comparison per pair of recipes, the newest first.

    attempts: rows of `models` with group_key, model_id, recipe_id, metrics and fitted_at; those without a shadow are
    ignored.
    """
    of_pair: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
    for row in sorted(attempts, key=lambda row: row["fitted_at"]):
        metrics = json.loads(row["metrics"] or "{}")
        if shadow := metrics.get("shadow"):
            losses = {**shadow, "recipe_loss": metrics["challenger_loss"], "at": row["fitted_at"]}
            # Stream and batch may have fitted the same model.
            of_pair[row["recipe_id"], shadow["recipe_id"]][row["group_key"], row["model_id"]] = losses
    comparisons = [_compare(*names, losses) for names, losses in of_pair.items()]
    return sorted(comparisons, key=lambda pair: pair.last_at, reverse=True)


def _compare(
    recipe_id: str, shadow_recipe_id: str, losses: Mapping[tuple[str, str], Mapping[str, Any]]
) -> ShadowComparison:
    of_group: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for (group_key, _), attempt in losses.items():
        of_group[group_key]
        if attempt.get("loss") is not None and attempt["recipe_loss"] is not None:
            of_group[group_key].append(attempt)
    compared = [group_losses for group_losses in of_group.values() if group_losses]
    recipe_loss, shadow_loss = (
        np.array([_mean(group_losses, name) for group_losses in compared]) for name in ("recipe_loss", "loss")
    )
    difference = shadow_loss - recipe_loss
    last = max(losses.values(), key=lambda attempt: attempt["at"])
    return ShadowComparison(
        recipe_id=recipe_id,
        shadow_recipe_id=shadow_recipe_id,
        estimator=last["estimator"],
        groups=len(compared),
        rows=sum(part["rows"] for group_losses in compared for part in group_losses),
        recipe_loss=float(recipe_loss.mean()) if compared else None,
        shadow_loss=float(shadow_loss.mean()) if compared else None,
        difference=float(difference.mean()) if compared else None,
        standard_error=float(difference.std(ddof=1) / math.sqrt(len(difference))) if len(compared) > 1 else None,
        wins=int((difference < 0).sum()),
        failed=len(of_group) - len(compared),
        error=next((attempt["error"] for attempt in losses.values() if "error" in attempt), None),
        last_at=last["at"],
    )


def _mean(attempts: Iterable[Mapping[str, Any]], name: str) -> float:
    """The mean over attempts, weighted by rows."""
    rows, values = zip(*((attempt["rows"], attempt[name]) for attempt in attempts), strict=True)
    return float(np.average(values, weights=rows))
