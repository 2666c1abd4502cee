"""Normal equations of many groups' standardised features, summed and solved together.

Nothing is padded and each sum runs over one group's rows only, so a group's numbers are the same bits whichever groups
are in the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinney.core.features.encoding import Encoder, Floats, Integers
from spinney.core.training.fit_kernels import KernelInput

OUTSIDE = 10.0
"""A value that is farther outside the rows of a group than this many times their range counts as one at that distance.
A slope that was fitted to a narrow range is worth nothing there: of 239,414 predictions of flights by aircraft five had
91 % of the squared loss.
"""

CHUNK_ROWS = 16_384
"""Rows per chunk: their columns fit into the processor's cache."""


@dataclass(frozen=True)
class Chunk:
    """Groups whose matrices have the same width. groups: positions in the input; matrix: shape (width, n_rows). days:
    as in `KernelInput`.
    """

    groups: list[int]
    encoders: Mapping[int, Encoder]
    matrix: Floats
    labels: Floats
    weights: Floats | None
    starts: Integers
    days: Integers | None = None


@dataclass(frozen=True)
class NormalEquations:
    """Per group, of standardised columns: fill, center, scale (n, p); products (n, p, p), moments (n, p).

    fill: values that replace missing ones. label_mean: weighted mean of the labels, (n,). total_weight: sum of the
    weights, (n,).
    """

    fill: Floats
    center: Floats
    scale: Floats
    products: Floats
    moments: Floats
    label_mean: Floats
    total_weight: Floats


def chunks(stack: KernelInput, groups: Sequence[int], encoders: Sequence[Encoder]) -> Iterator[Chunk]:
    """Cut groups into chunks of about CHUNK_ROWS rows, of one width each. encoders: of all groups of the input."""
    learned = stack.columns.words  # without, all have one encoder
    widths = np.array([encoders[g].width for g in (groups if learned else groups[:1])], dtype=np.int64)
    widths = np.broadcast_to(widths, len(groups))
    sizes = np.diff(stack.starts).tolist()
    for width in np.unique(widths):
        chunk: list[int] = []
        rows = 0
        for index in np.flatnonzero(widths == width).tolist():
            g = groups[index]
            chunk.append(g)
            rows += sizes[g]
            if rows >= CHUNK_ROWS:
                yield _chunk(stack, encoders, chunk)
                chunk, rows = [], 0
        if chunk:
            yield _chunk(stack, encoders, chunk)


def column_limits(part: Chunk) -> Floats:
    """Return how far the columns of each group may extrapolate, shape (n_groups, 2, width): OUTSIDE times the range of
    its rows below the least and above the greatest value. Not limited where a column has no value.
    """
    limits = np.empty((len(part.starts) - 1, 2, len(part.matrix)))
    for i, column in enumerate(part.matrix):
        low, high = np.fmin.reduceat(column, part.starts[:-1]), np.fmax.reduceat(column, part.starts[:-1])
        reach = OUTSIDE * (high - low)
        limits[:, 0, i] = np.where(np.isnan(low), -np.inf, low - reach)
        limits[:, 1, i] = np.where(np.isnan(high), np.inf, high + reach)
    return limits


def learn_encoders(stack: KernelInput) -> list[Encoder]:
    """Return the encoder of each group."""
    if not stack.columns.words:  # nothing to learn: one for all
        return [Encoder(stack.columns.features)] * len(stack)
    return [Encoder.learn(stack.columns.take(stack.rows(g))) for g in range(len(stack))]


def _chunk(stack: KernelInput, encoders: Sequence[Encoder], groups: list[int]) -> Chunk:
    sizes = np.array([stack.starts[g + 1] - stack.starts[g] for g in groups])
    if groups[-1] - groups[0] + 1 == len(groups):  # neighbours
        rows: Any = slice(int(stack.starts[groups[0]]), int(stack.starts[groups[-1] + 1]))
    else:
        rows = np.concatenate([np.arange(stack.starts[g], stack.starts[g + 1]) for g in groups])
    if stack.columns.words:
        matrix = np.concatenate([encoders[g].matrix(stack.columns.take(stack.rows(g))) for g in groups])
    else:
        matrix = stack.columns.numbers[rows]
    return Chunk(
        groups,
        {g: encoders[g] for g in groups},
        np.ascontiguousarray(matrix.T),
        stack.labels[rows],
        None if stack.weights is None else stack.weights[rows],
        np.concatenate([[0], np.cumsum(sizes)]),
        None if stack.days is None else stack.days[rows],
    )


