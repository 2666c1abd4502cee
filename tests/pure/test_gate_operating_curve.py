"""The gate's operating curve, by the benchmark's own simulation with fewer comparisons and a fixed seed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from spinney.core.config import Gate

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gate.py"
sys.path.append(str(SCRIPT.parent))


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    specification = importlib.util.spec_from_file_location("gate_benchmark", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look it up
    specification.loader.exec_module(module)
    return module


def test_on_thirty_rows_of_normal_errors_most_better_challengers_and_few_worse_ones_are_promoted(benchmark) -> None:
    cells = list(benchmark.operating_curve(Gate(), comparisons=2_000, rows=(30,)))
    normal = [cell for cell in cells if cell.errors == "normal"]
    assert len(normal) == 3
    assert all(cell.better >= 0.85 and cell.worse <= 0.20 for cell in normal)
    assert all(cell.worse < cell.equal < cell.better for cell in cells)


def test_no_paired_test_is_better_than_the_most_powerful_one_which_misses_the_goal_on_independent_t3_errors(
    benchmark,
) -> None:
    found = {(row.errors, row.test): row.better for row in benchmark.power_of_tests("absolute", 2_000, (30,))}
    for errors in ("normal", "t3"):
        others = [better for (kind, test), better in found.items() if kind == errors and test != "most powerful"]
        assert max(others) <= found[errors, "most powerful"] + 0.02  # two standard errors of 2,000 comparisons
    assert found["normal", "winsorised 5 % (the gate's)"] >= 0.85
    assert 0.7 < found["t3", "most powerful"] < 0.85


def test_the_most_powerful_test_of_normal_errors_is_that_of_the_ratio_of_variances(benchmark) -> None:
    random = np.random.default_rng(5)
    champion, challenger = random.normal(size=(2, 200, 30))
    scores = benchmark.likelihood_ratio("normal", champion, challenger, (0.8, 1.2))
    ratios = (champion**2).sum(axis=1) / (challenger**2).sum(axis=1)
    assert np.corrcoef(np.argsort(np.argsort(scores)), np.argsort(np.argsort(ratios)))[0, 1] > 0.999
    in_other_unit = benchmark.likelihood_ratio("normal", 1.3 * champion, 1.3 * challenger, (0.8, 1.2))
    np.testing.assert_allclose(in_other_unit, scores, rtol=1e-3, atol=1e-3)


def test_below_the_evidence_all_but_the_clearly_worse_are_promoted(benchmark) -> None:
    (cell, *_) = benchmark.operating_curve(Gate(), comparisons=2_000, rows=(5,))
    assert (cell.better, cell.equal, cell.worse) == (1.0, 1.0, 1.0)


def test_the_default_jump_holds_wrong_labels_and_not_a_change_of_two_and_a_half_deviations(benchmark) -> None:
    cells = list(benchmark.held_shares(Gate(), groups=2_000))
    assert {cell.rows for cell in cells} == {20, 50}
    assert max(cell.held for cell in cells if cell.shift <= 2.5) < 0.01
    assert min(cell.held for cell in cells if cell.shift == 30.0) > 0.99
