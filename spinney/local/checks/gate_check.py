"""Points that a user's own rule of the gate must fulfil, each checked on synthetic losses.

A point that fails gives a message and a remedy. `spinney check` checks all points; `spinney.testing` offers the checks
to your own tests.

Required is what a fleet needs to stay fresh and safe: the same losses give the same answer in every process, any
finite losses have an answer, a hopeless challenger is refused, and one that is beyond doubt replaces the champion. Not
required are the same answer for other units, for another order of the rows, or for equal models: a rule may have an
absolute tolerance, count newer rows more, or ask for a gain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from spinney.core.champions.gate import decide_by_losses
from spinney.core.champions.held_out_evidence import HeldOutEvidence
from spinney.core.champions.paired_test import winsorized_differences
from spinney.core.champions.promotion import PROMOTING_DECISIONS
from spinney.core.champions.user_rule import Comparison, UserRule, load_user_rule
from spinney.core.config import Config
from spinney.core.features.encoding import Floats
from spinney.core.recipes.recipe import UserRuleTerms
from spinney.local.checks.points import FailedPoint, PointFailed, check_named_point

ROWS = 200
TIMES = 10.0
"""How many times as high the losses of the worse model are, on each of ROWS rows, where the answer is beyond doubt."""

SCALES = (1e-300, 1e-3, 1.0, 1e3, 1e300)


@dataclass(frozen=True)
class RuleCase:
    """A rule to check, and the keys of `[gate]` by which the built-in rule decides."""

    rule: UserRule
    terms: UserRuleTerms

    @classmethod
    def of(cls, config: Config) -> RuleCase | None:
        """Return the case of a configuration; None if its rule is the built-in one. Raises ConfigError."""
        terms = UserRuleTerms.of(config.gate)
        return None if terms is None else cls(load_user_rule(terms.rule), terms)

    def compare(self, challenger: Floats, champion: Floats) -> Comparison:
        """Return a comparison of these losses, with the decision of the built-in rule."""
        metrics = compared_metrics(challenger, champion)
        evidence = HeldOutEvidence.of_metrics(metrics, "champion")
        assert evidence is not None, "the losses are finite"
        decision, reason = decide_by_losses(metrics, evidence, self.terms)
        return Comparison.of(challenger, champion, promotes=decision in PROMOTING_DECISIONS, reason=reason)


def compared_metrics(challenger: Floats, champion: Floats) -> dict[str, object]:
    """Return the metrics of a fit whose challenger and champion have these losses."""
    rows = len(challenger)
    differences, errors = winsorized_differences(challenger - champion, np.array([rows]))
    return {
        "champion_id": "champion",
        "heldout_rows": rows,
        "challenger_loss": float(challenger.mean()),
        "champion_loss": float(champion.mean()),
        "champion_difference": float(differences[0]),
        "champion_difference_se": None if rows == 1 else float(errors[0]),
    }


def check_rule(case: RuleCase, point: str) -> FailedPoint | None:
    """Check one of POINTS. Returns None if it is fulfilled."""
    return check_named_point(POINTS, case, point, "docs/gate.md says what a rule gets and returns")


def failed_rule_points(case: RuleCase) -> list[FailedPoint]:
    """Return the points that a rule does not fulfil."""
    return [failure for name in POINTS if (failure := check_rule(case, name)) is not None]


def _synthetic_losses() -> list[tuple[Floats, Floats]]:
    """Losses of pairs of models: few and many rows, of all sizes, equal, zero, with an extreme row."""
    random = np.random.default_rng(17)
    pairs = []
    for rows in (1, 2, 7, 30, ROWS):
        champion = np.abs(random.normal(size=rows))
        for scale in SCALES:
            pairs += [(champion * scale * ratio, champion * scale) for ratio in (0.5, 1.0, 2.0)]
        pairs.append((np.abs(random.normal(size=rows)), champion))
        pairs += [(np.zeros(rows), champion), (champion, np.zeros(rows)), (np.zeros(rows), np.zeros(rows))]
        pairs.append((np.where(np.arange(rows) == 0, 1e6, champion), champion))
    return pairs


def _answers_all(case: RuleCase) -> None:
    for challenger, champion in _synthetic_losses():
        case.rule.answer(case.compare(challenger, champion))


def _is_pure(case: RuleCase) -> None:
    comparisons = [case.compare(*losses) for losses in _synthetic_losses()]
    first = [case.rule.answer(comparison) for comparison in comparisons]
    again = [case.rule.answer(comparison) for comparison in reversed(comparisons)]
    if first != again[::-1]:
        raise PointFailed(
            "the same losses give different answers", "Use no clock, random numbers or memory of earlier comparisons"
        )


def _refuses_the_hopeless(case: RuleCase) -> None:
    champion = np.abs(np.random.default_rng(18).normal(size=ROWS)) + 0.1
    if case.rule.answer(case.compare(champion * TIMES, champion)).promotes:
        raise PointFailed(
            f"it promotes a challenger with {TIMES:g} times the loss on each of {ROWS} rows",
            "Refuse a challenger that is much worse: the gate is there for that",
        )


def _promotes_the_best(case: RuleCase) -> None:
    challenger = np.abs(np.random.default_rng(19).normal(size=ROWS)) + 0.1
    if not case.rule.answer(case.compare(challenger, challenger * TIMES)).promotes:
        raise PointFailed(
            f"it refuses a challenger with a tenth of the loss on each of {ROWS} rows",
            "Promote a challenger that is much better: otherwise no model is ever replaced",
        )


POINTS: Mapping[str, Callable[[RuleCase], None]] = {
    "an answer for any losses": _answers_all,
    "the same losses, the same answer": _is_pure,
    "much worse is refused": _refuses_the_hopeless,
    "much better is promoted": _promotes_the_best,
}
"""Name of each point and its check."""
