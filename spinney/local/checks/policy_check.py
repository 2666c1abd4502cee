"""Points that a user's own policy must fulfil, each checked on synthetic groups.

A point that fails gives a message and a remedy. `spinney check` checks all points; `spinney.testing` offers the checks
to your own tests.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinney.core.config import Config
from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.policies import Policy, configured_policies
from spinney.core.staleness.policies.user_policy import UserPolicy, load_policies
from spinney.core.staleness.verdicts import StalenessResult
from spinney.local.checks.points import FailedPoint, PointFailed, check_named_point

DAY = 86_400_000_000
CLOCK = 20_000 * DAY
"""The fleet's clock of the synthetic groups, microseconds."""

STEPS = (0, 1, 3_600_000_000, DAY, 30 * DAY, 3_650 * DAY)
"""Times after CLOCK at which policies are tried as well, microseconds."""


@dataclass(frozen=True)
class PolicyCase:
    """One policy to check, all policies of the configuration, and synthetic groups."""

    policy: UserPolicy
    configured: tuple[Policy, ...]
    groups: GroupStates
    min_rows: int

    @classmethod
    def all_of(cls, config: Config) -> list[PolicyCase]:
        """Return a case for each policy in `staleness.policies`. Raises ConfigError if one cannot be loaded."""
        configured = configured_policies(config.staleness, config.recipe.min_rows, config.fleet.label_delay)
        groups = synthetic_groups()
        own = load_policies(config.staleness.policies)
        return [cls(policy, configured, groups, config.recipe.min_rows) for policy in own]

    def measure(self, groups: GroupStates, clock: int = CLOCK) -> npt.NDArray[np.float64]:
        """Return measure ÷ limit of each group, NaN where the policy does not apply."""
        return self.policy.measure(groups, clock) / self.policy.limits(groups)


def synthetic_groups() -> GroupStates:
    """Return 64 groups and a parent in all kinds of states: new, without labels, pinned, failed, old, in error."""
    random = np.random.default_rng(11)
    groups = GroupStates.empty()
    groups.positions_of([*(f'["g{n}"]' for n in range(64)), "{}"])
    n = len(groups)
    has_champion = random.random(n) < 0.8
    rows = random.integers(0, 500, n)
    groups.update(
        champion_id=np.where(has_champion, [f"model {i}" for i in range(n)], "").astype(object),
        attempted_at=np.where(has_champion, CLOCK - random.integers(0, 60 * DAY, n), NEVER),
        pinned=random.random(n) < 0.1,
        baseline=np.where(has_champion & (random.random(n) < 0.9), random.gamma(2.0, 3.0, n), np.nan),
        rows_since=rows,
        labelled=rows + random.integers(0, 2_000, n),
        champion_rows=np.where(has_champion, rows, 0),
        recent_weight=np.where(has_champion, np.minimum(rows, 30).astype(np.float64), 0.0),
        recent_loss=np.where(has_champion, np.minimum(rows, 30) * random.gamma(2.0, 4.0, n), 0.0),
        fitted_rows=np.where(has_champion, random.integers(0, 500, n), 0),
        drift=np.where(has_champion & (random.random(n) < 0.9), random.gamma(0.5, 1.0, n), np.nan),
        event_at=CLOCK - random.integers(0, 20 * DAY, n),
        labelled_at=CLOCK - random.integers(20 * DAY, 40 * DAY, n),
        labelled_from=CLOCK - random.integers(40 * DAY, 400 * DAY, n),
        recent_labels=1.0 + random.gamma(1.0, 20.0, n),
        recent_at=CLOCK - random.integers(0, 40 * DAY, n),
        recent_from=CLOCK - random.integers(40 * DAY, 400 * DAY, n),
        fit_ms=np.where(has_champion, random.gamma(2.0, 2.0, n), np.nan),
        failures=np.where(random.random(n) < 0.1, 2, 0),
    )
    return groups.sealed()


