"""Strategies: everything that decides which groups are refitted, how, and whether the new model goes live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from spinney.core.champions.gate import GateSettings
from spinney.core.champions.user_rule import load_user_rule
from spinney.core.errors import ContractError
from spinney.core.planning.budget import FIRST_POLICY, Candidate, RoundAllowance, choose_groups
from spinney.core.planning.round_cost import RoundCostEstimator
from spinney.core.recipes.recipe import Recipe
from spinney.core.staleness.judge import JudgeSettings

if TYPE_CHECKING:
    from spinney.core.config import Config


class Selection(Protocol):
    """Which of the due groups the round of a step takes."""

    def choose(self, due: Sequence[Candidate], step: int, refits: int) -> list[str]:
        """Return the group_keys to fit. step: its number, from 0. refits: refits in the earlier steps."""


@dataclass(frozen=True)
class WithinAllowance:
    """The same allowance in every step, as a fleet's own budget."""

    allowance: RoundAllowance

    def choose(self, due: Sequence[Candidate], step: int, refits: int) -> list[str]:
        """Return the group_keys to fit, as `Selection.choose`."""
        del refits
        return choose_groups(due, self.allowance, seed=str(step))


@dataclass(frozen=True)
class EvenlySpread:
    """A number of refits spread evenly over the steps. What a step does not use is left to the later ones.

    refits: in all steps; first models are not counted and always fitted. steps: number of steps. shares: the shares of
    the longest stale and of random groups; the others are taken by rank.
    """

    refits: int
    steps: int
    shares: RoundAllowance

    def choose(self, due: Sequence[Candidate], step: int, refits: int) -> list[str]:
        """Return the group_keys to fit, as `Selection.choose`."""
        first = [group.group_key for group in due if group.policy == FIRST_POLICY]
        others = [group for group in due if group.policy != FIRST_POLICY]
        groups = self.refits * (step + 1) // self.steps - refits
        if groups <= 0 or not others:
            return first
        return [*first, *choose_groups(others, replace(self.shares, groups=groups), seed=str(step))]


@dataclass(frozen=True)
class Strategy:
    """A named strategy to replay: policies, budget, recipe and gate.

    brake_share, halt_share: as in `[budget]` and `[gate]`; 1: no brake, no halt.
    """

    name: str
    judge: JudgeSettings
    selection: Selection
    recipe: Recipe
    gate: GateSettings
    brake_share: float = 1.0
    halt_share: float = 1.0

    @classmethod
    def from_config(cls, config: Config, name: str, cores: int) -> Strategy:
        """Return the strategy of a configuration file. Its shadow recipe is left out: it never answers.

        cores: that a round is assumed to run on. The budget is that of one streaming round, with the cost per group
        that is assumed before any was measured. Raises ContractError for a recipe that pools groups with their parents.
        """
        rows = config.recipe.pooling_rows
        if rows is not None:
            named = rows if isinstance(rows, str) else f"{rows:g}"
            raise ContractError(
                f"backtest of {name}: expected no recipe.pooling_rows, since parents are not replayed; got "
                f"{named}. Remove it from the configuration or the candidate"
            )
        cost = RoundCostEstimator(cores).estimate()
        allowance = replace(cost.allowance(config.budget), groups=config.budget.max_groups)
        recipe = replace(Recipe.of(config), shadow=None)
        judge, selection = JudgeSettings.from_config(config), WithinAllowance(allowance)
        if not config.staleness.drift.triggers:  # recorded drift decides nothing
            judge = replace(judge, drift_patience=None)
        if recipe.user_rule is not None:
            load_user_rule(recipe.user_rule.rule)  # before hours of replay
        shares = {"brake_share": config.budget.brake_share, "halt_share": config.gate.halt_share}
        return cls(name, judge, selection, recipe, config.gate, **shares)
