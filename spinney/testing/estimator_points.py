"""The checks of an estimator by `spinney check`, as callable tests."""

from __future__ import annotations

import os
from dataclasses import dataclass

from spinney.core.config import Config
from spinney.testing.config_argument import config_of


@dataclass(frozen=True)
class EstimatorPoint:
    """A requirement for an estimator. Calling it checks the estimator on synthetic groups."""

    name: str
    config: Config

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Raise AssertionError with the problem and its remedy; ConfigError, ContractError: it cannot be checked."""
        from spinney.local.checks.estimator_check import EstimatorCase, check_point  # imports scikit-learn, 1.5 s

        wrong = check_point(EstimatorCase.of(self.config), self.name)
        if wrong is not None:
            raise AssertionError(f'recipe.estimator "{self.config.recipe.estimator}": {wrong}')


def estimator_points(config: Config | str | os.PathLike[str]) -> tuple[EstimatorPoint, ...]:
    """Return the checks of a configuration's estimator: each is called without arguments and raises AssertionError if
    the estimator fails it. config: the configuration, or its file. Raises ConfigError.
    """
    from spinney.local.checks.estimator_check import POINTS

    read = config_of(config)
    return tuple(EstimatorPoint(name, read) for name in POINTS)