def check_policy(case: PolicyCase, point: str) -> FailedPoint | None:
    """Check one of POINTS. Returns None if it is fulfilled."""
    return check_named_point(POINTS, case, point, "`Policy` in spinney/core/staleness/policies says what each returns")


def failed_policy_points(case: PolicyCase) -> list[FailedPoint]:
    """Return the points that a policy does not fulfil."""
    return [failure for name in POINTS if (failure := check_policy(case, name)) is not None]


def _is_numbers(case: PolicyCase) -> None:
    for groups in (case.groups, GroupStates.empty().sealed()):
        if np.isinf(case.measure(groups)).any():
            raise PointFailed("a measure is infinite", "Return NaN where the policy does not apply")


def _is_pure(case: PolicyCase) -> None:
    before = case.groups.to_bytes()
    first, second = case.measure(case.groups.copy()), case.measure(case.groups.copy())
    if not np.array_equal(first, second, equal_nan=True):
        raise PointFailed(
            "the same groups and clock give different measures", "Use no clock, random numbers or memory of your own"
        )
    changed = case.groups.copy()
    case.measure(changed)
    if changed.sealed().to_bytes() != before:
        raise PointFailed("it changes the groups that it measures", "Copy a column before writing into it")


def _is_each_group_alone(case: PolicyCase) -> None:
    together = case.measure(case.groups)
    for i, key in enumerate(case.groups.keys):
        if not np.array_equal(case.measure(_alone(case.groups, i)), together[i : i + 1], equal_nan=True):
            raise PointFailed(
                f"group {key} alone is measured differently than among others",
                "Which groups share a call depends on the shards: measure each by its own columns",
            )


def _is_monotone(case: PolicyCase) -> None:
    before = case.measure(case.groups)
    for step in STEPS:
        later = case.measure(case.groups, CLOCK + step)
        if ((later < before) | (np.isnan(later) & ~np.isnan(before))).any():
            raise PointFailed(
                "a measure falls as the clock advances", "A group that is stale must stay so until it is attempted"
            )
        before = later


def _has_words(case: PolicyCase) -> None:
    words = case.policy.policy.describe(2.0, 1.0)
    if not isinstance(words, str) or not words or "\n" in words:
        raise PointFailed(f"describe(2.0, 1.0) returns {words!r}", "Return a part of a sentence, on one line")


def _travels(case: PolicyCase) -> None:
    try:
        copied = pickle.loads(pickle.dumps(case.policy))  # noqa: S301 - its own bytes
    except Exception as error:  # a user's class may raise anything
        raise PointFailed(f"pickle raised {type(error).__name__}: {error}", "Spark's workers get a copy") from error
    original, others = (policy.measure(case.groups, CLOCK) for policy in (case.policy, copied))
    if not np.array_equal(original, others, equal_nan=True):
        raise PointFailed("a pickled copy measures differently", "Keep all settings in fields of the policy")


def _leaves_no_group_without_a_model(case: PolicyCase) -> None:
    groups = case.groups.copy()
    is_new = (groups["champion_id"] == "") & ~groups.are_parents & (groups["labelled"] >= case.min_rows)
    stale = StalenessResult.of(groups, case.configured, CLOCK)
    if not stale.is_stale[is_new].all():
        raise PointFailed("a group without a model and with enough rows is not stale", "Report this")


POINTS: Mapping[str, Callable[[PolicyCase], None]] = {
    "one number a group": _is_numbers,
    "the same input, the same answer": _is_pure,
    "each group by itself": _is_each_group_alone,
    "never less stale with age": _is_monotone,
    "a reason in words": _has_words,
    "travels to workers": _travels,
    "a group without a model is stale": _leaves_no_group_without_a_model,
}
"""Name of each point and its check."""


def _alone(groups: GroupStates, i: int) -> GroupStates:
    return GroupStates([groups.keys[i]], {name: groups[name][i : i + 1].copy() for name in groups.columns})
