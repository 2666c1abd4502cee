from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from spinney.core.champions.promotion import CHAMPION_COLUMNS
from spinney.core.reporting.champion_age import champion_ages, clock_at

HOUR = 3_600_000_000


def decided(
    key: str, at: int, model_id: str, through: int, decision: str = "promoted", epoch: int = 0
) -> dict[str, Any]:
    times = {"decided_at": at * HOUR, "trained_through": through * HOUR, "fitted_at": at * HOUR}
    return {"group_key": key, "epoch": epoch, "model_id": model_id, "decision": decision, "round_id": "r", **times}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.table({name: [row[name] for row in rows] for name in CHAMPION_COLUMNS})


def test_an_age_is_that_of_the_champion_at_the_moment_by_the_clock_of_the_moment() -> None:
    rows = table(
        decided("a", 10, "a1", 8),
        decided("a", 20, "a2", 19),
        decided("b", 15, "b1", 12),
        decided("b", 20, "b2", 18, decision="refused"),
    )
    moments = np.array([5, 10, 16, 20]) * HOUR
    ages = champion_ages(rows, moments, moments + HOUR)
    assert [sorted(found.tolist()) for found in ages] == [[], [3 * 3600], [5 * 3600, 9 * 3600], [2 * 3600, 9 * 3600]]


def test_a_pinned_model_ages_although_a_newer_one_was_fitted() -> None:
    rows = table(
        decided("a", 10, "a1", 9),
        decided("a", 20, "a2", 19),
        decided("a", 21, "a1", 9, decision="pinned", epoch=1),
    )
    (age,) = champion_ages(rows, np.array([30 * HOUR]), np.array([29 * HOUR]))
    assert age.tolist() == [20 * 3600]


def test_no_age_is_negative_when_the_clock_stands_still() -> None:
    (age,) = champion_ages(table(decided("a", 10, "a1", 12)), np.array([10 * HOUR]), np.array([11 * HOUR]))
    assert age.tolist() == [0]


def test_the_clock_of_a_moment_is_the_greatest_that_had_been_seen() -> None:
    seen_at, clock = np.array([30, 10, 20]), np.array([6, 5, 9])
    assert clock_at(np.array([5, 10, 19, 20, 35]), seen_at, clock).tolist() == [5, 5, 5, 9, 9]
