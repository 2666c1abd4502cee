"""What `spinney check` asks of an estimator, as tests that can be called."""

from __future__ import annotations

import os
from dataclasses import dataclass

from spinney.core.config import Config
from spinney.local.estimator_check import POINTS, EstimatorCase, check_point
from spinney.storage.config_file import read_config


@dataclass(frozen=True)
class EstimatorPoint:
    """One thing that an estimator must do; calling it tries it on toy groups."""

    name: str
    config: Config

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Raises AssertionError with what is wrong and what to do; ConfigError, ContractError: it cannot be tried."""
        wrong = check_point(EstimatorCase.of(self.config), self.name)
        if wrong is not None:
            raise AssertionError(f'recipe.estimator "{self.config.recipe.estimator}": {wrong}')


def estimator_points(config: Config | str | os.PathLike[str]) -> tuple[EstimatorPoint, ...]:
    """Every point of a configuration's estimator; config: read already, or its file. Raises ConfigError."""
    read = config if isinstance(config, Config) else read_config(os.fspath(config))
    return tuple(EstimatorPoint(name, read) for name in POINTS)
