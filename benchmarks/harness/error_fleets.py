"""Simulated fleets whose errors do not change, except those of a few groups, and the refits that a rule asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Errors = Callable[[np.random.Generator, int, int], Iterator[Floats]]
"""From a random generator, a number of steps and of groups: for each step the errors of all groups, with variance 1."""

LABELS_PER_DAY = 4
WITHIN_ROWS = 300
SHOCK_SHARE = 0.1
CORRELATION = 0.5


def normal(random: np.random.Generator, steps: int, groups: int) -> Iterator[Floats]:
    """Independent normal errors."""
    for _ in range(steps):
        yield random.standard_normal(groups)


def shocks(random: np.random.Generator, steps: int, groups: int) -> Iterator[Floats]:
    """Normal errors that are twice as large for all groups on one day in ten."""
    for step, errors in enumerate(normal(random, steps, groups)):
        if step % LABELS_PER_DAY == 0:
            scale = 2.0 if random.random() < SHOCK_SHARE else 1.0
        yield scale * errors


def autocorrelated(random: np.random.Generator, steps: int, groups: int) -> Iterator[Floats]:
    """Errors of a first-order autoregression with correlation 0.5 between successive labels of a group."""
    errors = random.standard_normal(groups)
    for noise in normal(random, steps, groups):
        errors = CORRELATION * errors + np.sqrt(1 - CORRELATION**2) * noise
        yield errors


def heavy_tailed(random: np.random.Generator, steps: int, groups: int) -> Iterator[Floats]:
    """Independent errors of Student's t with 3 degrees of freedom, scaled to variance 1."""
    for _ in range(steps):
        yield random.standard_t(3, groups) / np.sqrt(3)


SCENARIOS: dict[str, Errors] = {
    "normal": normal,
    "common shocks": shocks,
    "autocorrelated": autocorrelated,
    "Student t3": heavy_tailed,
}

LOSSES: dict[str, Callable[[Floats], Floats]] = {"absolute": np.abs, "squared": np.square}
CHANGES: dict[str, Callable[[Floats], Floats]] = {
    "mean + 1 sd": lambda errors: errors + 1.0,
    "sd doubled": lambda errors: 2.0 * errors,
}


class Rule(Protocol):
    """A rule that says which groups have a risen error."""

    def new_champions(self, at: npt.NDArray[np.int64], references: Floats, day: float) -> None:
        """Take new champions of groups, with their held-out losses, shape (len(at), n)."""

    def alarms(self, losses: Floats, day: float) -> Bools:
        """Take one loss of each group, and return which groups are stale."""


@dataclass(frozen=True)
class Fleet:
    """A simulated fleet. Every group has LABELS_PER_DAY labels a day; the first groups change halfway.

    life: days of a champion, after which it is replaced by an equal one; None: it stays until an alarm.
    """

    groups: int
    days: int
    errors: Errors = normal
    loss: Callable[[Floats], Floats] = np.abs
    change: Callable[[Floats], Floats] = CHANGES["mean + 1 sd"]
    changed_share: float = 0.01
    life: int | None = 90
    heldout: int = 20
    seed: int = 0

    @property
    def changed(self) -> int:
        """Number of groups that change."""
        return round(self.groups * self.changed_share)


@dataclass(frozen=True)
class Outcome:
    """false_alarms: per group-year, of groups that do not change. delays: rows until each changed group is found."""

    false_alarms: float
    delays: Floats = field(repr=False)

    @property
    def power(self) -> float:
        """Share of the changed groups that are found within WITHIN_ROWS rows."""
        return float((self.delays <= WITHIN_ROWS).mean())

    @property
    def median_delay(self) -> float:
        """Median rows until a changed group is found; inf if fewer than half are."""
        return float(np.median(self.delays))


def simulate(fleet: Fleet, rule: Rule) -> Outcome:
    """Run a rule on a fleet. After an alarm the group has a new champion that is as good as the one before."""
    steps, everyone = fleet.days * LABELS_PER_DAY, np.arange(fleet.groups)
    random = np.random.default_rng([fleet.seed, 1])
    references = np.random.default_rng([fleet.seed, 2])

    def replace_champions(at: npt.NDArray[np.int64], day: float) -> None:
        if len(at):
            heldout = list(fleet.errors(references, fleet.heldout, len(at)))
            rule.new_champions(at, fleet.loss(np.array(heldout)).T, day)

    replace_champions(everyone, 0.0)
    delays, false_alarms = np.full(fleet.changed, np.inf), 0
    for step, drawn in enumerate(fleet.errors(random, steps, fleet.groups)):
        errors = drawn.copy()
        day = (step + 1) / LABELS_PER_DAY
        after = step - steps // 2
        if after >= 0:
            errors[: fleet.changed] = fleet.change(errors[: fleet.changed])
        alarms = rule.alarms(fleet.loss(errors), day)
        if after >= 0:
            found = alarms[: fleet.changed] & np.isinf(delays)
            delays[found] = after + 1
        false_alarms += int(alarms[fleet.changed :].sum())
        is_old = np.full(fleet.groups, fleet.life is not None and (step + 1) % (fleet.life * LABELS_PER_DAY) == 0)
        replace_champions(everyone[alarms | is_old], day)
    years = (fleet.groups - fleet.changed) * fleet.days / 365
    return Outcome(false_alarms / years, delays)


def problems(outcome: Outcome, patience: float) -> list[str]:
    """Return what a rule fails in: false alarms above 1.1 per patience (days), or half of the changed groups missed."""
    allowed = 1.1 * 365 / patience
    found = []
    if outcome.false_alarms > allowed:
        found.append(f"{outcome.false_alarms:.3g} false alarms per group-year; allowed are {allowed:.3g}")
    if outcome.power < 0.5:
        found.append(f"{outcome.power:.0%} of the changed groups found within {WITHIN_ROWS} rows; needed are 50 %")
    return found
