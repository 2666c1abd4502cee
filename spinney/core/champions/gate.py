"""The gate: whether a challenger replaces the champion."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from schemas.vocabulary import ESTIMATED, Decision
from spinney.core.champions.held_out_evidence import HeldOutEvidence, format_confidence
from spinney.core.champions.jump_holds import JUMP, LASTED
from spinney.core.champions.predecessor_watch import ChallengerTerms, reason_to_refuse
from spinney.core.champions.promotion import PROMOTING_DECISIONS
from spinney.core.champions.user_rule import UserRuleAnswer
from spinney.core.config.value_types import BUILT_IN_RULE
from spinney.core.durations import format_duration, render
from spinney.core.errors import ContractError
from spinney.core.number_format import format_number
from spinney.core.recipes.display_name import recipe_display_name

CONFIDENCE = 0.6
"""Confidence needed for a promotion on enough rows: with it, at most 20 % of simulated challengers that are 20 % worse
pass on 30 rows."""


class LossTerms(Protocol):
    """What the built-in rule needs to compare losses."""

    @property
    def evidence(self) -> int:
        """Held-out rows needed for a decision that counts as proven."""

    @property
    def margin(self) -> float:
        """Largest excess of a challenger's loss that still passes, as a share of the champion's loss; at least 0."""


class GateSettings(LossTerms, Protocol):
    """The configuration's section `gate`."""

    @property
    def rule(self) -> str:
        """``not_worse``, or ``"module:name"`` of a user's own."""

    @property
    def jump(self) -> float:
        """Largest jump of its predictions from the champion's, in spreads of the champion's residuals; may be inf."""

    @property
    def jump_hold(self) -> timedelta:
        """How long the challengers of a group have to be held by their jump before one passes."""


class UncomparedPolicy(Enum):
    """Which challengers of another recipe may be promoted although they could not be compared with the champion."""

    NONE = auto()
    """None of them: in a streaming round, and for parents in every round."""
    FORESEEN = auto()
    """Only groups for which a batch counted too few rows beforehand; not those whose expected comparison failed."""
    ALL = auto()
    """All of them: a person asked for it (`--unproven`)."""


class GateDecision(NamedTuple):
    """A decision about a challenger: PROMOTED, UNPROVEN, HELD or REFUSED, and the reason with its numbers.

    about_jump: whether it is held by its jump, or promoted because the jump has lasted.
    """

    decision: Decision
    reason: str
    about_jump: bool = False


