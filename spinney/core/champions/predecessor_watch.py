"""The watch after a promotion: whether the champion is clearly worse than the model that it replaced.

At each attempt to refit a group both models are compared on the rows newer than the champion, which neither has seen.
Each look has a level of its own: the time since the last attempt ÷ `patience`, at most MAX_LEVEL. The levels add up to
at most the time ÷ `patience`, so a champion that is as good as its predecessor is withdrawn at most once per `patience`
on average, however often it is looked at (the union bound; in sequential analysis, alpha spending: D. L. DeMets and
K. K. G. Lan, Interim analysis: the alpha spending function approach, Statistics in Medicine 13, 1994).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spinney.core.champions.held_out_evidence import TIE, HeldOutEvidence, format_confidence
from spinney.core.champions.paired_test import PairedDifference
from spinney.core.champions.symmetry_test import SymmetricDifference
from spinney.core.number_format import format_number

MAX_LEVEL = 0.01
"""Greatest level of one look: as sure as the gate has to be to refuse a challenger on thin evidence."""


def level_of_look(elapsed: int, patience: int) -> float:
    """Return the significance level of one comparison with the predecessor.

    elapsed: time since the last attempt. patience: mean time between false withdrawals, in the same unit.
    """
    return min(MAX_LEVEL, max(elapsed, 0) / patience)


@dataclass(frozen=True)
class PredecessorEvidence:
    """The losses of a champion and its predecessor on the same rows, newer than both. losses: means."""

    rows: int
    champion_loss: float
    predecessor_loss: float
    difference: SymmetricDifference

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, Any]) -> PredecessorEvidence | None:
        """Return the evidence in the metrics of a fit; None if nothing was compared, or only one row."""
        names = ("watched_champion_loss", "predecessor_loss", "watched_difference", "watched_difference_se")
        values = [metrics.get(name) for name in names]
        if any(value is None or not math.isfinite(value) for value in values):
            return None
        champion, predecessor, mean, error = (float(value) for value in values if value is not None)
        rows = int(metrics["watched_rows"])
        return cls(rows, champion, predecessor, SymmetricDifference(mean, error, rows))

    def is_worse(self, level: float) -> bool:
        """Whether the champion is shown to be worse: if it were not, such a difference had at most the chance `level`.

        level: significance level; at 0 the champion is never shown to be worse.

        Its mean loss has to be higher too: a champion that is a little worse on most rows and avoids a few great errors
        is the better one by the loss of the fleet, and cutting the sizes hides that.
        """
        is_tie = min(self.difference.mean, self.champion_loss - self.predecessor_loss) <= TIE * self.predecessor_loss
        return level > 0 and not is_tie and self.difference.chance_if_equal <= level

    def describe(self) -> str:
        """Return the numbers, as in ``loss 9.1 against its predecessor's 7.2 on 40 rows (chance under 1 % if …)``."""
        losses = f"loss {format_number(self.champion_loss)} against its predecessor's "
        losses += f"{format_number(self.predecessor_loss)} on {self.rows} rows newer than both"
        return f"{losses} (chance {_format_chance(self.difference.chance_if_equal)} if it were as good)"


def reason_to_withdraw(metrics: Mapping[str, Any], level: float) -> str | None:
    """Why the champion of a fit is withdrawn, with its numbers; None if it is not.

    metrics: as `fit_groups` returns them. level: significance level, from `level_of_look`.
    """
    evidence = PredecessorEvidence.of_metrics(metrics)
    if evidence is None or not evidence.is_worse(level):
        return None
    return f"worse than the model it replaced: {evidence.describe()}, {_format_chance(level)} allowed"


@dataclass(frozen=True)
class ChallengerTerms:
    """The requirement for a challenger against the predecessor of a champion that would be withdrawn.

    level: significance level at which the champion was found worse. On `rows_needed` rows the challenger has to be at
    most `margin` worse with this confidence, on fewer rows it must not measure worse by more than the margin.
    """

    level: float
    margin: float
    rows_needed: int
    confidence: float


def reason_to_refuse(metrics: Mapping[str, Any], terms: ChallengerTerms) -> str | None:
    """Why a challenger that passed against the champion does not pass against the champion's predecessor.

    Asked only where the champion would be withdrawn: else a challenger could replace a good model by being better than
    a bad one. None if it passes, or cannot be compared.
    """
    watched, compared = PredecessorEvidence.of_metrics(metrics), _challenger_evidence(metrics)
    if watched is None or compared is None or not watched.is_worse(terms.level):
        return None
    margin = terms.margin
    if compared.rows < terms.rows_needed:
        is_refused = compared.is_measured_worse(margin)
    else:
        is_refused = compared.confidence_within(margin) < terms.confidence
    if not is_refused:
        return None
    losses = compared.describe("the predecessor's ")
    shown = f"at most {margin * 100:g} % worse with {format_confidence(compared.confidence_within(margin))} confidence"
    return (
        f"not shown to be as good as the champion's predecessor: {losses}; {shown}. The "
        f"champion is worse than its predecessor: {watched.describe()}"
    )


def _challenger_evidence(metrics: Mapping[str, Any]) -> HeldOutEvidence | None:
    found = metrics.get("against_predecessor") or {}
    if found.get("challenger_loss") is None or found.get("predecessor_loss") is None:
        return None
    mean, error, rows = found.get("difference"), found.get("difference_se"), int(found["rows"])
    difference = None if mean is None or error is None else PairedDifference(mean, error, rows)
    return HeldOutEvidence(rows, found["challenger_loss"], found["predecessor_loss"], difference)


def _format_chance(share: float) -> str:
    """A probability as a percentage with two digits, as in "0.27 %"."""
    return f"{share * 100:.2g} %" if share >= 1e-6 else "under 0.0001 %"
