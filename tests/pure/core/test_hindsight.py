"""The judge from what is stored, against the judge that watched."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champion import Promotion
from spinney.core.hindsight import hindsight
from spinney.core.judge import Decided, News, Shard, Terms, Unfitted, advance, judge
from spinney.core.staleness import ErrorRise, MaxAge, NewGroup, NewRows

HOUR = 3_600_000_000
START = 1_400_000_000_000_000
GROUPS = ('["a"]', '["b"]', '["c"]')
TERMS = Terms(
    policies=(NewGroup(20), ErrorRise(2.0, 30), NewRows(200), MaxAge(timedelta(days=7))),
    min_rows=20, label_delay=2 * HOUR, memory=30, wall=False,
)  # fmt: skip
COLUMNS = ["group_key", "model_id", "labelled", "loss", "last_event_time"]


def health(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    types = {"group_key": object, "model_id": object, "labelled": "int64", "loss": "float64"}
    return pd.DataFrame(rows, columns=COLUMNS).astype({**types, "last_event_time": "int64"})


def attempt(key: str, hour: int, outcome: str, n: int) -> Decided | Unfitted:
    at = START + (hour - 1) * HOUR  # the judge hears of a round when the next batch comes
    if outcome in ("failed", "too_few_rows"):
        return Unfitted(key, outcome, 7, at, at)
    return Decided(key, Promotion(0, f"{key}{n}", outcome, at - HOUR, at, at), True, at, 1.0, 4.0)


OUTCOMES = ("promoted", "unproven", "refused", "kept", "failed", "too_few_rows")
ALIKE = (
    "champion_id", "attempted_at", "retry_at", "rows_since", "labelled", "champion_rows", "wait_rows", "refusals",
    "failures", "fit_ms",
)  # fmt: skip
happened_to = st.tuples(st.sampled_from(GROUPS), st.sampled_from([*OUTCOMES, *["health"] * 4]), st.integers(1, 40))
happenings = st.lists(happened_to, max_size=30)


@given(happenings)
def test_all_at_once_is_known_what_was_known_hour_by_hour(happened: list[tuple[str, str, int]]) -> None:
    watched, told, deltas, champions = Shard.empty(), [], [], dict.fromkeys(GROUPS, "")
    for hour, (key, what, rows) in enumerate(happened):
        at = START + hour * HOUR
        mine: list[Decided | Unfitted] = []
        seen = []
        if what == "health":
            # Events of this very hour, answered by who was champion then, mature two hours later.
            seen = [(key, champions[key] or None, rows, 1.5 * rows, at)]
        else:
            mine = [attempt(key, hour, what, hour)]
            if what in ("promoted", "unproven"):
                champions[key] = f"{key}{hour}"
        clock = (None, None, 0, 0.0, at)
        news = News(
            [each for each in mine if isinstance(each, Decided)],
            [each for each in mine if isinstance(each, Unfitted)],
            health([*seen, clock]),
        )
        watched = advance(watched, news, TERMS, at)
        told += mine
        deltas += [*seen, clock]
    decided = [each for each in told if isinstance(each, Decided)]
    unfitted = [each for each in told if isinstance(each, Unfitted)]
    now = START + len(happened) * HOUR
    found = hindsight(News(decided, unfitted, health(deltas[::-1])), TERMS, START, now)
    assert found.clock == (watched.clock if happened else START)
    for key in GROUPS:
        if key not in watched.groups.keys:
            assert key not in found.groups.keys
            continue
        mine, other = (int(shard.groups.rows_of([key])[0]) for shard in (watched, found))
        for name in ALIKE:
            np.testing.assert_array_equal(
                found.groups[name][other], watched.groups[name][mine], err_msg=f"{key} {name}"
            )
        for name in ("recent_weight", "recent_loss", "baseline"):
            np.testing.assert_allclose(found.groups[name][other], watched.groups[name][mine])


def test_an_old_model_and_many_new_rows_are_found_due_and_a_fresh_one_is_not() -> None:
    decided = [
        Decided(key, Promotion(0, f"m{key}", "promoted", at, at, at), True, at, 1.0, nan)
        for key, at in ((GROUPS[0], START), (GROUPS[1], START + 150 * HOUR), (GROUPS[2], START + 150 * HOUR))
    ]
    deltas = health(
        [(GROUPS[1], f"m{GROUPS[1]}", 200, 200.0, START + 151 * HOUR), (GROUPS[2], None, 500, 1.0, START + 2 * HOUR)]
    )
    clock = START + 24 * 7 * HOUR
    found = judge(hindsight(News(decided, [], deltas), TERMS, clock, clock), TERMS, clock)
    due = {row["group_key"]: row["policy"] for row in found if row["decision"] == "fit"}
    assert due == {GROUPS[0]: "max_age", GROUPS[1]: "new_rows"}


def test_the_fleets_clock_ages_a_shard_that_is_quiet() -> None:
    decided = [Decided(GROUPS[0], Promotion(0, "m", "promoted", START, START, START), True, START, 1.0, 4.0)]
    news = News(decided, [], health([]))
    assert hindsight(news, TERMS, START, START).clock == START
    assert hindsight(news, TERMS, START + HOUR, START).clock == START + HOUR
    assert hindsight(news, replace(TERMS, wall=True), START, START + 5 * HOUR).clock == START + 5 * HOUR