def decide(
    metrics: Mapping[str, Any],
    gate: GateSettings,
    uncompared: UncomparedPolicy = UncomparedPolicy.FORESEEN,
    *,
    is_last_rung: bool = False,
    watch_level: float = 0.0,
    held_for: timedelta | None = None,
) -> GateDecision:
    """Return the decision about a challenger.

    metrics: as `fit_groups` returns them. is_last_rung: whether the model is of the last parent of the fleet's ladder,
    after which no model can answer. watch_level: significance level of the test whether the champion is worse than its
    predecessor; 0: not tested. held_for: time since the first challenger of the last unbroken series of those that
    were held by their jump (`jump_holds`); None if there is none.

    Rule ``not_worse``: a challenger is promoted if a paired test on the same held-out rows shows with CONFIDENCE that
    its loss is at most ``1 + margin`` times the champion's. So it passes if it measures better, and also if it measures
    about equal on many rows: it has seen newer data, and the stored model is fitted on the held-out rows too. On fewer
    than `evidence` rows it is promoted as unproven, unless it is clearly worse.

    If the champion was fitted by another recipe (`changed_from`), a challenger that measures worse is refused on fewer
    rows too: an edit must not replace models that measure better. If the champion's own recipe was fitted again on
    older rows (`refitted`), that model was measured in place of the champion. If nothing could be compared with a
    champion of another recipe, `uncompared` says whether the challenger passes.

    A first model is compared with its parent's champion, which answers until then, on the rows that are newer than that
    champion. It is refused if it measures worse, on few rows too: what answers already needs no evidence. Without such
    rows a model that is pooled with that champion by estimated weights is promoted as unproven: it differs from the
    parent's model only as far as its rows support. Other models are then compared with a constant prediction, and
    refused if they measure worse on `evidence` rows, or are clearly worse on fewer. If `is_last_rung`, a refusal would
    leave nobody to answer, and the model is promoted as unproven.

    If the champion would be withdrawn, because it is worse than its predecessor at `watch_level`, the challenger must
    also pass against the predecessor (`predecessor_watch`).

    A challenger that passes but whose predictions `jump` from the champion's is held, and so are later ones. Once they
    have been held for `jump_hold`, one that is shown to be better passes: its new labels agree with those that made the
    first one jump, and nobody has objected. A person may promote one earlier, or pin the champion.

    A user's own rule decides in place of the paired test between a challenger and its champion, where rows were
    compared. It was asked in the worker that fitted the challenger (`user_rule`). Its promotion on fewer than
    `evidence` rows is unproven. All else is as with the built-in rule.

    Raises ContractError for another rule.
    """
    if gate.rule != BUILT_IN_RULE and ":" not in gate.rule:
        raise ContractError(f'gate.rule: expected "{BUILT_IN_RULE}" or "module:name"; got {gate.rule!r}')
    if metrics.get("champion_id") is None:
        return GateDecision(*_decide_first_model(metrics, gate, is_last_rung=is_last_rung))
    evidence = HeldOutEvidence.of_metrics(metrics, "champion")
    if evidence is None:
        return GateDecision(*_decide_uncompared(metrics.get("uncompared"), gate, uncompared))
    decision, reason = decide_by_losses(metrics, evidence, gate)
    if gate.rule != BUILT_IN_RULE:
        answer = UserRuleAnswer.of_metrics(metrics, gate.rule)
        decision, reason = _decide_by_user_rule(answer, evidence, gate, f"{decision.value}, {reason}")
    if decision in PROMOTING_DECISIONS:
        refusal = reason_to_refuse(metrics, ChallengerTerms(watch_level, gate.margin, gate.evidence, CONFIDENCE))
        decision, reason = (decision, reason) if refusal is None else (Decision.REFUSED, refusal)
    jump = metrics.get("jump")
    if decision not in PROMOTING_DECISIONS or jump is None or not jump > gate.jump:
        return GateDecision(decision, reason)
    if held_for is None or held_for < gate.jump_hold or evidence.outcome != "better":
        return GateDecision(Decision.HELD, _reason_to_hold(jump, gate, f"{decision.value}, {reason}"), about_jump=True)
    lasted = f"{LASTED}{_described_jump(jump, gate)}; the first challenger was held {format_duration(held_for)} ago"
    return GateDecision(decision, f"{reason}. {lasted}", about_jump=True)


def is_shown_worse(metrics: Mapping[str, Any]) -> bool:
    """Whether the challenger is shown to be worse than its champion. metrics: as `fit_groups` returns them."""
    evidence = HeldOutEvidence.of_metrics(metrics, "champion")
    return evidence is not None and evidence.outcome == "worse"


def decide_by_losses(metrics: Mapping[str, Any], evidence: HeldOutEvidence, gate: LossTerms) -> tuple[Decision, str]:
    """Return the decision of the built-in rule by the losses of challenger and champion on the same rows.

    evidence: that of the metrics.
    """
    is_changed, described = metrics.get("changed_from") is not None, evidence.describe(_whose_loss(metrics))
    if evidence.rows < gate.evidence:
        is_worse_edit = is_changed and evidence.is_measured_worse(gate.margin)
        if is_worse_edit or evidence.is_clearly_worse(gate.margin):
            return Decision.REFUSED, f"worse: {described}"
        return Decision.UNPROVEN, f"thin evidence, {gate.evidence} rows needed: {described}"
    return _decide_proven(evidence, gate, described)


def _decide_by_user_rule(
    answer: UserRuleAnswer | None, evidence: HeldOutEvidence, gate: GateSettings, built_in: str
) -> tuple[Decision, str]:
    """The decision by a user's own rule. built_in: that of the built-in rule, and its reason."""
    if answer is None:
        refusal = f"{gate.rule} was not asked when the challenger was compared, since gate.rule was another"
        return Decision.REFUSED, f"{refusal}; {BUILT_IN_RULE}: {built_in}"
    is_proven = evidence.rows >= gate.evidence
    promoted = Decision.PROMOTED if is_proven else Decision.UNPROVEN
    thin = "" if is_proven or not answer.promotes else f"thin evidence, {gate.evidence} rows needed: "
    reason = f"{thin}{gate.rule}: {answer.reason}; {BUILT_IN_RULE}: {built_in}"
    return promoted if answer.promotes else Decision.REFUSED, reason


