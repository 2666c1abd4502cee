"""The gate: whether a challenger replaces the champion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Protocol

from schemas.vocabulary import Decision
from spinney.core.errors import ContractError
from spinney.core.number_format import format_number
from spinney.core.recipes.display_name import recipe_display_name


class GateSettings(Protocol):
    """The configuration's section `gate`."""

    @property
    def rule(self) -> str:
        """Name of the rule."""

    @property
    def evidence(self) -> int:
        """Held-out rows needed for a decision that counts as proven."""

    @property
    def margin(self) -> float:
        """How much worse a challenger may be and still pass, as a share of the champion's loss; at least 0."""


class UncomparedPolicy(Enum):
    """Which challengers of another recipe may be promoted although nothing could be compared with the champion."""

    NONE = auto()
    """None: in a streaming round, and for parents in every round."""
    FORESEEN = auto()
    """Those that a batch counted beforehand and found few; not those whose comparison was expected and failed."""
    ALL = auto()
    """All: a person asked for it (`--unproven`)."""


def decide(
    metrics: Mapping[str, Any], gate: GateSettings, uncompared: UncomparedPolicy = UncomparedPolicy.FORESEEN
) -> tuple[Decision, str]:
    """Return PROMOTED, UNPROVEN or REFUSED, and the reason with its numbers.

    metrics: heldout_rows (rows compared), challenger_loss, champion_loss, champion_id, changed_from, uncompared and
    refitted, as `fit_groups` returns them.

    Rule ``not_worse``: a challenger is refused only if it is shown to be worse. It has seen newer data, so a loss up to
    ``1 + margin`` times the champion's passes. On fewer than `evidence` rows it is promoted as unproven, since the
    champion cannot be shown to be better either.

    If the champion was fitted by another recipe (`changed_from`), a worse challenger is refused on fewer rows too: an
    edit must not replace models that measure better. If the champion's own recipe was fitted again on older rows
    (`refitted`), that model was measured in place of the champion. If nothing could be compared with a champion of
    another recipe, `uncompared` says whether the challenger passes.

    Raises ContractError for another rule.
    """
    if gate.rule != "not_worse":
        raise ContractError(f'gate.rule: expected "not_worse"; got {gate.rule!r}')
    rows, challenger_loss = _compared_rows(metrics), _finite_or_none(metrics.get("challenger_loss"))
    if metrics.get("champion_id") is None:
        return _decide_first_model(rows, challenger_loss, gate)
    champion_loss = _finite_or_none(metrics.get("champion_loss"))
    if challenger_loss is None or champion_loss is None:
        why = metrics.get("uncompared")
        if why and not _passes_uncompared(why, uncompared):
            return Decision.REFUSED, (
                f"not compared: the champion was fitted by another recipe, and {why['why']}. "
                "`spinney retrain --unproven` promotes without evidence"
            )
        return Decision.UNPROVEN, f"thin evidence: no rows compared with the champion, {gate.evidence} needed"
    is_worse, refitted = challenger_loss > champion_loss * (1 + gate.margin), metrics.get("refitted")
    is_changed = metrics.get("changed_from") is not None
    if rows < gate.evidence and not (is_worse and is_changed):
        return Decision.UNPROVEN, f"thin evidence: {rows} of {gate.evidence} rows compared"
    whose = f"the champion's {format_number(champion_loss)}{', by another recipe,' if is_changed else ''}"
    if refitted:
        recipe = _recipe_name(refitted)
        whose = (
            f"{format_number(champion_loss)} of the champion's recipe ({recipe}), both fitted on the same older rows,"
        )
    losses = f"loss {format_number(challenger_loss)} against {whose} on {rows} rows, margin {gate.margin:.0%}"
    if is_worse:
        return Decision.REFUSED, f"worse: {losses}"
    return Decision.PROMOTED, f"not worse: {losses}"


def _passes_uncompared(why: Mapping[str, Any], uncompared: UncomparedPolicy) -> bool:
    return uncompared is UncomparedPolicy.ALL or (uncompared is UncomparedPolicy.FORESEEN and not why["refit_failed"])


def _recipe_name(refitted: Mapping[str, Any]) -> str:
    name = str(refitted["recipe_id"])
    return recipe_display_name(name, {name: str(refitted["estimator"])}) or name


def _decide_first_model(rows: int, loss: float | None, gate: GateSettings) -> tuple[Decision, str]:
    if loss is None or rows < gate.evidence:
        return Decision.UNPROVEN, f"first model on thin evidence: {rows} of {gate.evidence} held-out rows"
    return Decision.PROMOTED, f"first model: loss {format_number(loss)} on {rows} held-out rows"


def _compared_rows(metrics: Mapping[str, Any]) -> int:
    return int(metrics.get("heldout_rows") or 0)


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
