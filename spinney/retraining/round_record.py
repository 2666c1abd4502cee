"""Make the row of `rounds`: count the results of a round's groups, and check that the counts add up. No I/O."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from schemas.vocabulary import Decision, ModelStatus, RoundKind
from spinney.core.errors import StoreError
from spinney.retraining.round_request import RoundRequest


@dataclass(frozen=True)
class FinishedRound:
    """A recorded round.

    fit_ms: sum over its fits. longest_ms: the longest fit. Both are 0 if a process before this one recorded the
    round.
    """

    request: RoundRequest
    fit_ms: float = 0.0
    longest_ms: float = 0.0


@dataclass(frozen=True)
class RoundRecord:
    """The stored results of a round.

    models: group_key, status and fit_ms of its rows of `models`. promotions: group_key, decision, challenger_loss,
    champion_loss and loss_name of its rows of `promotions`. recipe_id: the recipe of its fits, None if nothing was
    fitted. seconds: duration of each step. untried: number of groups of the plan that were not tried. halted: why no
    champion was replaced; None if the round was not halted.
    """

    request: RoundRequest
    kind: RoundKind
    batch_id: int
    models: pd.DataFrame
    promotions: pd.DataFrame
    recipe_id: str | None
    seconds: Mapping[str, float]
    untried: int = 0
    halted: str | None = None

    def row(self) -> dict[str, Any]:
        """Return the row of `rounds`. Raises StoreError if the counts of its groups do not add up."""
        request = self.request
        row = {
            "round_id": request.round_id,
            "kind": self.kind.value,
            "groups_in": request.groups_in,
            **self._groups(),
            **self._decisions(),
            "halted": self.halted,
            "reasons": json.dumps(dict(request.reasons), sort_keys=True),
            "seconds": json.dumps({step: round(value, 3) for step, value in self.seconds.items()}, sort_keys=True),
            "budget_seconds": request.budget_seconds,
            "predicted_seconds": request.predicted_seconds,
            **self._mean_losses(),
            "clock": request.clock,
            "started_at": request.now,
            "pins": json.dumps(dict(request.pins), sort_keys=True),
            "recipe_id": self.recipe_id,
            "batch_id": self.batch_id,
        }
        require_sum(row)
        return row

    def finished(self) -> FinishedRound:
        """Return the round with the times of its fits."""
        times = self.models["fit_ms"].fillna(0.0)
        return FinishedRound(self.request, float(times.sum()), float(times.max()) if len(times) else 0.0)

    def _groups(self) -> dict[str, int]:
        """Number of groups that were fitted, failed, kept and so on."""
        status = Counter(self.models["status"])
        # A group with a model is KEPT too if the other path has promoted the same model: it counts as fitted.
        has_model = self.promotions["group_key"].isin(self.models["group_key"])
        return {
            "fitted": status[ModelStatus.FITTED],
            "failed": failed_count(self.models["status"]),
            "too_few_rows": status[ModelStatus.TOO_FEW_ROWS],
            "kept": int(((self.promotions["decision"] == Decision.KEPT) & ~has_model).sum()),
            "deferred": self.request.deferred + self.untried,
        }

    def _decisions(self) -> dict[str, int]:
        counts = Counter(self.promotions["decision"])
        names = (Decision.PROMOTED, Decision.UNPROVEN, Decision.REFUSED, Decision.HELD, Decision.WITHDRAWN)
        return {name.value: counts[name] for name in names}

    def _mean_losses(self) -> dict[str, float | str | None]:
        """Means over the groups compared and the name of their loss; None if none was compared.

        Rows of an earlier version do not name their loss; they have the same loss as the others, since a round has one
        recipe. If rows name different losses, there is no mean.
        """
        names = ["champion_loss", "challenger_loss"]
        compared = self.promotions.dropna(subset=names)
        # The stored name, not the configuration's: a round that is only closed was measured by the loss of its plan.
        losses = compared["loss_name"].dropna().unique().tolist()
        if not len(compared) or len(losses) > 1:
            return {**{f"mean_{name}": None for name in names}, "loss_name": None}
        means: dict[str, float | str | None] = {f"mean_{name}": float(compared[name].mean()) for name in names}
        return means | {"loss_name": str(losses[0]) if losses else None}


def failed_count(status: pd.Series[Any]) -> int:
    """Number of these statuses that are failures."""
    return int(status.isin([ModelStatus.FAILED.value, ModelStatus.TIMED_OUT.value]).sum())


def require_sum(row: Mapping[str, Any]) -> None:
    """Check that the counts of a round add up to its groups. row: a row of `rounds`. Raises StoreError."""
    parts = {name: row[name] for name in ("fitted", "failed", "too_few_rows", "kept", "deferred")}
    if sum(parts.values()) != row["groups_in"]:
        text = ", ".join(f"{name} {count}" for name, count in parts.items())
        raise StoreError(
            f"round {row['round_id']}: expected its {row['groups_in']} groups to be fitted, failed, too few rows, kept "
            f"or deferred; got {text}, together {sum(parts.values())}. Its models and promotions are stored, the round "
            "is not recorded. Report this with the tables models, promotions and verdicts"
        )


def require_complete(round_id: str, n_requests: int, report: pa.Table) -> int:
    """Check that the tasks account for every fit request. Returns the number of kept groups.

    report: rows of REPORT_DDL. Raises StoreError.
    """
    stored, kept = (int(pc.sum(report.column(name)).as_py() or 0) for name in ("rows", "kept"))
    if stored + kept != n_requests:
        raise StoreError(
            f"round {round_id}: expected a result for each of {n_requests} fit requests; got {stored} models and "
            f"{kept} kept. Nothing was stored: the round stops here. Run the command again; if it happens again, "
            "report it"
        )
    return kept


def require_kept(round_id: str, expected: int | None, promotions: pa.Table) -> None:
    """Check that the number of groups without a model equals the number that the fit kept. Raises StoreError.

    A kept group has no row of `models`: without this check, a lost row would look like a kept group. expected: None if
    the fit did not store the number. promotions: with the column fitted_at, which is null for a group without a model;
    rows that withdraw a champion do not count.
    """
    about_groups = promotions.filter(pc.not_equal(promotions.column("decision"), Decision.WITHDRAWN.value))
    kept = about_groups.column("fitted_at").null_count
    if expected is not None and kept != expected:
        raise StoreError(
            f"round {round_id}: expected {expected} groups without a model, whose champions were kept; got {kept}. "
            "Nothing was decided: the round stops here. Report this with the tables models and verdicts"
        )
