"""Whether a challenger takes the champion's place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Protocol

from schemas.vocabulary import Decision
from spinney.core.errors import ContractError
from spinney.core.number_format import format_number
from spinney.core.recipes.display_name import shown


class Rule(Protocol):
    """The configuration's section `gate`.

    evidence: held-out rows needed for a decision that counts as proven.
    margin: how much worse, as a share of the champion's loss, a challenger may measure and still pass; not below 0.
    """

    @property
    def rule(self) -> str: ...
    @property
    def evidence(self) -> int: ...
    @property
    def margin(self) -> float: ...


class Uncompared(Enum):
    """Which challengers of another recipe may be promoted although nothing could be compared with the champion.

    NONE: a round that nobody was told of beforehand, and parents in every round. FORESEEN: a batch that has counted
    them and found them few: those whose comparison was expected and failed are none of them. ALL: somebody asked for
    it.
    """

    NONE = auto()
    FORESEEN = auto()
    ALL = auto()


def decide(
    metrics: Mapping[str, Any], gate: Rule, uncompared: Uncompared = Uncompared.FORESEEN
) -> tuple[Decision, str]:
    """PROMOTED, UNPROVEN or REFUSED, and why, in words with the numbers.

    metrics: heldout_rows (rows compared), challenger_loss, champion_loss, champion_id, changed_from, uncompared and
    refitted, as `fit_groups` gives them.

    Rule ``not_worse``: a challenger is refused only if it is *shown* to be worse. It has seen newer data, so a loss
    up to ``1 + margin`` times the champion's passes: the margin leans towards the challenger. With less evidence than
    asked it is promoted as unproven, since the champion cannot be shown to be better either.

    Where the champion was fitted by another recipe (`changed_from`), a challenger that is worse is refused on less
    evidence too: an edit must not replace models that measure better, and the champion stays until more rows have come.
    Where the champion's own recipe was fitted again (`refitted`), that model was measured in the champion's place.
    Where nothing could be compared with a champion of another recipe that answers, `uncompared` says which pass.

    Raises ContractError for another rule.
    """
    if gate.rule != "not_worse":
        raise ContractError(f'gate.rule: expected "not_worse"; got {gate.rule!r}')
    rows, mine = _count(metrics), _finite(metrics.get("challenger_loss"))
    if metrics.get("champion_id") is None:
        return _first(rows, mine, gate)
    theirs = _finite(metrics.get("champion_loss"))
    if mine is None or theirs is None:
        why = metrics.get("uncompared")
        if why and not _may_pass(why, uncompared):
            return Decision.REFUSED, (
                f"not compared: the champion was fitted by another recipe, and {why['why']}. "
                "`spinney retrain --unproven` promotes without evidence"
            )
        return Decision.UNPROVEN, f"thin evidence: no rows compared with the champion, {gate.evidence} needed"
    is_worse, refitted = mine > theirs * (1 + gate.margin), metrics.get("refitted")
    is_changed = metrics.get("changed_from") is not None
    if rows < gate.evidence and not (is_worse and is_changed):
        return Decision.UNPROVEN, f"thin evidence: {rows} of {gate.evidence} rows compared"
    whose = f"the champion's {format_number(theirs)}{', by another recipe,' if is_changed else ''}"
    if refitted:
        recipe = f"the champion's recipe ({_named(refitted)})"
        whose = f"{format_number(theirs)} of {recipe}, both fitted on the same older rows,"
    losses = f"loss {format_number(mine)} against {whose} on {rows} rows, margin {gate.margin:.0%}"
    if is_worse:
        return Decision.REFUSED, f"worse: {losses}"
    return Decision.PROMOTED, f"not worse: {losses}"


def _may_pass(why: Mapping[str, Any], uncompared: Uncompared) -> bool:
    return uncompared is Uncompared.ALL or (uncompared is Uncompared.FORESEEN and not why["refit_failed"])


def _named(refitted: Mapping[str, Any]) -> str:
    name = str(refitted["recipe_id"])
    return shown(name, {name: str(refitted["estimator"])}) or name


def _first(rows: int, loss: float | None, gate: Rule) -> tuple[Decision, str]:
    if loss is None or rows < gate.evidence:
        return Decision.UNPROVEN, f"first model on thin evidence: {rows} of {gate.evidence} held-out rows"
    return Decision.PROMOTED, f"first model: loss {format_number(loss)} on {rows} held-out rows"


def _count(metrics: Mapping[str, Any]) -> int:
    return int(metrics.get("heldout_rows") or 0)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