def _decide_proven(evidence: HeldOutEvidence, gate: LossTerms, described: str) -> tuple[Decision, str]:
    """The decision on enough rows."""
    confidence = evidence.confidence_within(gate.margin)
    decision = Decision.PROMOTED if confidence >= CONFIDENCE else Decision.REFUSED
    is_promoted, outcome = decision is Decision.PROMOTED, evidence.outcome
    if is_promoted and outcome == "worse":
        outcome = "worse within the margin"
    words = f"{outcome}: {described}"
    if evidence.difference is None or outcome == "better":
        return decision, words
    limit = f"at most {gate.margin * 100:g} % worse" if gate.margin else "not worse"
    needed = "" if is_promoted else f", {format_confidence(CONFIDENCE)} needed"
    return decision, f"{words}; {limit} with {format_confidence(confidence)} confidence{needed}"


def _reason_to_hold(jump: float, gate: GateSettings, otherwise: str) -> str:
    return (
        f"{JUMP}{_described_jump(jump, gate)} (gate.jump). Check the newest labels; `spinney promote` with this model "
        f"releases it. If they are right, a later challenger that is better passes after {render(gate.jump_hold)} of "
        f"holds (gate.jump_hold). Without the jump: {otherwise}"
    )


def _described_jump(jump: float, gate: GateSettings) -> str:
    return (
        f"its predictions are {format_number(jump)} spreads of the champion's residuals from the champion's, "
        f"{format_number(gate.jump)} allowed"
    )


def _whose_loss(metrics: Mapping[str, Any]) -> str:
    """Name of the model that a challenger was compared with, as text before its loss."""
    if refitted := metrics.get("refitted"):
        return f"the champion's recipe ({_recipe_name(refitted)}) fitted on the same older rows, "
    return "the champion's (another recipe) " if metrics.get("changed_from") is not None else "the champion's "


def _decide_uncompared(
    why: Mapping[str, Any] | None, gate: GateSettings, uncompared: UncomparedPolicy
) -> tuple[Decision, str]:
    """The decision where no rows were compared. why: set if the champion is of another recipe."""
    if why and not _passes_uncompared(why, uncompared):
        return Decision.REFUSED, (
            f"not compared: the champion was fitted by another recipe, and {why['why']}. "
            "`spinney retrain --unproven` promotes without evidence"
        )
    return Decision.UNPROVEN, f"thin evidence: no rows compared with the champion, {gate.evidence} needed"


def _passes_uncompared(why: Mapping[str, Any], uncompared: UncomparedPolicy) -> bool:
    return uncompared is UncomparedPolicy.ALL or (uncompared is UncomparedPolicy.FORESEEN and not why["refit_failed"])


def _recipe_name(refitted: Mapping[str, Any]) -> str:
    name = str(refitted["recipe_id"])
    return recipe_display_name(name, {name: str(refitted["estimator"])}) or name


def _decide_first_model(metrics: Mapping[str, Any], gate: GateSettings, *, is_last_rung: bool) -> tuple[Decision, str]:
    """The decision about a group without a champion: its model has to beat its parent's, or a constant."""
    of_parent = HeldOutEvidence.of_parent(metrics.get("parent"))
    if of_parent is not None:
        described = of_parent.describe(f"that of parent {metrics['parent']['group_key']}, ")
        if of_parent.is_measured_worse(0):
            return Decision.REFUSED, f"first model, worse than its parent's: {described}"
        return _pass_first_model(of_parent, gate, described)
    parent = metrics.get("parent") or {}
    if parent.get("pooling") == ESTIMATED:
        words = f"pooled with the model of parent {parent['group_key']}, no row is newer than that"
        return Decision.UNPROVEN, f"first model on thin evidence: {words}"
    evidence = HeldOutEvidence.of_metrics(metrics, "constant")
    if evidence is None:
        return Decision.UNPROVEN, f"first model on thin evidence: no held-out rows, {gate.evidence} needed"
    described = evidence.describe("a constant's ")
    if evidence.is_clearly_worse(gate.margin) or (evidence.rows >= gate.evidence and evidence.is_measured_worse(0)):
        if is_last_rung:
            return Decision.UNPROVEN, f"first model, worse than a constant, but no other model can answer: {described}"
        return Decision.REFUSED, f"first model, worse than a constant: {described}"
    return _pass_first_model(evidence, gate, described)


def _pass_first_model(evidence: HeldOutEvidence, gate: GateSettings, described: str) -> tuple[Decision, str]:
    if evidence.rows < gate.evidence:
        return Decision.UNPROVEN, f"first model on thin evidence, {gate.evidence} rows needed: {described}"
    return Decision.PROMOTED, f"first model: {described}"
