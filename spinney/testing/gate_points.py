"""The checks of a rule of the gate by `spinney check`, as callable tests, and the gate's decision by losses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spinney.core.config import Config
from spinney.testing.config_argument import config_of

if TYPE_CHECKING:
    from spinney.core.champions.gate import GateDecision
    from spinney.local.checks.gate_check import RuleCase


@dataclass(frozen=True)
class GatePoint:
    """A requirement for a rule of the gate. Calling it checks the rule on synthetic losses."""

    name: str
    case: RuleCase

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Raise AssertionError with the problem and its remedy."""
        from spinney.local.checks.gate_check import check_rule

        wrong = check_rule(self.case, self.name)
        if wrong is not None:
            raise AssertionError(f'gate.rule "{self.case.rule.source}": {wrong}')


def gate_points(config: Config | str | os.PathLike[str]) -> tuple[GatePoint, ...]:
    """Return every check of a configuration's own rule of the gate; none for the built-in one.

    config: the configuration, or its file. Raises ConfigError.
    """
    from spinney.local.checks.gate_check import POINTS, RuleCase

    case = RuleCase.of(config_of(config))
    return () if case is None else tuple(GatePoint(name, case) for name in POINTS)


def decide_by_gate(
    config: Config | str | os.PathLike[str], challenger_losses: Sequence[float], champion_losses: Sequence[float]
) -> GateDecision:
    """Return the gate's decision and its reason, by the losses of a challenger and its champion on the same rows.

    config: the configuration, or its file. The losses are finite, oldest row first, at least one. Raises ConfigError,
    and ContractError if a rule of your own raises or gives no answer.
    """
    import numpy as np

    from spinney.core.champions.gate import decide
    from spinney.core.champions.user_rule import METRIC
    from spinney.local.checks.gate_check import RuleCase, compared_metrics

    read = config_of(config)
    case, losses = RuleCase.of(read), [np.asarray(of, dtype=np.float64) for of in (challenger_losses, champion_losses)]
    metrics = compared_metrics(*losses)
    if case is not None:
        metrics[METRIC] = case.rule.answer(case.compare(*losses)).as_metric(case.rule.source)
    return decide(metrics, read.gate)
