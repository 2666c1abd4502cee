"""The checks of staleness policies by `spinney check`, as callable tests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spinney.core.config import Config
from spinney.testing.config_argument import config_of

if TYPE_CHECKING:
    from spinney.local.checks.policy_check import PolicyCase


@dataclass(frozen=True)
class PolicyPoint:
    """A requirement for a policy. Calling it checks the policy on synthetic groups."""

    name: str
    case: PolicyCase

    def __str__(self) -> str:
        return f"{self.case.policy.name}: {self.name}"

    def __call__(self) -> None:
        """Raise AssertionError with the problem and its remedy."""
        from spinney.local.checks.policy_check import check_policy  # imports scikit-learn, 1.5 s

        wrong = check_policy(self.case, self.name)
        if wrong is not None:
            raise AssertionError(f'staleness.policies "{self.case.policy.source}": {wrong}')


def policy_points(config: Config | str | os.PathLike[str]) -> tuple[PolicyPoint, ...]:
    """Return every check of each of `staleness.policies`.

    config: the configuration, or its file. Raises ConfigError.
    """
    from spinney.local.checks.policy_check import POINTS, PolicyCase

    read = config_of(config)
    return tuple(PolicyPoint(name, case) for case in PolicyCase.all_of(read) for name in POINTS)
