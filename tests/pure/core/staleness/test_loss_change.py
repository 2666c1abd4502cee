"""The judge's state after a change of the loss: the same as if each row's loss had been the new one from the start."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champions.promotion import Promotion
from spinney.core.migration import LossHistory
from spinney.core.migration.loss_function_history import LossChange
from spinney.core.staleness.evidence.error_evidence import tail_index_of
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.judge import DecisionRecord, JudgeInput, JudgeSettings, ShardState, advance
from spinney.core.staleness.policies import ErrorRise, NewGroup

DAY = 86_400_000_000
HOUR = DAY // 24
START = 20_000 * DAY
CHANGED = datetime(2024, 5, 1, tzinfo=UTC)
TO_SQUARED = LossHistory("squared", (LossChange(CHANGED, "absolute", "squared"),))
TO_ABSOLUTE = LossHistory("absolute", (LossChange(CHANGED, "squared", "absolute"),))
SETTINGS = JudgeSettings((NewGroup(20), ErrorRise(timedelta(days=30))), 20, 0, 30 * DAY, is_wall_clock=False)
SQUARES = replace(SETTINGS, tail_index=tail_index_of("squared"))
A, B = '["a"]', '["b"]'
REFERENCE = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
"""Held-out losses whose squares and square roots' squares are exact."""


def champion(group: str, losses: list[float]) -> DecisionRecord:
    promotion = Promotion(0, f"m{group}", "promoted", START, START, START)
    return DecisionRecord(group, promotion, True, START, float(np.mean(losses)), 4.0, tuple(losses))


def labels(*rows: tuple[str, list[float]], at: int = START + HOUR) -> HealthRows:
    """One row of health per group and list of losses of single rows."""
    losses = np.full(len(rows), None, dtype=object)
    for place, (_, of_row) in enumerate(rows):
        losses[place] = np.array(of_row) if len(of_row) > 1 else None
    columns = {
        "group_key": np.array([group for group, _ in rows], dtype=object),
        "model_id": np.array([f"m{group}" for group, _ in rows], dtype=object),
        "labelled": np.array([len(of_row) for _, of_row in rows], dtype=np.int64),
        "loss": np.array([float(np.sum(of_row)) for _, of_row in rows], dtype=np.float64),
        "losses": losses,
        "last_event_time": np.full(len(rows), at),
    }
    return HealthRows.of_columns(columns, len(rows))


NOTHING = HealthRows.empty()


def step(shard: ShardState, settings: JudgeSettings, *decided: DecisionRecord, health: HealthRows) -> ShardState:
    return advance(shard, JudgeInput(decided, (), health), settings, START)


def begun(losses: list[float], settings: JudgeSettings = SETTINGS, power: float = 1) -> ShardState:
    """Two groups with champions, and labels of group A. power: of each absolute loss."""
    reference = [loss**power for loss in REFERENCE]
    decided = [champion(group, reference) for group in (A, B)]
    shard = step(ShardState.empty(), settings, *decided, health=NOTHING)
    for hour, loss in enumerate(losses):
        shard = step(shard, settings, health=labels((A, [loss**power]), at=START + HOUR * (1 + hour)))
    return shard


LOSSES = st.lists(st.integers(0, 64).map(lambda eighths: eighths / 8), max_size=14)


@given(LOSSES, LOSSES)
def test_the_test_of_error_rise_goes_on_as_if_the_loss_had_never_been_another(
    before: list[float], after: list[float]
) -> None:
    shard, always = begun(before), begun(before, SQUARES, power=2)
    for hour, loss in enumerate(after):
        health = labels((A, [loss**2]), at=START + DAY + HOUR * hour)
        shard = step(shard, replace(SQUARES, losses=TO_SQUARED), health=health)
        always = step(always, SQUARES, health=health)
    shard = step(shard, replace(SQUARES, losses=TO_SQUARED), health=NOTHING)
    evidence, expected = shard.encoded_evidence.value, always.encoded_evidence.value
    np.testing.assert_array_equal(evidence.sums, expected.sums)
    np.testing.assert_array_equal(shard.groups["evidence"], always.groups["evidence"])
    np.testing.assert_array_equal(evidence.samples.weights, expected.samples.weights)
    np.testing.assert_allclose(evidence.samples.values, expected.samples.values, rtol=1e-6)


CENTS = st.lists(st.sampled_from([0.1, 0.7, 1.31, 1 / 3, 13.37]), min_size=1, max_size=30)
"""Errors that repeat, whose squares and roots no float holds exactly."""


