"""Partial pooling with weights that are estimated from the fleet's own rows, and intercepts that fit the fleet's loss.

The last of the parents estimates how much the parents and groups below it differ (`group_variances`) and stores that
with its model. The next parent is shrunk toward it, keeps the variances below itself, and so on down to the groups. So
a group's coefficients are the posterior mean under a normal prior whose mean is its parent's model (D. V. Lindley and
A. F. M. Smith, Bayes estimates for the linear model, J. R. Statist. Soc. B 34, 1972), with variances by empirical Bayes
(B. Efron and C. Morris, Data analysis using Stein's estimator and its generalizations, J. Am. Statist. Ass. 70, 1975).
Groups that do not differ get the same answers as their parent; a group that differs needs only a few rows to show it.

The rows of one day share an effect, so they count less than as many rows on several days (`day_effects`).

For the absolute loss a group's intercept is a shrunk median of its residuals, not a mean: least squares predicts means,
which are poor answers if errors are skewed. The last parent is then fitted by least absolute deviations, and slopes and
variances are estimated from clipped residuals (`absolute_errors`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from spinney.core.features.encoding import Floats
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.training.fit_kernels import KernelInput
from spinney.core.training.pooling.absolute_errors import least_absolute, shrunk_medians, weighted_medians
from spinney.core.training.pooling.day_effects import weigh_days
from spinney.core.training.pooling.group_variances import DAY, SHIFT, estimate_variances, own_share, shrunk_slopes
from spinney.core.training.pooling.normal_equations import Chunk
from spinney.core.training.pooling.parent_priors import Priors, Residuals, rungs_below


def solve_estimated(part: Chunk, priors: Priors, rungs: Sequence[int], loss: str) -> Iterator[Linear | Exception]:
    """Fit the groups and parents of a chunk.

    priors: the parents' models. rungs: for each of them the number of rungs of the ladder below it; 0 for a group.
    loss: the fleet's.
    """
    split = [_split(variances, below) for variances, below in zip(priors.variances, rungs, strict=True)]
    above = np.array([of_group for of_group, _ in split])
    with np.errstate(all="ignore"):  # after an overflow the model is not finite, which the caller reports
        residuals = Residuals.of(weigh_days(part, above[:, DAY]), priors)
        sums = residuals.sums
        slopes, errors = residuals.slopes(lambda sums: shrunk_slopes(sums, above), loss)
        if loss == "absolute":
            shift = shrunk_medians(residuals.unexplained(slopes), residuals.part.weights, part.starts, above[:, SHIFT])
        else:
            shift = sums.label_mean * own_share(sums.total_weight, above)
        intercept = priors.intercept + shift
        for i in range(slopes.shape[1]):
            intercept -= slopes[:, i] * sums.center[:, i]
        coefficients = priors.coefficients + slopes
    for g, (_, below) in enumerate(split):
        if g in errors:
            yield errors[g]
        else:
            of_group = intercept[g : g + 1], coefficients[g : g + 1], residuals.fill[g]
            yield Linear(Link.IDENTITY, *of_group, below, residuals.limits[g])


def for_groups(stack: KernelInput, g: int, model: Model, alpha: float) -> Model:
    """Return the model of a group or parent without a prior, in the form that the groups below it are pooled with.

    Its intercept fits the fleet's loss, and so do the coefficients of a parent. The model of a parent holds the
    variances of the groups below it. alpha: the penalty that the model was fitted with.
    """
    rows, linear, below = stack.rows(g), model.estimator, rungs_below(stack, g)
    labels, weights = stack.labels[rows], None if stack.weights is None else stack.weights[rows]
    is_absolute = stack.loss == "absolute"
    matrix = model.encoder.matrix(stack.columns.take(rows)).T
    filled = np.where(np.isnan(matrix), linear.fill[:, None], matrix)
    with np.errstate(all="ignore"):
        residuals = _residuals(linear, filled, labels)
        if is_absolute and below and np.isfinite(residuals).all() and residuals.any():
            found = least_absolute(filled, labels, weights, alpha, residuals)
            if found is not None:
                linear = replace(linear, intercept=np.array([found[0]]), coefficients=found[1][None])
                residuals = _residuals(linear, filled, labels)
        if is_absolute:
            shift = weighted_medians(residuals, weights, np.array([0, len(residuals)]))
            linear, residuals = replace(linear, intercept=linear.intercept + shift), residuals - shift
    if below and stack.lineage is not None and np.isfinite(residuals).all():
        lineage, days = stack.lineage[rows, :below], None if stack.days is None else stack.days[rows]
        variances = estimate_variances(filled, residuals, lineage, days, has_outliers=is_absolute)
        linear = replace(linear, group_variances=variances)
    return replace(model, estimator=linear)


def _residuals(linear: Linear, matrix: Floats, labels: Floats) -> Floats:
    residuals: Floats = labels - linear.intercept[0]
    for weight, column in zip(linear.coefficients[0], matrix, strict=True):
        residuals -= weight * column
    return residuals


def _split(variances: Floats | None, below: int) -> tuple[Floats, Floats | None]:
    """Return the variances of a group's deviations from its prior, added up over the rungs between them (DAY is that of
    its own rung), and the variances of the rungs below the group.
    """
    if variances is None or len(variances) <= below:
        raise AssertionError("a prior without the variances of the rungs below it")
    between = len(variances) - below
    above = variances[:between].sum(axis=0)
    above[DAY] = variances[between - 1, DAY]
    return above, variances[between:] if below else None
