"""The staleness policies, one module each.

A policy measures all groups of a shard at once. A group is stale once its measure reaches the policy's limit for it. To
add a policy, add a module here and its place in `configured_policies`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from spinney.core.staleness.policies.drift import Drift
from spinney.core.staleness.policies.error_rise import ErrorRise
from spinney.core.staleness.policies.max_age import MaxAge
from spinney.core.staleness.policies.new_group import NewGroup
from spinney.core.staleness.policies.new_rows import NewRows
from spinney.core.staleness.policies.no_labels import NoLabels
from spinney.core.staleness.policies.row_days import RowDays
from spinney.core.staleness.policies.schedule import Schedule
from spinney.core.staleness.policies.user_policy import load_policies

if TYPE_CHECKING:
    from spinney.core.config import Staleness
    from spinney.core.staleness.group_state import GroupStates

GROWTH = 0.5
"""Threshold of `new_rows` unless one is configured: a model is refitted once its rows have grown by half."""

USUAL_AGE = 0.7
"""Share of `max_age` after which groups are refitted by `row_days`, on average.

With a `max_age` of two weeks that takes three quarters of the fits of a weekly refit of all groups."""


class Policy(Protocol):
    """A staleness policy: a pure function of the groups and the clock."""

    @property
    def name(self) -> str:
        """The name in verdicts and in the configuration."""

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """Return the limit of each group, above 0: a group is stale once its measure is at least this."""

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """Return the measure of each group, NaN where the policy does not apply. clock: the fleet's, microseconds."""

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""


def configured_policies(
    staleness: Staleness, min_rows: int, label_delay: timedelta = timedelta(0)
) -> tuple[Policy, ...]:
    """Return the policies of a fleet. The first that applies to a group gives the reason.

    staleness: the section `[staleness]`. min_rows: of the recipe. label_delay: of the fleet. Raises ConfigError for
    policies of a user's own, as `load_policies`.
    """
    built_in: tuple[Policy, ...] = (
        NewGroup(min_rows),
        NoLabels(staleness.no_labels, label_delay, staleness.max_age),
        ErrorRise(staleness.error_rise.patience),
        *_by_rows(staleness),
        MaxAge(staleness.max_age, staleness.age_spread),
    )
    drift = (Drift(staleness.drift.patience),) if staleness.drift.triggers else ()
    scheduled = () if staleness.schedule is None else (Schedule(staleness.schedule),)
    return (*built_in, *drift, *scheduled, *load_policies(staleness.policies))


def _by_rows(staleness: Staleness) -> tuple[Policy, ...]:
    if staleness.new_rows is not None:
        return (NewRows(staleness.new_rows),)
    return NewRows(growth=GROWTH), RowDays(USUAL_AGE * staleness.max_age, staleness.max_age, staleness.age_spread)


__all__ = [
    "Drift", "ErrorRise", "MaxAge", "NewGroup", "NewRows", "NoLabels", "Policy", "RowDays", "Schedule",
    "configured_policies",
]  # fmt: skip