@pytest.mark.parametrize(("losses", "power"), [(TO_SQUARED, 2), (TO_ABSOLUTE, 0.5)], ids=["squared", "absolute"])
@given(before=CENTS, after=CENTS)
def test_equal_errors_before_and_after_the_change_are_ties(
    losses: LossHistory, power: float, before: list[float], after: list[float]
) -> None:
    was, now = (SETTINGS, SQUARES) if power == 2 else (SQUARES, SETTINGS)
    settings = replace(now, losses=losses)
    shard, always = begun(before, was), begun(before, now, power=power)
    for hour, loss in enumerate(after):
        health = labels((A, [loss**power]), at=START + DAY + HOUR * hour)
        shard, always = step(shard, settings, health=health), step(always, now, health=health)
    evidence, expected = shard.encoded_evidence.value, always.encoded_evidence.value
    np.testing.assert_allclose(evidence.sums, expected.sums, rtol=1e-3)


def test_means_begin_anew_and_counts_go_on() -> None:
    before = begun([1.0, 2.0, 3.0])
    shard = step(before, replace(SETTINGS, losses=TO_SQUARED), health=NOTHING)
    at = shard.groups.keys.index(A)
    assert np.isnan(shard.groups["baseline"]).all()
    assert (shard.groups["recent_weight"][at], shard.groups["recent_loss"][at]) == (0.0, 0.0)
    for name in ("champion_id", "champion_rows", "labelled", "rows_since", "attempted_at", "evidence"):
        np.testing.assert_array_equal(shard.groups[name], before.groups[name])
    assert np.isfinite(before.groups["baseline"]).all()  # the state that was given stays as it was
    shard = step(shard, replace(SQUARES, losses=TO_SQUARED), health=labels((A, [9.0]), at=START + DAY))
    assert shard.groups["recent_loss"][at] / shard.groups["recent_weight"][at] == pytest.approx(9.0)


def test_the_change_is_made_once_and_its_state_is_stored_with_the_name() -> None:
    settings = replace(SETTINGS, losses=TO_SQUARED)
    once = step(begun([1.0, 2.0]), settings, health=NOTHING)
    again = step(ShardState.from_bytes(once.to_bytes()), settings, health=NOTHING)
    assert (once.loss_name, again.loss_name) == ("squared", "squared")
    assert again.to_bytes() == once.to_bytes()


def test_changed_back_the_sample_has_the_losses_of_before() -> None:
    shard = begun([1.0, 2.5])
    squared = step(shard, replace(SQUARES, losses=TO_SQUARED), health=NOTHING)
    both = replace(TO_ABSOLUTE, changes=(*TO_SQUARED.changes, *TO_ABSOLUTE.changes))
    back = step(squared, replace(SETTINGS, losses=both), health=NOTHING)
    np.testing.assert_allclose(
        back.encoded_evidence.value.samples.values, shard.encoded_evidence.value.samples.values, rtol=1e-6
    )


@pytest.mark.parametrize(("losses", "now"), [(TO_SQUARED, 4.0), (TO_ABSOLUTE, 2.0**0.5)])
def test_labels_that_wait_are_converted_where_the_loss_of_each_row_is_known(losses: LossHistory, now: float) -> None:
    waiting = replace(SETTINGS, label_delay=DAY)
    health = labels((A, [2.0]), (A, [1.0, 4.0]), (B, [3.0, 1.0, 2.0]))
    # Of a larger row of health only some losses are stored, and of an older one none.
    health.losses[2] = np.array([1.0, 3.0])
    shard = step(ShardState.empty(), waiting, champion(A, REFERENCE), champion(B, REFERENCE), health=health)
    rows = step(shard, replace(waiting, losses=losses), health=NOTHING).pending.rows
    found: dict[int, Any] = dict(zip(rows.labelled.tolist(), zip(rows.loss, rows.losses, strict=True), strict=True))
    assert found[1] == (pytest.approx(now), None)
    other = (lambda loss: loss**2) if losses is TO_SQUARED else (lambda loss: loss**0.5)
    assert found[2][0] == pytest.approx(other(1.0) + other(4.0))
    assert found[2][1].tolist() == pytest.approx([other(1.0), other(4.0)])
    assert np.isnan(found[3][0])
    matured = step(shard, replace(waiting, losses=losses), health=labels((A, [1.0]), at=START + 3 * DAY))
    rows_of_b = matured.groups.keys.index(B)
    assert (matured.groups["labelled"][rows_of_b], matured.groups["champion_rows"][rows_of_b]) == (3, 0)


def test_a_state_without_a_name_has_the_losses_that_the_fleet_was_made_with() -> None:
    shard = begun([1.0])
    assert shard.loss_name == ""
    same = replace(SETTINGS, losses=LossHistory("absolute"))
    assert step(shard, same, health=NOTHING).encoded_evidence is shard.encoded_evidence
