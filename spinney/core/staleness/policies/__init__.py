"""When is a model too old? One module per policy.

A policy measures every group of a shard at once and has a limit for each: a group is stale once its measure reaches it.
Adding a policy is adding a module here and its place in `configured`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from spinney.core.staleness.policies.error_rise import ErrorRise
from spinney.core.staleness.policies.max_age import MaxAge
from spinney.core.staleness.policies.new_group import NewGroup
from spinney.core.staleness.policies.new_rows import NewRows

if TYPE_CHECKING:
    from spinney.core.config import Config
    from spinney.core.staleness.group_state import Groups


class Policy(Protocol):
    """A staleness policy. Pure: the same groups and clock give the same measures."""

    @property
    def name(self) -> str: ...

    def limits(self, groups: Groups) -> npt.NDArray[np.float64]:
        """One number per group, greater than 0: a group is stale once its measure is at least this."""

    def measure(self, groups: Groups, clock: int) -> npt.NDArray[np.float64]:
        """One number per group, NaN where the policy has nothing to say. clock: microseconds."""

    def words(self, value: float, limit: float) -> str:
        """A group's measure and its limit as part of a sentence."""


def configured(config: Config) -> tuple[Policy, ...]:
    """The policies of a fleet, the most urgent first: the first that speaks gives the reason."""
    staleness = config.staleness
    return (
        NewGroup(config.recipe.min_rows),
        ErrorRise(staleness.error_rise.factor, staleness.error_rise.rows),
        NewRows(staleness.new_rows),
        MaxAge(staleness.max_age, staleness.age_spread),
    )


__all__ = ["ErrorRise", "MaxAge", "NewGroup", "NewRows", "Policy", "configured"]
