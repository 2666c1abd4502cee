"""Ridge regression on standardised features, for many groups in one call.

The model is that of ``SimpleImputer(mean) → StandardScaler → Ridge(alpha)``, with weights in the last step only. Each
group's normal equations are summed about its own mean, then solved in one stacked call. Nothing is padded and each sum
runs over one group's rows only, so a group's model is the same bits whichever groups are in the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Encoder, Floats, Integers
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.training.fit_kernels import Kernel, KernelInput, KernelResult, Timer

NAME = "ridge"
TASKS = ("regression",)

CHUNK_ROWS = 16_384
"""Rows per chunk: their columns fit into the processor's cache."""


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """The kernel. params: alpha, a number not below zero, 1.0 by default."""
    del task  # there is only one
    unknown = sorted(set(params) - {"alpha"})
    alpha = params.get("alpha", 1.0)
    if unknown or isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < np.inf:
        raise ContractError(f"recipe.params of ridge: expected {{ alpha = a number not below 0 }}; got {dict(params)}")
    return StackedRidge(float(alpha))


@dataclass(frozen=True)
class StackedRidge:
    """The kernel. alpha: the penalty on the standardised coefficients, as scikit-learn's Ridge counts it."""

    alpha: float

    def fit(self, stack: KernelInput, timer: Timer) -> list[KernelResult]:
        """Fit all groups. The time is divided equally among them."""
        began = timer()
        fits: list[Model | Exception] = [ValueError("not fitted")] * len(stack)
        for part in _chunks(stack):
            for g, fitted in zip(part.groups, self._solve(part), strict=True):
                fits[g] = fitted if isinstance(fitted, Exception) else Model(part.encoders[g], fitted)
        ms = (timer() - began) * 1e3 / max(1, len(stack))
        return [KernelResult(ms, error=fit) if isinstance(fit, Exception) else KernelResult(ms, fit) for fit in fits]

    def _solve(self, part: _Chunk) -> Iterator[Linear | Exception]:
        with np.errstate(all="ignore"):  # after an overflow the model is not finite, which the caller reports
            sums = _sums(part)
            a = sums.products + self.alpha * np.eye(sums.products.shape[1])
            betas, errors = _solve_all(a, sums.moments)
            coefficients = betas / sums.scale
            intercept = sums.label_mean.copy()
            for i in range(coefficients.shape[1]):
                intercept -= coefficients[:, i] * sums.center[:, i]
        each = zip(intercept[:, None], coefficients[:, None], sums.fill, strict=True)
        for g, (own_intercept, own_coefficients, fill) in enumerate(each):
            yield errors[g] if g in errors else Linear(Link.IDENTITY, own_intercept, own_coefficients, fill)


@dataclass(frozen=True)
class _Chunk:
    """Groups whose matrices have the same width. groups: positions in the input; matrix: shape (width, n_rows)."""

    groups: list[int]
    encoders: Mapping[int, Encoder]
    matrix: Floats
    labels: Floats
    weights: Floats | None
    starts: Integers


@dataclass(frozen=True)
class _Sums:
    """Per group, of standardised columns: fill, center, scale (n, p); products (n, p, p), moments and label_mean."""

    fill: Floats
    center: Floats
    scale: Floats
    products: Floats
    moments: Floats
    label_mean: Floats


def _chunks(stack: KernelInput) -> Iterator[_Chunk]:
    encoders = _encoders(stack)
    learned = stack.columns.words  # without, all have one encoder
    widths = np.array([encoder.width for encoder in (encoders if learned else encoders[:1])], dtype=np.int64)
    widths = np.broadcast_to(widths, len(encoders))
    sizes = np.diff(stack.starts).tolist()
    for width in np.unique(widths):
        chunk: list[int] = []
        rows = 0
        for g in np.flatnonzero(widths == width).tolist():
            chunk.append(g)
            rows += sizes[g]
            if rows >= CHUNK_ROWS:
                yield _chunk(stack, encoders, chunk)
                chunk, rows = [], 0
        if chunk:
            yield _chunk(stack, encoders, chunk)


def _encoders(stack: KernelInput) -> list[Encoder]:
    if not stack.columns.words:  # nothing to learn: one for all
        return [Encoder(stack.columns.features)] * len(stack)
    return [Encoder.learn(stack.columns.take(stack.rows(g))) for g in range(len(stack))]


