"""Two recipes on the same rows: what the challengers of one lost, and the shadow beside them.

A group counts once, by its mean over the rows of all its attempts: attempts of one group share rows, so that they are
no evidence of their own.
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
class Pair:
    """A recipe and its shadow.

    estimator: the shadow's. groups, rows: compared. recipe_loss, shadow_loss: means over the groups. difference: the
    shadow's less the recipe's; standard_error: of it, None for one group. wins: groups in which the shadow lost less.
    failed: groups in which it never answered, and error one of its texts. All None where no group was compared.
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


def pairs(attempts: Iterable[Mapping[str, Any]]) -> list[Pair]:
    """Of each two recipes one, the newest first.

    attempts: rows of `models`: group_key, model_id, recipe_id, metrics, fitted_at; one without a shadow is passed over.
    """
    of_pair: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
    for row in sorted(attempts, key=lambda row: row["fitted_at"]):
        metrics = json.loads(row["metrics"] or "{}")
        if shadow := metrics.get("shadow"):
            said = {**shadow, "mine": metrics["challenger_loss"], "at": row["fitted_at"]}
            # Stream and batch may have fitted the same rows.
            of_pair[row["recipe_id"], shadow["recipe_id"]][row["group_key"], row["model_id"]] = said
    found = [_pair(*names, said) for names, said in of_pair.items()]
    return sorted(found, key=lambda pair: pair.last_at, reverse=True)


def _pair(recipe_id: str, shadow_recipe_id: str, said: Mapping[tuple[str, str], Mapping[str, Any]]) -> Pair:
    of_group: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for (group_key, _), each in said.items():
        of_group[group_key]
        if each.get("loss") is not None and each["mine"] is not None:
            of_group[group_key].append(each)
    compared = [each for each in of_group.values() if each]
    mine, theirs = (np.array([_mean(each, name) for each in compared]) for name in ("mine", "loss"))
    apart = theirs - mine
    last = max(said.values(), key=lambda each: each["at"])
    return Pair(
        recipe_id=recipe_id,
        shadow_recipe_id=shadow_recipe_id,
        estimator=last["estimator"],
        groups=len(compared),
        rows=sum(part["rows"] for each in compared for part in each),
        recipe_loss=float(mine.mean()) if compared else None,
        shadow_loss=float(theirs.mean()) if compared else None,
        difference=float(apart.mean()) if compared else None,
        standard_error=float(apart.std(ddof=1) / math.sqrt(len(apart))) if len(compared) > 1 else None,
        wins=int((apart < 0).sum()),
        failed=len(of_group) - len(compared),
        error=next((each["error"] for each in said.values() if "error" in each), None),
        last_at=last["at"],
    )


def _mean(attempts: Iterable[Mapping[str, Any]], name: str) -> float:
    """Each row counts alike."""
    rows, values = zip(*((each["rows"], each[name]) for each in attempts), strict=True)
    return float(np.average(values, weights=rows))
