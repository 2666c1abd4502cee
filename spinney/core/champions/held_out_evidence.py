"""Evidence of held-out rows about a challenger and a reference (its champion, or a constant), as numbers and text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from spinney.core.champions.paired_test import PairedDifference
from spinney.core.number_format import format_number

MIN_ROWS_TO_REFUSE = 7
"""Rows below which no challenger counts as clearly worse. If it is worse on each of seven rows, chance explains that
with 0.5⁷ = 0.8 %; on fewer rows it explains more than CLEARLY_WORSE, also where all differences happen to be alike."""

CLEARLY_WORSE = 0.01
"""Confidence of being within the margin below which a challenger counts as clearly worse."""

TIE = 1e-9
"""Relative difference of two losses that counts as none: two ways to compute the same model differ by rounding."""

SHOWN = 0.9
"""Confidence from which words call a challenger better or worse; below they say that no difference is shown."""


@dataclass(frozen=True)
class HeldOutEvidence:
    """The mean losses of a challenger and of a reference on the same rows, and their paired difference.

    difference: None if it has no standard error: there is one row, or an earlier version stored means only.
    """

    rows: int
    loss: float
    reference_loss: float
    difference: PairedDifference | None

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, Any], reference: str) -> HeldOutEvidence | None:
        """Return the evidence in the metrics of `fit_groups`; None if a loss is missing or infinite.

        reference: champion or constant.
        """
        rows = int(metrics.get("heldout_rows") or 0)
        loss, reference_loss = metrics.get("challenger_loss"), metrics.get(f"{reference}_loss")
        if not (_is_finite(loss) and _is_finite(reference_loss)):
            return None
        mean, error = (metrics.get(f"{reference}_{name}") for name in ("difference", "difference_se"))
        found = None if mean is None or error is None else PairedDifference(mean, error, rows)
        return cls(rows, loss, reference_loss, found)

    @classmethod
    def of_parent(cls, found: Mapping[str, Any] | None) -> HeldOutEvidence | None:
        """Return the evidence in a first model's metric `parent`; None if no row was compared or a loss is infinite."""
        if not found or not found["rows"]:
            return None
        losses = {"heldout_rows": found["rows"], "challenger_loss": found["challenger_loss"]}
        names = {"parent_loss": "loss", "parent_difference": "difference", "parent_difference_se": "difference_se"}
        return cls.of_metrics(losses | {name: found[of] for name, of in names.items()}, "parent")

    def confidence_within(self, margin: float) -> float:
        """Return the confidence, from 0 to 1, that the challenger's loss is at most `1 + margin` times the reference's.

        Without a standard error it is 1 or 0, by the measured losses.
        """
        if self.difference is None:
            return 0.0 if self.is_measured_worse(margin) else 1.0
        return self.difference.confidence_at_most((margin + TIE) * self.reference_loss)

    def is_measured_worse(self, margin: float) -> bool:
        """Whether the challenger's mean loss is more than `1 + margin` times the reference's."""
        return self.loss > self.reference_loss * (1 + margin + TIE)

    def is_clearly_worse(self, margin: float) -> bool:
        """Whether it is worse than the margin allows with a confidence that suffices on few rows too."""
        has_enough_rows = self.difference is not None and self.rows >= MIN_ROWS_TO_REFUSE
        return has_enough_rows and self.confidence_within(margin) < CLEARLY_WORSE

    @property
    def outcome(self) -> str:
        """The finding: "better", "worse" or "no difference shown"."""
        if self.difference is None:
            return "worse" if self.is_measured_worse(0) else "no difference shown"
        if self._is_identical:
            return "no difference shown"
        confidence = self.confidence_within(0)
        if confidence >= SHOWN:
            return "better"
        return "worse" if confidence <= 1 - SHOWN else "no difference shown"

    def describe(self, whose: str) -> str:
        """Return the numbers, as in ``loss 7.1 against 8 on 34 rows (11 % lower; better with 96 % confidence)``.

        whose: text before the reference's loss, such as "the predecessor's "; empty in the example.
        """
        findings = "; ".join(text for text in (self._relative_loss(), self._confidence()) if text)
        rows = f"{self.rows} row" if self.rows == 1 else f"{self.rows} rows"
        losses = f"loss {format_number(self.loss)} against {whose}{format_number(self.reference_loss)} on {rows}"
        return f"{losses} ({findings})" if findings else losses

    def _relative_loss(self) -> str:
        if not self.reference_loss:
            return ""
        ratio = self.loss / self.reference_loss
        if ratio >= 2:
            return f"{ratio:,.1f} times as high"
        if abs(ratio - 1) <= TIE:
            return "equal"
        return f"{abs(ratio - 1) * 100:.2g} % {'higher' if ratio > 1 else 'lower'}"

    @property
    def _is_identical(self) -> bool:
        """Whether both have the same loss on every row, but for rounding."""
        largest = TIE * self.reference_loss
        found = self.difference
        return found is not None and abs(found.mean) <= largest and found.standard_error <= largest

    def _confidence(self) -> str:
        if self.difference is None or self._is_identical:
            return ""
        confidence = self.confidence_within(0)
        text = f"better with {format_confidence(confidence)} confidence"
        if confidence < 0.5:
            text = f"worse with {format_confidence(1 - confidence)} confidence"
        contradicts = self.difference.mean * (self.loss - self.reference_loss) < 0
        return f"{text} without the most extreme rows" if contradicts else text


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def format_confidence(share: float) -> str:
    """Return a confidence as a whole percentage; "under 1 %" and "over 99 %" at the ends."""
    if share < 0.01:
        return "under 1 %"
    return "over 99 %" if share > 0.99 else f"{share:.0%}".replace("%", " %")
