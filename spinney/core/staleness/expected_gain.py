"""Expected gain from a refit of each group, by which a round ranks the groups that are due.

    gain per row  = P(error has risen) × excess loss + AGING_PER_DAY × age × reference loss
    expected gain = gain per row × rows per day                   (loss a day)
    rank          = expected gain ÷ predicted seconds of the fit

This is the value density of the fractional knapsack problem (G. Dantzig, "Discrete-variable extremum problems",
Operations Research 5, 1957): taking the densest items first spends a budget of seconds best. The unit of loss is the
fleet's, so gains are comparable within a fleet only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinney.core.planning.round_cost import ASSUMED_SECONDS_PER_GROUP
from spinney.core.staleness.group_state import NEVER, GroupStates

UNKNOWN_COST_MS = 5.0
"""Predicted cost of a fit in a shard where none has been measured yet."""

AGING_PER_DAY = 0.01
"""Share of its reference loss that a model is assumed to lose per day of age, by drift and by rows it has not seen.

An excess alone ranks groups whose recent rows were unlucky. Replayed on flights with 15 refits a day, it lost 3 to 4 %
more than oldest-first; with this term it is equal to that (docs/decisions/0034-priority-by-expected-gain.md)."""

PRIOR_ROWS = 10.0
"""Rows with the reference loss that are added to the recent ones, so that a single bad row does not rank a group first.

Shrinkage toward "unchanged", as the posterior mean of a normal mean has it: the fewer rows, the smaller the excess.
"""

MIN_AGE = 3_600_000_000
"""Shortest time, in microseconds, that a rate is computed over."""

_DAY = 86_400_000_000

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ExpectedGain:
    """Expected gains from refits, one value per group; 0 where none is known.

    event_rate: mature labelled rows a day since the last attempt. loss_per_day: loss saved a day. predicted_ms: of the
    fit. per_second: loss saved a day per second of the refit, including the cost of a group apart from its fit.
    """

    event_rate: _Floats
    loss_per_day: _Floats
    predicted_ms: _Floats
    per_second: _Floats

    @classmethod
    def of(cls, groups: GroupStates, clock: int) -> ExpectedGain:
        """Return the expected gain of each group. clock: the fleet's, microseconds."""
        event_rate = event_rates(groups, clock)
        loss_per_day = (excess_losses(groups) + aging_losses(groups, clock)) * event_rate
        predicted_ms = predicted_costs(groups)
        seconds = predicted_ms / 1000.0 + ASSUMED_SECONDS_PER_GROUP
        return cls(event_rate, loss_per_day, predicted_ms, loss_per_day / seconds)


def excess_losses(groups: GroupStates) -> _Floats:
    """Return by how much each champion's recent mean loss is expected to exceed the reference; 0 if either is unknown.

    The reference is the champion's mean loss on its held-out rows. An excess, at least 0, counts with the probability
    that the error has risen: the evidence of `error_rise` taken as odds.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        excess = groups["recent_loss"] - groups["recent_weight"] * groups["baseline"]
        mean = excess / (groups["recent_weight"] + PRIOR_ROWS)
    probability = 1.0 - 1.0 / (1.0 + groups["evidence"])
    return np.where(np.isfinite(mean), np.maximum(mean, 0.0) * probability, 0.0)


def aging_losses(groups: GroupStates, clock: int) -> _Floats:
    """Return the loss per row that each champion is assumed to have gained by its age since the last attempt.

    A champion without a reference loss has the mean of the shard's. clock: microseconds.
    """
    reference = groups["baseline"]
    is_known = np.isfinite(reference)
    usual = float(reference[is_known].mean()) if is_known.any() else 0.0
    age = np.where(groups["attempted_at"] == NEVER, 0, np.maximum(clock - groups["attempted_at"], 0)) / _DAY
    return AGING_PER_DAY * age * np.where(is_known, reference, usual)


def event_rates(groups: GroupStates, clock: int) -> _Floats:
    """Mature labelled rows a day since the last attempt; 0 for groups without an attempt. clock: microseconds."""
    age = np.maximum(clock - groups["attempted_at"], MIN_AGE)
    return np.where(groups["attempted_at"] == NEVER, 0.0, groups["rows_since"] * (_DAY / age))


def predicted_costs(groups: GroupStates) -> _Floats:
    """Milliseconds of each group's fit: those of its last one, else the mean of the shard's, else UNKNOWN_COST_MS."""
    costs = groups["fit_ms"]
    is_known = np.isfinite(costs)
    usual = float(costs[is_known].mean()) if is_known.any() else UNKNOWN_COST_MS
    return np.where(is_known, costs, usual)