@dataclass(frozen=True)
class Standardised:
    """A chunk's columns on the scale of each group: of mean 0 by the weights, and of standard deviation 1 without them.

    columns: one array of n_rows for each. weighted: the same times the weights. fill, center, scale: as in
    `NormalEquations`. of_row: position of each row's group. total_weight: shape (n,).
    """

    part: Chunk
    columns: Sequence[Floats]
    weighted: Sequence[Floats]
    fill: Floats
    center: Floats
    scale: Floats
    of_row: Integers
    total_weight: Floats

    @classmethod
    def of(cls, part: Chunk) -> Standardised:
        """Standardise the columns of each group about its own mean."""
        sizes, weights = np.diff(part.starts), part.weights
        of_row = np.repeat(np.arange(len(sizes)), sizes)

        def per_group(values: Floats) -> Floats:
            return np.add.reduceat(values, part.starts[:-1])

        total = sizes.astype(np.float64) if weights is None else per_group(weights)
        fill, center, scale = (np.empty((len(sizes), len(part.matrix))) for _ in range(3))
        columns = []
        for i, column in enumerate(part.matrix):
            filled, fill[:, i] = fill_column(column, sizes, of_row, per_group)
            mean = per_group(filled) / sizes
            apart = filled - mean[of_row]
            scale[:, i] = _scale(per_group(apart * apart) / sizes, mean, sizes)
            standard = apart / scale[:, i][of_row]
            weighted_mean = per_group(standard if weights is None else weights * standard) / total
            center[:, i] = mean + weighted_mean * scale[:, i]
            columns.append(standard - weighted_mean[of_row])
        weighted = columns if weights is None else [weights * column for column in columns]
        return cls(part, columns, weighted, fill, center, scale, of_row, total)

    def sums(self, values: Floats) -> Floats:
        """Return the sum of each group's values, shape (n,)."""
        return np.add.reduceat(values, self.part.starts[:-1])

    def means(self, labels: Floats) -> Floats:
        """Return each group's mean label by the weights, shape (n,)."""
        weights = self.part.weights
        return self.sums(labels if weights is None else weights * labels) / self.total_weight

    def products(self) -> Floats:
        """Return the sums of the products of the columns, shape (n, p, p)."""
        width = len(self.columns)
        products = np.empty((len(self.total_weight), width, width))
        for i, weighted in enumerate(self.weighted):
            for j in range(i + 1):
                products[:, i, j] = products[:, j, i] = self.sums(weighted * self.columns[j])
        return products

    def moments(self, labels: Floats) -> Floats:
        """Return the sums of the products of each column with the labels, which have mean 0, shape (n, p)."""
        moments = np.empty((len(self.total_weight), len(self.columns)))
        for i, weighted in enumerate(self.weighted):
            moments[:, i] = self.sums(weighted * labels)
        return moments

    def normal_equations(self) -> NormalEquations:
        """Return the normal equations of the chunk's labels."""
        labels = self.part.labels
        label_mean = self.means(labels)
        moments = self.moments(labels - label_mean[self.of_row])
        of_columns = self.fill, self.center, self.scale, self.products()
        return NormalEquations(*of_columns, moments, label_mean, self.total_weight)


def normal_equations(part: Chunk) -> NormalEquations:
    """Standardise the columns of each group about its own mean, and sum the group's normal equations."""
    return Standardised.of(part).normal_equations()


def fill_column(
    column: Floats, sizes: Integers, of_row: Integers, per_group: Callable[[Floats], Floats]
) -> tuple[Floats, Floats]:
    """Return the column with missing values replaced by the group's mean, and that mean; 0 if all are missing."""
    missing = np.isnan(column)
    known_values = np.where(missing, 0.0, column)
    present = sizes - per_group(missing.astype(np.float64))
    fill = per_group(known_values) / np.maximum(present, 1.0)
    return np.where(missing, fill[of_row], column), fill


def _scale(variance: Floats, mean: Floats, sizes: Integers) -> Floats:
    """Return standard deviations; 1 for a column that is constant up to rounding, by the
    bound that scikit-learn uses.
    """
    eps = np.finfo(np.float64).eps
    is_constant = variance <= sizes * eps * variance + (sizes * mean * eps) ** 2
    return np.where(is_constant, 1.0, np.sqrt(variance))


def solve_all(a: Floats, b: Floats) -> tuple[Floats, dict[int, Exception]]:
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
