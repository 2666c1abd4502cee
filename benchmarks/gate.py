"""The operating curve of the gate: how often it promotes challengers that are better, equal and worse than champions.

Errors of both models are simulated on the same held-out rows. Of the correlation, a part is the noise of the labels,
which both miss alike. The challenger's errors are those of an equal model times the ratio, so its mean absolute loss is
0.8, 1.0 or 1.2 times the champion's; for the squared loss, times the ratio's root. Every comparison is decided by
`spinney.core.champions.gate.decide`. Also: how often a group that changed, or whose labels went wrong, is held by
`gate.jump`. Run: ``python benchmarks/gate.py [--loss squared] [--json]``

``--tests`` compares other paired tests, and the most powerful one, where both models err independently: how many of the
better challengers each promotes if 20 % of the worse ones are promoted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from harness.gate_tests import TESTS, better_promoted, likelihood_ratio

from spinney.core.champions.gate import decide
from spinney.core.champions.paired_test import winsorized_differences
from spinney.core.champions.promotion import PROMOTING_DECISIONS
from spinney.core.config import Gate
from spinney.core.training.comparisons.prediction_jump import prediction_jumps

Floats = npt.NDArray[np.float64]

COMPARISONS = 50_000
ROWS = (5, 10, 30, 100)
RATIOS = (0.8, 1.0, 1.2)
SHARE_OF_WORSE = 0.2
CORRELATIONS = (0.0, 0.5, 0.9)
ERRORS = ("normal", "t3")
SHIFTS = (0.0, 1.0, 2.5, 5.0, 15.0, 30.0)
"""Shifts of all labels in standard deviations of the residuals. 2.5: as 25 minutes on a route that varies by 10."""


@dataclass(frozen=True)
class Promoted:
    """One cell: the shares of the challengers of each ratio of losses that are promoted."""

    errors: str
    correlation: float
    rows: int
    better: float
    equal: float
    worse: float


@dataclass(frozen=True)
class Held:
    """The share of groups held by the default of `gate.jump` after a shift of all labels, in standard deviations."""

    errors: str
    rows: int
    shift: float
    held: float


def paired_errors(random: np.random.Generator, kind: str, correlation: float, shape: tuple[int, int]) -> list[Floats]:
    """Errors of two equal models with this correlation: a common part and one of each model's own."""
    draw = partial(random.standard_t, 3) if kind == "t3" else random.standard_normal
    common = np.sqrt(correlation) * draw(size=shape) if correlation else np.zeros(shape)
    return [common + np.sqrt(1 - correlation) * draw(size=shape) for _ in range(2)]


def promoted_share(champion: Floats, challenger: Floats, gate: Gate) -> float:
    """The share of the comparisons in which the challenger is promoted. Losses: shape (comparisons, rows)."""
    comparisons, rows = champion.shape
    means, errors = winsorized_differences((challenger - champion).ravel(), np.full(comparisons, rows))
    columns = zip(*(values.tolist() for values in (challenger.mean(1), champion.mean(1), means, errors)), strict=True)
    names = ("challenger_loss", "champion_loss", "champion_difference", "champion_difference_se")
    fixed = {"heldout_rows": rows, "champion_id": "champion"}
    decided = (decide(fixed | dict(zip(names, values, strict=True)), gate)[0] for values in columns)
    return sum(decision in PROMOTING_DECISIONS for decision in decided) / comparisons


def operating_curve(
    gate: Gate, comparisons: int = COMPARISONS, rows: tuple[int, ...] = ROWS, loss: str = "absolute", seed: int = 31
) -> Iterator[Promoted]:
    """The cells of the curve. Cells of fewer rows use the first rows of the others."""
    random = np.random.default_rng(seed)
    for kind in ERRORS:
        for correlation in CORRELATIONS:
            pair = paired_errors(random, kind, correlation, (comparisons, max(rows)))
            champion, equal = (np.abs(errors) if loss == "absolute" else errors**2 for errors in pair)
            for size in rows:
                shares = [promoted_share(champion[:, :size], equal[:, :size] * ratio, gate) for ratio in RATIOS]
                yield Promoted(kind, correlation, size, *shares)


