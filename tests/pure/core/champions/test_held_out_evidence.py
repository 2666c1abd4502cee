"""Evidence of held-out rows at the edges: ties, no standard error, confidences near one half."""

from __future__ import annotations

import math

import pytest

from spinney.core.champions.held_out_evidence import HeldOutEvidence
from spinney.core.champions.paired_test import PairedDifference


@pytest.mark.parametrize(("share", "words"), [(0.6, "better with 60 %"), (0.45, "worse with 55 %")])
def test_the_more_likely_of_better_and_worse_is_said(share: float, words: str) -> None:
    # Two rows have one degree of freedom, Cauchy's distribution: the quantile of a share is tan(π · (share − 1/2)).
    mean = -math.tan(math.pi * (share - 0.5))
    found = HeldOutEvidence(2, 3.0 + mean, 3.0, PairedDifference(mean, 1.0, 2))
    assert found.describe("").endswith(f"; {words} confidence)")


def test_without_a_standard_error_the_measured_losses_are_certain() -> None:
    assert HeldOutEvidence(1, 1.0, 1.0, None).confidence_within(0.0) == 1.0
    assert HeldOutEvidence(1, 1.1, 1.0, None).confidence_within(0.0) == 0.0
    assert HeldOutEvidence(1, 1.1, 1.0, None).confidence_within(0.2) == 1.0


def test_a_difference_of_rounding_on_every_row_is_within_the_margin() -> None:
    tie, more = (HeldOutEvidence(30, 1.0, 1.0, PairedDifference(mean, 0.0, 30)) for mean in (1e-10, 1e-8))
    assert (tie.confidence_within(0.0), more.confidence_within(0.0)) == (1.0, 0.0)


def test_only_a_mean_of_the_other_sign_says_that_extreme_rows_were_left_out() -> None:
    """The winsorised mean is below 0."""
    without = " without the most extreme rows)"
    difference = PairedDifference(-0.5, 0.1, 40)
    assert not HeldOutEvidence(40, 1.0, 1.0, difference).describe("").endswith(without)
    assert not HeldOutEvidence(40, 0.9, 1.0, difference).describe("").endswith(without)
    assert HeldOutEvidence(40, 1.1, 1.0, difference).describe("").endswith(without)
