"""Paired tests that the gate could decide by, and what no test can exceed.

Each takes the losses of champion and challenger on the same rows, shape (comparisons, rows), and returns a score per
comparison: the higher, the better the challenger.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from spinney.core.champions.paired_test import winsorized_differences
from spinney.core.champions.symmetry_test import cut_differences

Floats = npt.NDArray[np.float64]
Score = Callable[[Floats, Floats], Floats]

LOG_DENSITIES: dict[str, Callable[[Floats], Floats]] = {
    "normal": lambda errors: -(errors**2) / 2,
    "t3": lambda errors: -2 * np.log1p(errors**2 / 3),
}
"""Of an error, without its constant."""

_LOG_SCALES = np.linspace(-1.5, 1.5, 41)
_BLOCK = 2_000


def winsorised(champion: Floats, challenger: Floats) -> Floats:
    """The gate's: mean difference / standard error, with 5 % of the differences winsorised at each end."""
    return _studentized(winsorized_differences, champion, challenger)


def cut(champion: Floats, challenger: Floats) -> Floats:
    """The watch's: mean difference / standard error, with the 5 % largest sizes of differences cut."""
    return _studentized(cut_differences, champion, challenger)


def _studentized(of: Callable[..., tuple[Floats, Floats]], champion: Floats, challenger: Floats) -> Floats:
    comparisons, rows = champion.shape
    means, errors = of((champion - challenger).ravel(), np.full(comparisons, rows))
    return means / errors


def signed_ranks(champion: Floats, challenger: Floats) -> Floats:
    """Wilcoxon's: the sum of the ranks of the sizes of differences, with their signs."""
    differences = champion - challenger
    return (np.sign(differences) * rankdata(np.abs(differences), axis=1)).sum(axis=1)


def signs(champion: Floats, challenger: Floats) -> Floats:
    """The number of rows on which the challenger is better."""
    return (champion > challenger).sum(axis=1).astype(np.float64)


def log_ratios(champion: Floats, challenger: Floats) -> Floats:
    """The mean of the logarithms of the ratios of losses."""
    ratios: Floats = np.log(champion / challenger).mean(axis=1)
    return ratios


TESTS: dict[str, Score] = {
    "winsorised 5 % (the gate's)": winsorised,
    "sizes cut at 95 % (the watch's)": cut,
    "signed ranks": signed_ranks,
    "signs": signs,
    "mean log ratio": log_ratios,
}


def likelihood_ratio(errors: str, champion: Floats, challenger: Floats, ratios: tuple[float, float]) -> Floats:
    """The score of the most powerful test that does not depend on the unit of the target.

    It knows the distribution of the errors, and that the models err independently. champion, challenger: errors.
    ratios: of the challenger's scale to the champion's, where it is better and where it is worse.

    The scale of the errors is integrated out with its invariant measure. By Neyman and Pearson's lemma no test of
    equal invariance promotes more of the better challengers at any share of the worse (E. L. Lehmann and J. P. Romano,
    "Testing statistical hypotheses", 2005, chapter 6).
    """
    better, worse = (_log_marginal(errors, champion, challenger, ratio) for ratio in ratios)
    return better - worse


def _log_marginal(errors: str, champion: Floats, challenger: Floats, ratio: float) -> Floats:
    rows, scaled = champion.shape[1], challenger / ratio
    both = np.concatenate([champion, scaled], axis=1)
    found = np.empty((len(both), len(_LOG_SCALES)))
    for begin in range(0, len(both), _BLOCK):
        block = both[begin : begin + _BLOCK]
        for at, log_scale in enumerate(_LOG_SCALES):
            found[begin : begin + _BLOCK, at] = LOG_DENSITIES[errors](block / np.exp(log_scale)).sum(axis=1)
    found -= 2 * rows * _LOG_SCALES
    highest = found.max(axis=1, keepdims=True)
    marginal: Floats = highest[:, 0] + np.log(np.exp(found - highest).sum(axis=1)) - rows * np.log(ratio)
    return marginal


def better_promoted(better: Floats, worse: Floats, share_of_worse: float) -> float:
    """The share of better challengers above the score that this share of worse ones exceeds; half of ties count."""
    limit = np.quantile(worse, 1 - share_of_worse, method="higher")
    above, tied = (worse > limit).mean(), (worse == limit).mean()
    part = (share_of_worse - above) / tied
    return float((better > limit).mean() + part * (better == limit).mean())
