"""The judge from what is stored, against the judge that watched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champions.promotion import Promotion
from spinney.core.migration import LossHistory
from spinney.core.migration.loss_function_history import LossChange
from spinney.core.staleness.group_state import NEVER
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.judge import (
    DecisionRecord,
    JudgeInput,
    JudgeSettings,
    ShardState,
    UnfittedAttempt,
    advance,
    judge,
)
from spinney.core.staleness.policies import ErrorRise, MaxAge, NewGroup, NewRows
from spinney.core.staleness.reconstructed_state import reconstruct_state

HOUR = 3_600_000_000
START = 1_400_000_000_000_000
GROUPS = ('["a"]', '["b"]', '["c"]')
SETTINGS = JudgeSettings(
    policies=(NewGroup(20), ErrorRise(timedelta(days=365)), NewRows(200), MaxAge(timedelta(days=7))),
    min_rows=20, label_delay=2 * HOUR, patience=365 * 24 * HOUR, is_wall_clock=False,
)  # fmt: skip
COLUMNS = ["group_key", "model_id", "labelled", "loss", "last_event_time"]


def health(rows: list[tuple[Any, ...]]) -> HealthRows:
    types = {"group_key": object, "model_id": object, "labelled": "int64", "loss": "float64"}
    return HealthRows.of_frame(pd.DataFrame(rows, columns=COLUMNS).astype({**types, "last_event_time": "int64"}))


def attempt(key: str, hour: int, outcome: str, n: int) -> DecisionRecord | UnfittedAttempt:
    at = START + (hour - 1) * HOUR  # the judge hears of a round when the next batch comes
    if outcome in ("failed", "too_few_rows"):
        return UnfittedAttempt(key, outcome, 7, at, at)
    return DecisionRecord(key, Promotion(0, f"{key}{n}", outcome, at - HOUR, at, at), True, at, 1.0, 4.0)


OUTCOMES = ("promoted", "unproven", "refused", "kept", "failed", "too_few_rows")
ALIKE = (
    "champion_id", "attempted_at", "retry_at", "champion_rows", "wait_rows", "refusals", "failures", "fit_ms",
    "recent_at", "recent_from",
)  # fmt: skip


@dataclass
class Late:
    """Labels of a group that came after an attempt, of events that were mature at it: only who watched counts them.

    new: since the last attempt that settled something. missing: since any that found too few rows.
    """

    new: int = 0
    missing: int = 0
    settled_at: int = NEVER
    few_at: int = NEVER

    def attempted(self, clock: int, what: str) -> None:
        if what != "failed":
            self.new, self.settled_at = 0, clock
        if what == "too_few_rows":
            self.few_at = clock

    def came(self, event_time: int, rows: int) -> None:
        mature_at = event_time + 2 * HOUR
        self.new += rows if mature_at <= self.settled_at else 0
        self.missing += rows if mature_at <= self.few_at else 0


happened_to = st.tuples(
    st.sampled_from(GROUPS), st.sampled_from([*OUTCOMES, *["health"] * 4]), st.integers(1, 40), st.integers(0, 8)
)
happenings = st.lists(happened_to, max_size=30)


@given(happenings)
def test_all_at_once_is_known_what_was_known_hour_by_hour_but_for_labels_that_came_late(
    happened: list[tuple[str, str, int, int]],
) -> None:
    watched, reported, deltas, champions = ShardState.empty(), [], [], dict.fromkeys(GROUPS, "")
    late = {key: Late() for key in GROUPS}
    for hour, (key, what, rows, back) in enumerate(happened):
        at = START + hour * HOUR
        mine: list[DecisionRecord | UnfittedAttempt] = []
        seen = []
        if what == "health":
            # Events of this hour or some before, answered by who is champion now, mature two hours after they were.
            seen = [(key, champions[key] or None, rows, 1.5 * rows, at - back * HOUR)]
            late[key].came(at - back * HOUR, rows)
        else:
            late[key].attempted(at - HOUR, what)
            mine = [attempt(key, hour, what, hour)]
            if what in ("promoted", "unproven"):
                champions[key] = f"{key}{hour}"
        clock = (None, None, 0, 0.0, at)
        news = JudgeInput(
            [each for each in mine if isinstance(each, DecisionRecord)],
            [each for each in mine if isinstance(each, UnfittedAttempt)],
            health([*seen, clock]),
        )
        watched = advance(watched, news, SETTINGS, at)
        reported += mine
        deltas += [*seen, clock]
    decided = [each for each in reported if isinstance(each, DecisionRecord)]
    unfitted = [each for each in reported if isinstance(each, UnfittedAttempt)]
    now = START + len(happened) * HOUR
    found = reconstruct_state(JudgeInput(decided, unfitted, health(deltas[::-1])), SETTINGS, START, now)
    assert found.clock == (watched.clock if happened else START)
    for key in GROUPS:
        if key not in watched.groups.keys:
            assert key not in found.groups.keys
            continue
        mine, other = (int(shard.groups.positions_of([key])[0]) for shard in (watched, found))
        for name in ALIKE:
            np.testing.assert_array_equal(
                found.groups[name][other], watched.groups[name][mine], err_msg=f"{key} {name}"
            )
        assert watched.groups["rows_since"][mine] == found.groups["rows_since"][other] + late[key].new
        assert 0 <= watched.groups["labelled"][mine] - found.groups["labelled"][other] <= late[key].missing
        for name in ("recent_weight", "recent_loss", "recent_labels", "baseline"):
            np.testing.assert_allclose(found.groups[name][other], watched.groups[name][mine])


def test_what_matured_after_a_report_of_too_few_rows_is_added_to_it_group_by_group() -> None:
    few = [
        UnfittedAttempt(key, "too_few_rows", rows, START + hour * HOUR, START + hour * HOUR)
        for key, rows, hour in ((GROUPS[0], 5, 10), (GROUPS[1], 9, 10), (GROUPS[0], 12, 20), (GROUPS[2], 1, 20))
    ]
    matured = [(GROUPS[0], 9, 1), (GROUPS[0], 10, 2), (GROUPS[0], 15, 9), (GROUPS[1], 11, 4), (GROUPS[0], 21, 1)]
    deltas = health([(key, None, rows, 1.0, START + (hour - 2) * HOUR) for key, hour, rows in matured])
    found = reconstruct_state(JudgeInput([], few, deltas), SETTINGS, START + 30 * HOUR, START).groups
    # a: 5 + 9 + 1 by the first report, 12 + 1 by the second, 13 in all; b: 9 + 4; c: 1, and no label ever came.
    assert found["labelled"][found.positions_of(GROUPS)].tolist() == [15, 13, 1]


def test_a_label_that_came_after_an_attempt_of_an_event_mature_at_it_is_no_new_row_in_hindsight() -> None:
    decided = [DecisionRecord(GROUPS[0], Promotion(0, "m", "promoted", START, START, START), True, START, 1.0, 4.0)]
    came = health([(GROUPS[0], "m", 500, 500.0, START - 5 * HOUR)])
    before = advance(ShardState.empty(), JudgeInput(decided, [], health([])), SETTINGS, START)
    watched = advance(before, JudgeInput([], [], came), SETTINGS, START)
    found = reconstruct_state(JudgeInput(decided, [], came), SETTINGS, START, START)
    assert (watched.groups["rows_since"].tolist(), found.groups["rows_since"].tolist()) == ([500], [0])


def test_an_old_model_and_many_new_rows_are_found_due_and_a_fresh_one_is_not() -> None:
    decided = [
        DecisionRecord(key, Promotion(0, f"m{key}", "promoted", at, at, at), True, at, 1.0, nan)
        for key, at in ((GROUPS[0], START), (GROUPS[1], START + 150 * HOUR), (GROUPS[2], START + 150 * HOUR))
    ]
    deltas = health(
        [(GROUPS[1], f"m{GROUPS[1]}", 200, 200.0, START + 151 * HOUR), (GROUPS[2], None, 500, 1.0, START + 2 * HOUR)]
    )
    clock = START + 24 * 7 * HOUR
    found = judge(reconstruct_state(JudgeInput(decided, [], deltas), SETTINGS, clock, clock), SETTINGS, clock)
    due = {row["group_key"]: row["policy"] for row in found if row["decision"] == "fit"}
    assert due == {GROUPS[0]: "max_age", GROUPS[1]: "new_rows"}


def test_the_fleets_clock_ages_a_shard_that_is_quiet() -> None:
    decided = [DecisionRecord(GROUPS[0], Promotion(0, "m", "promoted", START, START, START), True, START, 1.0, 4.0)]
    news = JudgeInput(decided, [], health([]))
    assert reconstruct_state(news, SETTINGS, START, START).clock == START
    assert reconstruct_state(news, SETTINGS, START + HOUR, START).clock == START + HOUR
    assert (
        reconstruct_state(news, replace(SETTINGS, is_wall_clock=True), START, START + 5 * HOUR).clock
        == START + 5 * HOUR
    )


def test_after_a_change_of_the_loss_the_state_names_the_present_one_and_its_input_is_not_converted_again() -> None:
    promoted = Promotion(0, "m", "promoted", START, START, START)
    decided = [DecisionRecord(GROUPS[0], promoted, True, START, 4.0, 4.0, heldout_losses=(1.0, 4.0, 9.0))]
    news = JudgeInput(decided, [], health([(GROUPS[0], "m", 1, 16.0, START)]))
    change = LossChange(datetime(2024, 5, 1, tzinfo=UTC), "absolute", "squared")
    settings = replace(SETTINGS, losses=LossHistory("squared", (change,)))
    found, never_changed = (reconstruct_state(news, each, START + 24 * HOUR, START) for each in (settings, SETTINGS))
    assert found.loss_name == "squared"
    assert found.sections[:-1] == never_changed.sections[:-1]
