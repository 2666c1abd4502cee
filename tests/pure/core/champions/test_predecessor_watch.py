"""When a champion is withdrawn for the model it replaced, and what a challenger owes that model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from schemas.vocabulary import Decision
from spinney.core.champions.gate import decide
from spinney.core.champions.predecessor_watch import PredecessorEvidence, level_of_look, reason_to_withdraw
from spinney.core.champions.symmetry_test import cut_differences
from tests.pure.core.champions.test_gate import Gate, paired

DAY = 86_400_000_000
Rows = npt.NDArray[np.float64]


def watched(rows: int, champion: float, predecessor: float, error: float, difference: float | None = None) -> Any:
    found = champion - predecessor if difference is None else difference
    return {
        "predecessor_id": "p", "watched_rows": rows, "watched_champion_loss": champion, "predecessor_loss": predecessor,
        "watched_difference": found, "watched_difference_se": error,
    }  # fmt: skip


def against(rows: int, mine: float, theirs: float, error: float) -> dict[str, Any]:
    values = {"rows": rows, "challenger_loss": mine, "predecessor_loss": theirs}
    return {"against_predecessor": values | {"difference": mine - theirs, "difference_se": error}}


def test_a_look_has_the_share_of_patience_that_has_passed_and_one_percent_at_most() -> None:
    assert level_of_look(2 * DAY, 365 * DAY) == pytest.approx(2 / 365)
    assert level_of_look(60 * DAY, 365 * DAY) == 0.01
    assert level_of_look(-DAY, 365 * DAY) == 0


def test_a_champion_that_is_clearly_worse_is_withdrawn_and_the_reason_has_the_numbers() -> None:
    # Σd = 80, Σd² = 40·39·0.25² + 40·2² = 257.5, so x = 80 ÷ √257.5 = 4.99 and c (1 - Φ(x)) = 9.8e-7.
    numbers = watched(40, 9.0, 7.0, 0.25)
    assert reason_to_withdraw(numbers, 0.005) == (
        "worse than the model it replaced: loss 9 against its predecessor's 7 on 40 rows newer than both (chance under "
        "0.0001 % if it were as good), 0.5 % allowed"
    )


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param({}, id="without a predecessor"),
        pytest.param(watched(40, 7.0, 9.0, 0.25), id="better"),
        pytest.param(watched(7, 9.0, 7.0, 0.0), id="worse on each of seven rows: chance of that is 1.3 %"),
        pytest.param(watched(40, 9.0, 7.0, 1.0), id="not clearly worse"),
        pytest.param(watched(1, 9.0, 7.0, 0.0) | {"watched_difference_se": None}, id="on one row"),
        pytest.param(watched(40, 9.0 + 1e-15, 9.0, 1e-17, 1e-15), id="the same model, computed in another way"),
        pytest.param(watched(40, math.inf, 9.0, 1.0), id="a loss that is not finite"),
    ],
)
def test_a_champion_stays_that_is(numbers: dict[str, Any]) -> None:
    assert reason_to_withdraw(numbers, 0.01) is None


def test_a_champion_with_the_lower_mean_loss_stays_though_it_is_a_little_worse_on_most_rows() -> None:
    differences = np.array([0.1] * 96 + [-10.0] * 4)  # it avoids four great errors
    mean, error = cut_differences(differences, np.array([100]))
    metrics = watched(100, 1.098, 1.4, float(error[0]), float(mean[0]))
    assert mean[0] > 0
    assert reason_to_withdraw(metrics, 0.01) is None
    assert reason_to_withdraw(watched(100, 1.5, 1.4, float(error[0]), float(mean[0])), 0.01) is not None


def alternating(random: np.random.Generator, shape: tuple[int, int]) -> Rows:
    """Two constants: each row differs by as much."""
    return random.choice([-1.0, 1.0], shape)


def heavy_tailed(random: np.random.Generator, shape: tuple[int, int]) -> Rows:
    """Two models with independent t3 errors, absolute loss."""
    return np.abs(random.standard_t(3, shape)) - np.abs(random.standard_t(3, shape))


def normal(random: np.random.Generator, shape: tuple[int, int]) -> Rows:
    return random.normal(size=shape)


@pytest.mark.parametrize("draw", [alternating, heavy_tailed, normal])
@pytest.mark.parametrize("rows", [12, 40])
def test_of_looks_at_equally_good_models_no_more_withdraw_than_the_level_says(
    draw: Callable[[np.random.Generator, tuple[int, int]], Rows], rows: int
) -> None:
    looks, level = 8_000, 0.001
    differences = draw(np.random.default_rng(11), (looks, rows))
    means, errors = cut_differences(differences.ravel(), np.full(looks, rows))
    evidence = (watched(rows, 5.0, 5.0, error, mean) for mean, error in zip(means, errors, strict=True))
    withdrawn = sum(reason_to_withdraw(each, level) is not None for each in evidence)
    # A t-test withdraws 0.3 % of the champions whose 12 differences are of one size (13 of 4096 assignments of signs).
    assert withdrawn <= looks * level + 3 * math.sqrt(looks * level)


def test_a_champion_that_is_worse_by_a_standard_deviation_is_withdrawn_on_forty_rows() -> None:
    looks, rows = 2_000, 40
    differences = np.random.default_rng(12).normal(1.0, 1.0, (looks, rows))
    means, errors = cut_differences(differences.ravel(), np.full(looks, rows))
    evidence = (watched(rows, 6.0, 5.0, error, mean) for mean, error in zip(means, errors, strict=True))
    assert sum(reason_to_withdraw(each, 1 / 365) is not None for each in evidence) >= 0.95 * looks


BAD_CHAMPION, LEVEL = watched(40, 9.0, 7.0, 0.5), 0.005
"""Its chance is 0.1 %, so it would be withdrawn."""

GATE = Gate()


def test_a_challenger_that_only_beats_a_bad_champion_is_refused() -> None:
    decision, reason, _ = decide(
        paired(40, 8.0, 9.0, 0.1) | BAD_CHAMPION | against(40, 8.0, 7.0, 0.2), Gate(), watch_level=LEVEL
    )
    assert decision is Decision.REFUSED
    assert reason.startswith(
        "not shown to be as good as the champion's predecessor: loss 8 against the predecessor's 7 on 40 rows (14 % "
        "higher; worse with over 99 % confidence); at most 5 % worse with under 1 % confidence. The champion is worse "
        "than its predecessor: loss 9 against its predecessor's 7 on 40 rows newer than both (chance 0."
    )


def test_a_challenger_that_is_as_good_as_the_predecessor_replaces_a_bad_champion() -> None:
    decision, reason, _ = decide(
        paired(40, 7.0, 9.0, 0.1) | BAD_CHAMPION | against(40, 7.0, 7.0, 0.2), Gate(), watch_level=LEVEL
    )
    assert decision is Decision.PROMOTED
    assert reason.startswith("better: loss 7 against the champion's 9")


def test_on_thin_evidence_a_challenger_must_not_measure_worse_than_the_predecessor_of_a_bad_champion() -> None:
    thin = paired(12, 8.0, 9.0, 0.4) | BAD_CHAMPION
    assert decide(thin | against(12, 8.0, 7.0, 2.0), GATE, watch_level=LEVEL)[0] is Decision.REFUSED
    assert decide(thin | against(12, 7.2, 7.0, 2.0), GATE, watch_level=LEVEL)[0] is Decision.UNPROVEN


@pytest.mark.parametrize(("rows", "decision"), [(29, Decision.UNPROVEN), (30, Decision.REFUSED)])
def test_from_gate_evidence_rows_on_the_challenger_needs_confidence_against_the_predecessor(
    rows: int, decision: Decision
) -> None:
    """3 % worse with a standard error of 2: within the margin of 5 % with 53 % only, (0.35 - 0.2) / 2 errors."""
    thin = paired(12, 8.0, 9.0, 0.4) | BAD_CHAMPION | against(rows, 7.2, 7.0, 2.0)
    assert decide(thin, GATE, watch_level=LEVEL)[0] is decision


def test_where_the_champion_would_not_be_withdrawn_the_predecessor_has_no_say() -> None:
    unclear = watched(40, 8.0, 7.0, 0.5)  # a chance of 8.5 %
    assert (
        decide(paired(40, 8.0, 9.0, 0.1) | unclear | against(40, 8.0, 7.0, 0.2), GATE, watch_level=LEVEL)[0]
        is Decision.PROMOTED
    )


def test_evidence_of_a_fit_of_an_earlier_version_is_none() -> None:
    assert PredecessorEvidence.of_metrics({"champion_loss": 1.0}) is None