def _chunk(stack: KernelInput, encoders: list[Encoder], groups: list[int]) -> _Chunk:
    sizes = np.array([stack.starts[g + 1] - stack.starts[g] for g in groups])
    if groups[-1] - groups[0] + 1 == len(groups):  # neighbours
        rows: Any = slice(int(stack.starts[groups[0]]), int(stack.starts[groups[-1] + 1]))
    else:
        rows = np.concatenate([np.arange(stack.starts[g], stack.starts[g + 1]) for g in groups])
    if stack.columns.words:
        matrix = np.concatenate([encoders[g].matrix(stack.columns.take(stack.rows(g))) for g in groups])
    else:
        matrix = stack.columns.numbers[rows]
    return _Chunk(
        groups,
        {g: encoders[g] for g in groups},
        np.ascontiguousarray(matrix.T),
        stack.labels[rows],
        None if stack.weights is None else stack.weights[rows],
        np.concatenate([[0], np.cumsum(sizes)]),
    )


def _sums(part: _Chunk) -> _Sums:
    width, sizes = len(part.matrix), np.diff(part.starts)
    of_row = np.repeat(np.arange(len(sizes)), sizes)

    def per_group(values: Floats) -> Floats:
        return np.add.reduceat(values, part.starts[:-1])

    weights = part.weights
    total = sizes.astype(np.float64) if weights is None else per_group(weights)
    label_mean = per_group(part.labels if weights is None else weights * part.labels) / total
    labels = part.labels - label_mean[of_row]
    fill, center, scale = (np.empty((len(sizes), width)) for _ in range(3))
    columns = []
    for i, column in enumerate(part.matrix):
        filled, fill[:, i] = _fill_column(column, sizes, of_row, per_group)
        mean = per_group(filled) / sizes
        apart = filled - mean[of_row]
        scale[:, i] = _scale(per_group(apart * apart) / sizes, mean, sizes)
        standard = apart / scale[:, i][of_row]
        weighted_mean = per_group(standard if weights is None else weights * standard) / total
        center[:, i] = mean + weighted_mean * scale[:, i]
        columns.append(standard - weighted_mean[of_row])
    products, moments = np.empty((len(sizes), width, width)), np.empty((len(sizes), width))
    for i, standard in enumerate(columns):
        weighted = standard if weights is None else weights * standard
        moments[:, i] = per_group(weighted * labels)
        for j in range(i + 1):
            products[:, i, j] = products[:, j, i] = per_group(weighted * columns[j])
    return _Sums(fill, center, scale, products, moments, label_mean)


def _fill_column(
    column: Floats, sizes: Integers, of_row: Integers, per_group: Callable[[Floats], Floats]
) -> tuple[Floats, Floats]:
    """The column with missing values replaced by the group's mean, and that mean; 0 if all are missing."""
    missing = np.isnan(column)
    known_values = np.where(missing, 0.0, column)
    present = sizes - per_group(missing.astype(np.float64))
    fill = per_group(known_values) / np.maximum(present, 1.0)
    return np.where(missing, fill[of_row], column), fill


def _scale(variance: Floats, mean: Floats, sizes: Integers) -> Floats:
    """Standard deviations; 1 for a column that is constant up to rounding, by the bound of scikit-learn."""
    eps = np.finfo(np.float64).eps
    is_constant = variance <= sizes * eps * variance + (sizes * mean * eps) ** 2
    return np.where(is_constant, 1.0, np.sqrt(variance))


def _solve_all(a: Floats, b: Floats) -> tuple[Floats, dict[int, Exception]]:
    """Solve each system. If one is singular, solve one by one, and the singular ones by least squares."""
    try:
        return _solve(a, b), {}
    except np.linalg.LinAlgError:
        out = np.full_like(b, np.nan)
    errors: dict[int, Exception] = {}
    for g in range(len(a)):
        try:
            out[g] = _solve_one(a[g], b[g])
        except np.linalg.LinAlgError as error:
            errors[g] = error
    return out, errors


def _solve(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.linalg.solve(a, b[..., None])[..., 0], dtype=np.float64)


def _solve_one(a: Floats, b: Floats) -> Floats:
    try:
        solution: Floats = _solve(a[None], b[None])[0]
        return solution
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(a, b)[0], dtype=np.float64)
