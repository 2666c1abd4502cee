"""Ask a user's rule of the gate about challengers, in the worker process where a failure costs its group only.

The gate decides by the answer (`spinney.core.champions.gate`), which is a metric of the attempt.
"""

from __future__ import annotations

from collections.abc import Sequence

from spinney.core.champions.gate import decide_by_losses
from spinney.core.champions.held_out_evidence import HeldOutEvidence
from spinney.core.champions.promotion import PROMOTING_DECISIONS
from spinney.core.champions.user_rule import METRIC, Comparison, load_user_rule
from spinney.core.errors import ContractError, FitFailed
from spinney.core.recipes.recipe import Recipe, UserRuleTerms
from spinney.core.training import current_group
from spinney.core.training.fit_attempt import FitAttempt


def ask_user_rule(attempts: Sequence[FitAttempt], recipe: Recipe) -> None:
    """Add the answer of `recipe.user_rule` to the attempts that were compared with a champion.

    An attempt fails if the rule raises or gives no answer. Raises ConfigError if the rule cannot be imported.
    """
    terms = recipe.user_rule
    if terms is None:
        return
    rule = load_user_rule(terms.rule)
    for attempt in attempts:
        comparison = _comparison(attempt, terms)
        if comparison is None:
            continue
        key = attempt.request.group_key
        current_group.report(key, current_group.RULE)
        try:
            attempt.metrics[METRIC] = rule.answer(comparison).as_metric(rule.source)
        except ContractError as error:
            attempt.fail(FitFailed.of(key, error))


def _comparison(attempt: FitAttempt, terms: UserRuleTerms) -> Comparison | None:
    """The losses of an attempt; None if there is no champion, or nothing was compared with it."""
    evidence = HeldOutEvidence.of_metrics(attempt.metrics, "champion")
    if attempt.request.champion_id is None or evidence is None:
        return None
    challenger, champion = attempt.compared_losses, attempt.reference_losses
    if challenger is None or champion is None:
        raise AssertionError(f"group {attempt.request.group_key} has mean losses, but none of single rows")
    decision, reason = decide_by_losses(attempt.metrics, evidence, terms)
    return Comparison.of(challenger, champion, promotes=decision in PROMOTING_DECISIONS, reason=reason)