@dataclass(frozen=True)
class Power:
    """The share of better challengers that a test promotes where it promotes SHARE_OF_WORSE of the worse ones."""

    test: str
    errors: str
    rows: int
    better: float


def power_of_tests(
    loss: str, comparisons: int = COMPARISONS, rows: tuple[int, ...] = (30, 100), seed: int = 33
) -> Iterator[Power]:
    """How other paired tests do on rows that both models miss independently, and the most powerful test."""
    random = np.random.default_rng(seed)
    power = 1 if loss == "absolute" else 2
    scales = RATIOS[0] ** (1 / power), RATIOS[2] ** (1 / power)
    for kind in ERRORS:
        champion, equal = paired_errors(random, kind, 0.0, (comparisons, max(rows)))
        for size in rows:
            one, challengers = champion[:, :size], [equal[:, :size] * scale for scale in scales]
            for name, test in TESTS.items():
                scores = [test(np.abs(one) ** power, np.abs(other) ** power) for other in challengers]
                yield Power(name, kind, size, better_promoted(*scores, SHARE_OF_WORSE))
            scores = [likelihood_ratio(kind, one, other, scales) for other in challengers]
            yield Power("most powerful", kind, size, better_promoted(*scores, SHARE_OF_WORSE))


def held_shares(gate: Gate, groups: int = COMPARISONS, seed: int = 32) -> Iterator[Held]:
    """How often a challenger that has learned a shift of all labels is held, by rows and errors."""
    random = np.random.default_rng(seed)
    for kind in ERRORS:
        for rows in (20, 50):
            noise = (
                (random.standard_t(3, (groups, rows)) / np.sqrt(3))
                if kind == "t3"
                else random.normal(size=(groups, rows))
            )
            learned = random.normal(size=(groups, 1)) / np.sqrt(4 * rows)  # four times as many rows are fitted
            counts, spreads = np.full(groups, rows), np.full(groups, 5.0)
            for shift in SHIFTS:
                steps = np.broadcast_to(shift + learned, noise.shape)
                jumps = prediction_jumps((noise + shift).ravel(), steps.ravel(), counts, spreads)
                yield Held(kind, rows, shift, float(np.mean(jumps > gate.jump)))


def main() -> None:
    """Run the simulation and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=COMPARISONS)
    parser.add_argument("--loss", choices=["absolute", "squared"], default="absolute")
    parser.add_argument("--margin", type=float, default=Gate().margin)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tests", action="store_true", help="compare other paired tests instead")
    asked = parser.parse_args()
    if asked.tests:
        print("| test | errors | rows | better ones promoted |\n|---|---|---|---|")
        for row in power_of_tests(asked.loss, asked.comparisons):
            print(f"| {row.test} | {row.errors} | {row.rows} | {row.better:.1%} |", flush=True)
        return
    gate = Gate(margin=asked.margin)
    curve = operating_curve(gate, asked.comparisons, loss=asked.loss)
    held = held_shares(gate, asked.comparisons)
    if asked.json:
        print(json.dumps({"curve": [asdict(cell) for cell in curve], "held": [asdict(cell) for cell in held]}))
        return
    print(f"| errors | correlation | rows | {' | '.join(f'{ratio - 1:+.0%}' for ratio in RATIOS)} |")
    print("|---|---|---|---|---|---|")
    for cell in curve:
        shares = " | ".join(f"{share:.1%}" for share in (cell.better, cell.equal, cell.worse))
        print(f"| {cell.errors} | {cell.correlation} | {cell.rows} | {shares} |", flush=True)
    print("\n| errors | rows | shift | held |\n|---|---|---|---|")
    for row in held:
        print(f"| {row.errors} | {row.rows} | {row.shift:g} | {row.held:.2%} |")


if __name__ == "__main__":
    main()
